import type { MediaDevice } from '../../machine/block-backend.ts'
import type { Drive } from '../../machine/drive.ts'
import { flag, int, parseState, u8 } from '../../machine/state.ts'
import { transferModes } from './disk.ts'
import { POWER_ON_MODES, identifyPacketDevice } from './identify.ts'
import type { Identity, TransferModes } from './identify.ts'
import { Medium } from './medium.ts'
import * as packet from './packet.ts'
import { ERROR_ABRT, TaskFile } from './task-file.ts'
import type { TaskFileState } from './task-file.ts'
import { answer, transfer } from './transfer.ts'
import type { Transfer } from './transfer.ts'
import { Tray } from './tray.ts'
import type { TrayState } from './tray.ts'
import { DONE } from './unit.ts'
import type { AtaUnit, Outcome } from './unit.ts'
import { untold } from '../unknown-command.ts'
import type { UnknownCommand } from '../unknown-command.ts'

const PACKET_BYTES = 12
const SECTOR = 2048
const LOAD_SECTORS = 16
const FEATURE_DMA = 0x01
const SIGNATURE_MID = 0x14
const SIGNATURE_HIGH = 0xeb
const ABORTED: Outcome = { kind: 'error', error: ERROR_ABRT }

export interface CdromState extends TrayState {
  file: TaskFileState
  key: number
  code: number
  qualifier: number
  dma: boolean
  byteLimit: number
  multiword: number
  ultra: number
}

/** A CD or DVD drive with the commands of QEMU's `ide-cd` (ATA/ATAPI-6, MMC-5). */
export class AtapiCdrom implements AtaUnit, MediaDevice {
  readonly file: TaskFile = new TaskFile()
  onUnknown: UnknownCommand = untold
  readonly isPacketDevice = true
  readonly hasTray = true
  onTrayMoved: (open: boolean) => void = () => {}
  readonly #identity: Identity
  #medium: Medium | undefined
  #key = packet.SENSE_NONE
  #code = 0
  #qualifier = 0
  readonly #tray = new Tray()
  /** How the packet that is being received wants its data. */
  #dma = false
  #byteLimit = 0
  #modes: TransferModes = POWER_ON_MODES

  constructor(identity: Identity) {
    this.#identity = identity
  }

  get isTrayOpen(): boolean {
    return this.#tray.isOpen
  }

  get isLocked(): boolean {
    return this.#tray.isLocked
  }

  setMedium(medium: Drive | undefined): void {
    this.#medium = medium && new Medium(medium)
  }

  moveTray(open: boolean): void {
    this.#tray.move(open, this.#discSectors > 0, true)
  }

  requestEject(force: boolean): void {
    this.#tray.requestEject(force)
  }

  reset(hard: boolean): void {
    this.file.sign(SIGNATURE_MID, SIGNATURE_HIGH)
    if (!hard) return
    this.#setSense(packet.SENSE_NONE, 0)
    this.#tray.reset()
    this.#dma = false
    this.#byteLimit = 0
    this.#modes = POWER_ON_MODES
  }

  execute(command: number): Outcome {
    const { file } = this
    switch (command) {
      case 0xa0:
        return this.#packet()
      case 0xa1: {
        const data = identifyPacketDevice({ ...this.#identity, modes: this.#modes })
        return { kind: 'transfer', transfer: answer(data) }
      }
      case 0xef: {
        const modes = file.feature === 0x03 ? transferModes(file.count) : undefined
        if (modes !== undefined) this.#modes = modes
        return modes === undefined ? ABORTED : DONE
      }
      case 0xec:
      case 0x20:
        // These show drivers of disks that this is none.
        file.sign(SIGNATURE_MID, SIGNATURE_HIGH)
        return ABORTED
      case 0xe5:
        file.count = 0xff
        return DONE
      case 0xe0:
      case 0xe1:
      case 0xe2:
      case 0xe3:
      case 0xe6:
      case 0xe7:
        return DONE
      default:
        this.onUnknown('ATA command', command)
        return ABORTED
    }
  }

  received({ data }: Transfer): Outcome {
    return this.#execute(data)
  }

  readNow(position: number, buffers: readonly Uint8Array[]): boolean {
    return this.#medium?.readNow(position, buffers) ?? false
  }

  read(position: number, iov: readonly Uint8Array[]): Promise<void> {
    return this.#medium?.drive.readv(position, iov) ?? Promise.reject(new Error('no medium'))
  }

  write(): Promise<void> {
    return Promise.reject(new Error('a CD cannot be written'))
  }

  flush(): Promise<void> {
    return Promise.resolve()
  }

  failed(): number {
    this.#setSense(packet.MEDIUM_ERROR, packet.ASC_UNRECOVERED_READ)
    return (packet.MEDIUM_ERROR << 4) | ERROR_ABRT
  }

  save(): CdromState {
    return {
      file: this.file.save(),
      key: this.#key,
      code: this.#code,
      qualifier: this.#qualifier,
      ...this.#tray.save(),
      dma: this.#dma,
      byteLimit: this.#byteLimit,
      multiword: this.#modes.multiword ?? -1,
      ultra: this.#modes.ultra ?? -1,
    }
  }

  load(state: unknown): void {
    const saved = parseState<Omit<CdromState, 'file' | keyof TrayState>>('ide-cd', state, {
      key: int(0, 15),
      code: u8,
      qualifier: u8,
      dma: flag,
      byteLimit: int(0, 0xffff),
      multiword: int(-1, 2),
      ultra: int(-1, 5),
    })
    this.file.load((state as CdromState).file)
    this.#setSense(saved.key, saved.code, saved.qualifier)
    this.#tray.load(state)
    this.#dma = saved.dma
    this.#byteLimit = saved.byteLimit
    this.#modes = {
      ...(saved.multiword < 0 ? {} : { multiword: saved.multiword }),
      ...(saved.ultra < 0 ? {} : { ultra: saved.ultra }),
    }
  }

  /** PACKET: asks for the bytes of a command, and keeps how their answer is to come. */
  #packet(): Outcome {
    const { file } = this
    this.#dma = (file.feature & FEATURE_DMA) !== 0
    const limit = file.high * 0x100 + file.mid
    // An odd limit would leave half a word at the data port.
    this.#byteLimit = limit === 0xffff ? 0xfffe : limit & ~1
    return {
      kind: 'transfer',
      transfer: transfer({
        source: 'data',
        direction: 'out',
        packet: true,
        length: PACKET_BYTES,
        data: new Uint8Array(PACKET_BYTES),
      }),
    }
  }

