import type { Drive } from '../../machine/drive.ts'
import { flag, int, parseState, u8 } from '../../machine/state.ts'
import type { Geometry } from './geometry.ts'
import { MAX_MULTIPLE, POWER_ON_MODES, identifyDisk } from './identify.ts'
import type { Identity, TransferModes } from './identify.ts'
import { Medium } from './medium.ts'
import { Smart } from './smart.ts'
import { ERROR_ABRT, ERROR_IDNF, ERROR_UNC, TaskFile } from './task-file.ts'
import type { TaskFileState } from './task-file.ts'
import { answer, transfer } from './transfer.ts'
import type { Transfer } from './transfer.ts'
import { DONE } from './unit.ts'
import type { AtaUnit, Outcome } from './unit.ts'
import { untold } from '../unknown-command.ts'
import type { UnknownCommand } from '../unknown-command.ts'

const SECTOR = 512
const ABORTED: Outcome = { kind: 'error', error: ERROR_ABRT }
const NOT_FOUND: Outcome = { kind: 'error', error: ERROR_IDNF }
const TRIM_ENTRY_BYTES = 8

export interface DiskOptions extends Identity {
  drive: Drive
  geometry: Geometry
  /** DATA SET MANAGEMENT is offered. */
  trim: boolean
  /** 0 where it is unknown, 1 for none. */
  rotationRate: number
  wwn: bigint
}

export interface DiskState {
  file: TaskFileState
  multiple: number
  writeCache: boolean
  smart: boolean
  heads: number
  sectors: number
  /** -1 for none. */
  multiword: number
  ultra: number
}

/** A data command: how it addresses, and how its bytes travel. */
interface Access {
  direction: 'in' | 'out'
  lba48: boolean
  dma?: boolean
  multiple?: boolean
  flush?: boolean
}

const ACCESSES: ReadonlyMap<number, Access> = new Map<number, Access>([
  [0x20, { direction: 'in', lba48: false }],
  [0x21, { direction: 'in', lba48: false }],
  [0x24, { direction: 'in', lba48: true }],
  [0x25, { direction: 'in', lba48: true, dma: true }],
  [0x29, { direction: 'in', lba48: true, multiple: true }],
  [0x30, { direction: 'out', lba48: false }],
  [0x31, { direction: 'out', lba48: false }],
  [0x34, { direction: 'out', lba48: true }],
  [0x35, { direction: 'out', lba48: true, dma: true }],
  [0x39, { direction: 'out', lba48: true, multiple: true }],
  [0x3c, { direction: 'out', lba48: false }],
  [0x3d, { direction: 'out', lba48: true, dma: true, flush: true }],
  [0xc4, { direction: 'in', lba48: false, multiple: true }],
  [0xc5, { direction: 'out', lba48: false, multiple: true }],
  [0xc8, { direction: 'in', lba48: false, dma: true }],
  [0xc9, { direction: 'in', lba48: false, dma: true }],
  [0xca, { direction: 'out', lba48: false, dma: true }],
  [0xcb, { direction: 'out', lba48: false, dma: true }],
  [0xce, { direction: 'out', lba48: true, multiple: true, flush: true }],
])

/** An ATA disk with the commands of QEMU's `ide-hd` (ATA/ATAPI-6). */
export class AtaDisk implements AtaUnit {
  readonly file: TaskFile = new TaskFile()
  onUnknown: UnknownCommand = untold
  readonly isPacketDevice = false
  readonly #options: DiskOptions
  readonly #medium: Medium
  readonly #drive: Drive
  readonly #smart = new Smart()
  #multiple = MAX_MULTIPLE
  #writeCache = true
  #heads: number
  #trackSectors: number
  #modes: TransferModes = POWER_ON_MODES

  constructor(options: DiskOptions) {
    this.#options = options
    this.#drive = options.drive
    this.#medium = new Medium(options.drive)
    // Drivers look at the size when they ask what the disk is.
    options.drive.onResized = () => {}
    this.#heads = options.geometry.heads
    this.#trackSectors = options.geometry.sectors
  }

  get #sectors(): number {
    return Math.floor(this.#drive.sizeBytes / SECTOR)
  }

  get geometry(): Geometry {
    return this.#options.geometry
  }

  reset(hard: boolean): void {
    this.file.sign(0, 0)
    if (!hard) return
    this.#multiple = MAX_MULTIPLE
    this.#writeCache = true
    this.#smart.enabled = true
    this.#heads = this.#options.geometry.heads
    this.#trackSectors = this.#options.geometry.sectors
    this.#modes = POWER_ON_MODES
  }