  #execute(cdb: Uint8Array): Outcome {
    const view = new DataView(cdb.buffer, cdb.byteOffset, cdb.length)
    const code = cdb[0]!
    // INQUIRY, REQUEST SENSE, events and the configuration are answered whatever has happened.
    const sense = packet.sense(this.#key, this.#code, this.#qualifier)
    if (code === 0x03) {
      this.#setSense(packet.SENSE_NONE, 0)
      return this.#answer(sense, cdb[4]!)
    }
    if (code === 0x12) {
      if ((cdb[1]! & 0x03) !== 0 || cdb[2] !== 0) return this.#invalidField()
      return this.#answer(
        packet.inquiry('QEMU', this.#identity.model, this.#identity.version),
        cdb[4]!,
      )
    }
    if (code === 0x4a) return this.#eventStatus(cdb)
    if (code !== 0x46 && this.#hasMedium) {
      const change = this.#tray.takeChange()
      if (change === 'was out') return this.#fail(packet.NOT_READY, packet.ASC_NO_MEDIUM, 1)
      if (change === 'is another') {
        return this.#fail(packet.UNIT_ATTENTION, packet.ASC_MEDIUM_MAY_HAVE_CHANGED)
      }
    }
    this.#setSense(packet.SENSE_NONE, 0)
    switch (code) {
      case 0x00:
        return this.#withMedium(() => DONE)
      case 0x1b:
        return this.#startStop(cdb[4]!)
      case 0x1e:
        this.#tray.isLocked = (cdb[4]! & 1) !== 0
        return DONE
      case 0x25:
        return this.#withMedium(() => this.#answer(packet.capacity(this.#discSectors), 8))
      case 0x28:
        return this.#readSectors(view.getUint32(2), view.getUint16(7))
      case 0xa8:
        return this.#readSectors(view.getUint32(2), view.getUint32(6))
      case 0xbe:
        return this.#readCd(cdb, view)
      case 0x2b:
        return this.#withMedium(() =>
          view.getUint32(2) < this.#discSectors ? DONE : this.#outOfRange(),
        )
      case 0x43:
        return this.#withMedium(() => this.#readToc(cdb, view))
      case 0x46: {
        const sectors = this.#hasMedium ? this.#discSectors : undefined
        return this.#answer(packet.configuration(sectors), view.getUint16(7))
      }
      case 0x51:
        return this.#withMedium(() => this.#answer(packet.discInformation(), view.getUint16(7)))
      case 0x1a:
        return this.#modeSense(cdb[2]!, cdb[4]!, 4)
      case 0x5a:
        return this.#modeSense(cdb[2]!, view.getUint16(7), 8)
      case 0xbb:
      case 0xb6:
        return DONE
      case 0xbd:
        return this.#answer(Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0), view.getUint16(8))
      default:
        this.onUnknown('packet command', code)
        return this.#fail(packet.ILLEGAL_REQUEST, packet.ASC_INVALID_COMMAND)
    }
  }

  get #hasMedium(): boolean {
    return this.#discSectors > 0 && !this.#tray.isOpen
  }

  get #discSectors(): number {
    return Math.floor((this.#medium?.drive.sizeBytes ?? 0) / SECTOR)
  }

  #withMedium(command: () => Outcome): Outcome {
    if (this.#hasMedium) return command()
    return this.#fail(packet.NOT_READY, packet.ASC_NO_MEDIUM, this.#tray.isOpen ? 2 : 1)
  }

  #readSectors(lba: number, count: number): Outcome {
    return this.#withMedium(() => {
      if (lba + count > this.#discSectors) return this.#outOfRange()
      if (count === 0) return DONE
      // What one command moves is bounded: nobody asks for more than 65536 sectors at a time.
      if (count > 0x1_0000) return this.#invalidField()
      const limit = this.#byteLimit
      if (!this.#dma && limit === 0) return ABORTED
      const whole = Math.floor(limit / SECTOR) * SECTOR
      const loadBytes = Math.min(Math.max(whole, SECTOR), LOAD_SECTORS * SECTOR)
      return {
        kind: 'transfer',
        transfer: transfer({
          source: 'medium',
          direction: 'in',
          dma: this.#dma,
          packet: true,
          position: lba * SECTOR,
          length: count * SECTOR,
          loadBytes,
          drqBytes: this.#dma ? loadBytes : Math.min(limit, loadBytes),
        }),
      }
    })
  }

  /** READ CD of whole data sectors; raw ones are not on the medium. */
  #readCd(cdb: Uint8Array, view: DataView): Outcome {
    const count = view.getUint32(5) & 0xff_ffff
    const parts = cdb[9]! & 0xf8
    if (parts === 0 || count === 0) return this.#withMedium(() => DONE)
    if (parts !== 0x10) return this.#invalidField()
    return this.#readSectors(view.getUint32(2), count)
  }

  #readToc(cdb: Uint8Array, view: DataView): Outcome {
    const length = view.getUint16(7)
    // Old drives take the format from the control byte.
    const format = cdb[2]! & 0x0f || cdb[9]! >> 6
    const data = packet.tableOfContents(format, {
      sectors: this.#discSectors,
      msf: (cdb[1]! & 0x02) !== 0,
      startTrack: cdb[6]!,
    })
    return data === undefined ? this.#invalidField() : this.#answer(data, length)
  }

  #modeSense(page: number, limit: number, header: 4 | 8): Outcome {
    const control = page >> 6
    if (control === 3) return this.#fail(packet.ILLEGAL_REQUEST, packet.ASC_SAVING_UNSUPPORTED)
    const mediumType = this.#tray.isOpen ? 0x71 : this.#hasMedium ? 0x01 : 0x70
    const data = packet.modePages(page & 0x3f, {
      header,
      mediumType,
      locked: this.#tray.isLocked,
      changeable: control === 1,
    })
    return data === undefined ? this.#invalidField() : this.#answer(data, limit)
  }

  #startStop(flags: number): Outcome {
    if ((flags & 0x02) === 0) return DONE
    const open = (flags & 0x01) === 0
    if (open && this.#tray.isLocked) {
      const key = this.#hasMedium ? packet.ILLEGAL_REQUEST : packet.NOT_READY
      return this.#fail(key, packet.ASC_REMOVAL_PREVENTED, 2)
    }
    if (open !== this.#tray.isOpen) {
      this.#tray.move(open, this.#discSectors > 0, false)
      this.onTrayMoved(open)
    }
    return DONE
  }

  /** GET EVENT STATUS NOTIFICATION of the media class, polled (MMC-5, 6.7). */
  #eventStatus(cdb: Uint8Array): Outcome {
    const limit = cdb[7]! * 0x100 + cdb[8]!
    if ((cdb[1]! & 0x01) === 0) return this.#invalidField()
    if ((cdb[4]! & 0x10) === 0) return this.#answer(Uint8Array.of(0, 0, 0x80, 0x10), limit)
    const status = (this.#tray.isOpen ? 0x01 : 0) | (this.#hasMedium ? 0x02 : 0)
    const data = Uint8Array.of(0, 4, 0x04, 0x10, this.#tray.takeEvent(), status, 0, 0)
    return this.#answer(data, limit)
  }

  /** An answer, cut to what the host has room for. */
  #answer(data: Uint8Array, limit: number): Outcome {
    const bytes = data.subarray(0, limit)
    if (bytes.length === 0) return DONE
    if (!this.#dma && this.#byteLimit === 0) return ABORTED
    const drqBytes = this.#dma ? bytes.length : Math.min(this.#byteLimit, bytes.length)
    return {
      kind: 'transfer',
      transfer: answer(bytes.slice(), { dma: this.#dma, packet: true, drqBytes }),
    }
  }

  #invalidField(): Outcome {
    return this.#fail(packet.ILLEGAL_REQUEST, packet.ASC_INVALID_FIELD)
  }

  #outOfRange(): Outcome {
    return this.#fail(packet.ILLEGAL_REQUEST, packet.ASC_LBA_OUT_OF_RANGE)
  }

  #fail(key: number, code: number, qualifier = 0): Outcome {
    this.#setSense(key, code, qualifier)
    return { kind: 'error', error: (key << 4) | ERROR_ABRT }
  }

  #setSense(key: number, code: number, qualifier = 0): void {
    this.#key = key
    this.#code = code
    this.#qualifier = qualifier
  }
}