  execute(command: number): Outcome {
    const access = ACCESSES.get(command)
    if (access !== undefined) return this.#access(access)
    // RECALIBRATE and SEEK have sixteen codes each.
    if (command >> 4 === 1) return DONE
    if (command >> 4 === 7) return this.#seek()
    switch (command) {
      case 0x06:
        return this.#dataSetManagement()
      case 0x27:
      case 0xf8:
        return this.#nativeMax(command === 0x27)
      case 0x40:
      case 0x41:
      case 0x42:
        return this.#range(command === 0x42) === undefined ? NOT_FOUND : DONE
      case 0x91:
        this.#heads = (this.file.device & 0x0f) + 1
        this.#trackSectors = this.file.count
        return DONE
      case 0xb0:
        return this.#smart.execute(this.file, this.onUnknown)
      case 0xc6:
        return this.#setMultiple()
      case 0xe7:
      case 0xea:
        return { kind: 'work', work: this.#drive.flush() }
      case 0xe5:
      case 0x98:
        this.file.count = 0xff
        return DONE
      case 0x94:
      case 0x95:
      case 0x96:
      case 0x97:
      case 0x99:
      case 0xe0:
      case 0xe1:
      case 0xe2:
      case 0xe3:
      case 0xe6:
        return DONE
      case 0xec:
        return { kind: 'transfer', transfer: answer(this.#identify()) }
      case 0xef:
        return this.#setFeatures()
      default:
        this.onUnknown('ATA command', command)
        return ABORTED
    }
  }

  received({ data }: Transfer): Outcome {
    return { kind: 'work', work: this.#trim(data) }
  }

  readNow(position: number, buffers: readonly Uint8Array[]): boolean {
    return this.#medium.readNow(position, buffers)
  }

  read(position: number, iov: readonly Uint8Array[]): Promise<void> {
    return this.#drive.readv(position, iov)
  }

  async write(position: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.#drive.writev(position, iov)
    if (!this.#writeCache) await this.#drive.flush()
  }

  flush(): Promise<void> {
    return this.#drive.flush()
  }

  failed(transfer: Transfer | undefined): number {
    return transfer?.direction === 'in' ? ERROR_UNC : ERROR_ABRT
  }

  save(): DiskState {
    return {
      file: this.file.save(),
      multiple: this.#multiple,
      writeCache: this.#writeCache,
      smart: this.#smart.enabled,
      heads: this.#heads,
      sectors: this.#trackSectors,
      multiword: this.#modes.multiword ?? -1,
      ultra: this.#modes.ultra ?? -1,
    }
  }

  load(state: unknown): void {
    const saved = parseState<Omit<DiskState, 'file'>>('ide-hd', state, {
      multiple: int(0, MAX_MULTIPLE),
      writeCache: flag,
      smart: flag,
      heads: int(1, 16),
      sectors: u8,
      multiword: int(-1, 2),
      ultra: int(-1, 5),
    })
    this.file.load((state as DiskState).file)
    this.#multiple = saved.multiple
    this.#writeCache = saved.writeCache
    this.#smart.enabled = saved.smart
    this.#heads = saved.heads
    this.#trackSectors = saved.sectors
    this.#modes = {
      ...(saved.multiword < 0 ? {} : { multiword: saved.multiword }),
      ...(saved.ultra < 0 ? {} : { ultra: saved.ultra }),
    }
  }

  #access(access: Access): Outcome {
    const { direction, lba48, dma = false, multiple = false, flush = false } = access
    if (multiple && this.#multiple === 0) return ABORTED
    if (direction === 'out' && this.#drive.readOnly) return ABORTED
    const range = this.#range(lba48)
    if (range === undefined) {
      this.#drive.refused?.(direction === 'in' ? 'read' : 'write')
      return NOT_FOUND
    }
    const length = range.count * SECTOR
    const block = Math.min(length, (multiple ? this.#multiple : 1) * SECTOR)
    return {
      kind: 'transfer',
      transfer: transfer({
        source: 'medium',
        direction,
        dma,
        flush,
        length,
        position: range.lba * SECTOR,
        loadBytes: block,
        drqBytes: block,
      }),
    }
  }

  /** The sectors that the registers name; undefined where the disk has none. */
  #range(lba48: boolean): { lba: number; count: number } | undefined {
    const { file } = this
    const lba = this.#address(lba48)
    const count = lba48 ? file.previousCount * 0x100 + file.count || 0x1_0000 : file.count || 0x100
    return lba >= 0 && lba + count <= this.#sectors ? { lba, count } : undefined
  }

  /** -1 for an address of cylinder, head and sector that there is none of. */
  #address(lba48: boolean): number {
    const { file } = this
    if (lba48) return file.lba48
    if (file.usesLba) return file.lba28
    const head = file.device & 0x0f
    if (file.low === 0 || file.low > this.#trackSectors || head >= this.#heads) return -1
    const cylinder = file.high * 0x100 + file.mid
    return (cylinder * this.#heads + head) * this.#trackSectors + file.low - 1
  }

  #seek(): Outcome {
    const lba = this.#address(false)
    return lba >= 0 && lba < this.#sectors ? DONE : NOT_FOUND
  }

  #nativeMax(lba48: boolean): Outcome {
    const last = Math.max(0, this.#sectors - 1)
    if (lba48) this.file.lba48 = last
    else this.file.lba28 = Math.min(last, 0x0fff_ffff)
    return DONE
  }

  #setMultiple(): Outcome {
    const { count } = this.file
    if (count > MAX_MULTIPLE || (count & (count - 1)) !== 0) return ABORTED
    this.#multiple = count
    return DONE
  }

  #setFeatures(): Outcome {
    const { feature, count } = this.file
    switch (feature) {
      case 0x02:
        this.#writeCache = true
        return DONE
      case 0x82:
        this.#writeCache = false
        return { kind: 'work', work: this.#drive.flush() }
      case 0x03: {
        const modes = transferModes(count)
        if (modes === undefined) return ABORTED
        this.#modes = modes
        return DONE
      }
      // Power management, acoustics, read-ahead and what resets keep: nothing here depends on them.
      case 0x05:
      case 0x85:
      case 0x42:
      case 0xc2:
      case 0x55:
      case 0xaa:
      case 0x66:
      case 0xcc:
        return DONE
      default:
        this.onUnknown('SET FEATURES', this.file.feature)
        return ABORTED
    }
  }

  #dataSetManagement(): Outcome {
    const { feature, count } = this.file
    if (!this.#options.trim || feature !== 1 || count === 0 || this.#drive.readOnly) return ABORTED
    const length = count * SECTOR
    const data = new Uint8Array(length)
    return {
      kind: 'transfer',
      transfer: transfer({ source: 'data', direction: 'out', dma: true, length, data }),
    }
  }

  /** Discards the ranges of a list: six bytes of address, two of count. */
  async #trim(list: Uint8Array): Promise<void> {
    const view = new DataView(list.buffer, list.byteOffset, list.length)
    for (let at = 0; at < list.length; at += TRIM_ENTRY_BYTES) {
      const lba = view.getUint32(at, true) + view.getUint16(at + 4, true) * 0x1_0000_0000
      const count = view.getUint16(at + 6, true)
      if (count === 0) continue
      if (lba + count > this.#sectors) {
        this.#drive.refused?.('unmap')
        throw new RangeError('a range lies behind the end')
      }
      await this.#drive.discard(lba * SECTOR, count * SECTOR)
    }
  }

  #identify(): Uint8Array {
    const { geometry } = this.#options
    const trackBytes = this.#heads * Math.max(1, this.#trackSectors)
    const physical = Math.max(1, this.#drive.physicalBlockBytes / SECTOR)
    return identifyDisk({
      ...this.#options,
      sectors: this.#sectors,
      current: {
        cylinders: Math.min(
          Math.floor((geometry.cylinders * geometry.heads * geometry.sectors) / trackBytes),
          0xffff,
        ),
        heads: this.#heads,
        sectors: this.#trackSectors,
      },
      multiple: this.#multiple,
      writeCache: this.#writeCache,
      smart: this.#smart.enabled,
      physicalExponent: Math.min(15, Math.floor(Math.log2(physical))),
      modes: this.#modes,
    })
  }
}

/** The mode that the count register chooses; undefined for one that there is none of. */
export function transferModes(count: number): TransferModes | undefined {
  const mode = count & 0x07
  switch (count >> 3) {
    case 0x00:
    case 0x01:
      return {}
    case 0x04:
      return mode <= 2 ? { multiword: mode } : undefined
    case 0x08:
      return mode <= 5 ? { ultra: mode } : undefined
    default:
      return undefined
  }
}
