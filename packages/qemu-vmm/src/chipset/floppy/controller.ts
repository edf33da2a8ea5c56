import type { Device, IrqLine } from '../../device.ts'
import type { DmaChannel } from '../i8237.ts'
import { FloppyDrive } from './drive.ts'
import {
  COMMANDS,
  HAS_DRIVE,
  SIZE_CODE,
  SR0_ABNORMAL,
  SR0_INVALID,
  SR0_READY_CHANGED,
  SR0_SEEK,
  SR1_MISSING_MARK,
} from './plan.ts'
import { FIFO_BYTES, PHASES, RESET_SENSES, mainStatus, parseFloppyState } from './state.ts'
import type { FloppyState, Phase } from './state.ts'
import { FloppyTransfer } from './transfer.ts'
import type { FloppyOrder } from './transfer.ts'
import { untold } from '../unknown-command.ts'
import type { UnknownCommand } from '../unknown-command.ts'

export const FLOPPY_PORT = 0x3f0
export const FLOPPY_IRQ = 6
export const FLOPPY_DMA = 2
const DRIVES = 2

const DOR_RUN = 0x04
const DOR_DMA = 0x08
const DSR_RESET = 0x80
const RATE_MASK = 0x03
const DIR_CHANGED = 0x80
const VERSION = 0x90
const CONFIG_IMPLIED_SEEK = 0x40
/** Implied seeks, and no FIFO. */
const CONFIG_DEFAULT = 0x60
const PART_ID = 0x41

/**
 * The 82078 floppy disk controller as QEMU has it, with two drives. Data goes by DMA channel 2, or
 * through the FIFO register where DMA is off. A command that waits for the host or for its DMA
 * channel has no RQM.
 */
export class FloppyController implements Device<FloppyState> {
  readonly #irq: IrqLine
  readonly #unknown: UnknownCommand
  readonly #transfer: FloppyTransfer
  readonly #drives: FloppyDrive[] = Array.from({ length: DRIVES }, () => new FloppyDrive())
  readonly #fifo: Uint8Array = new Uint8Array(FIFO_BYTES)
  #dor = DOR_RUN | DOR_DMA
  #tdr = 0
  #dsr = 0
  #status0 = 0
  #config = CONFIG_DEFAULT
  #precompensation = 0
  #timers = 0
  #lock = 0
  #perpendicular = 0
  #interrupt = false
  #senses = 0
  #phase: Phase = 'command'
  #length = 0
  #position = 0

  constructor(irq: IrqLine, dma: DmaChannel, unknown: UnknownCommand = untold) {
    this.#irq = irq
    this.#unknown = unknown
    this.#transfer = new FloppyTransfer(dma, {
      busy: () => {
        this.#phase = 'execution'
      },
      offer: () => {
        this.#phase = 'transfer'
        this.#raise(this.#status0)
      },
      end: (sr0, sr1, track) => this.#end(sr0, sr1, track),
    })
  }

  /** Puts a drive in a place, 0 or 1. */
  attach(unit: number, drive: FloppyDrive): void {
    this.#drives[unit] = drive
  }

  /** Resolves when the host works for no command any more. */
  quiesce(): Promise<void> {
    return this.#transfer.quiesce()
  }

  reset(): void {
    for (const drive of this.#drives) drive.reset()
    this.#tdr = 0
    this.#dsr = 0
    this.#lock = 0
    this.#softReset()
    this.#dor = DOR_RUN | DOR_DMA
    this.#senses = 0
    this.#lower()
  }

  read(offset: number): number {
    switch (offset) {
      case 0:
        return (this.#interrupt ? 0x80 : 0) | (this.#drives[1]!.medium === undefined ? 0x40 : 0)
      case 1:
        return 0xc0 | ((this.#dor & 1) << 5) | ((this.#dor >> 4) & 3)
      case 2:
        return this.#dor
      case 3:
        return this.#tdr
      case 4:
        return mainStatus(this.#phase, this.#isWrite, this.#position)
      case 5:
        return this.#readFifo()
      case 7:
        return this.#drive.changed ? DIR_CHANGED : 0
      default:
        return 0xff
    }
  }

  write(offset: number, _size: number, value: number): void {
    const byte = value & 0xff
    const isRunning = (this.#dor & DOR_RUN) !== 0
    switch (offset) {
      case 2:
        this.#dor = byte
        if (!isRunning && (byte & DOR_RUN) !== 0) this.#afterReset()
        else if (isRunning && (byte & DOR_RUN) === 0) this.#softReset()
        break
      case 3:
        if (isRunning) this.#tdr = byte & 0x03
        break
      case 4:
        if (!isRunning) break
        if ((byte & DSR_RESET) !== 0) {
          this.#softReset()
          this.#afterReset()
        }
        this.#dsr = byte & ~DSR_RESET
        break
      case 5:
        if (isRunning) this.#writeFifo(byte)
        break
      case 7:
        if (isRunning) this.#dsr = (this.#dsr & ~RATE_MASK) | (byte & RATE_MASK)
        break
      default:
        break
    }
  }

  save(): FloppyState {
    return {
      dor: this.#dor,
      tdr: this.#tdr,
      dsr: this.#dsr,
      status0: this.#status0,
      config: this.#config,
      precompensation: this.#precompensation,
      timers: this.#timers,
      lock: this.#lock,
      perpendicular: this.#perpendicular,
      interrupt: this.#interrupt,
      senses: this.#senses,
      phase: PHASES.indexOf(this.#phase),
      length: this.#length,
      position: this.#position,
      fifo: this.#fifo.slice(),
      ...this.#transfer.save(),
      drives: this.#drives.map((drive) => drive.save()),
    }
  }

  load(state: FloppyState): void {
    const s = parseFloppyState(state)
    this.#transfer.abandon()
    for (const [unit, drive] of this.#drives.entries()) drive.load(state.drives?.[unit])
    this.#dor = s.dor
    this.#tdr = s.tdr
    this.#dsr = s.dsr
    this.#status0 = s.status0
    this.#config = s.config
    this.#precompensation = s.precompensation
    this.#timers = s.timers
    this.#lock = s.lock
    this.#perpendicular = s.perpendicular
    this.#interrupt = s.interrupt
    this.#senses = s.senses
    this.#phase = PHASES[s.phase]!
    this.#length = s.length
    this.#position = s.position
    this.#fifo.set(s.fifo)
    this.#transfer.load(s)
    this.#irq.set(this.#interrupt)
    // It was saved while it waited for its DMA channel, or has still to take what comes by the FIFO.
    if (this.#phase === 'execution') this.#execute()
    else if (this.#phase === 'transfer') this.#transfer.resume(this.#order())
  }

  get #drive(): FloppyDrive {
    return this.#drives[this.#dor & 1]!
  }

  get #isWrite(): boolean {
    const name = this.#command
    return name === 'write' || name === 'format'
  }

  get #command(): string | undefined {
    const first = this.#fifo[0]!
    return COMMANDS.find(({ mask, value }) => (first & mask) === value)?.name
  }

  #readFifo(): number {
    if (this.#phase === 'transfer' && !this.#isWrite) {
      return this.#transfer.readByte()
    }
    if (this.#phase !== 'result') return 0
    const byte = this.#fifo[this.#position++]!
    if (this.#position >= this.#length) {
      this.#toCommand()
      this.#lower()
    }
    return byte
  }

  #writeFifo(byte: number): void {
    if (this.#phase === 'transfer' && this.#isWrite) {
      return this.#transfer.writeByte(byte)
    }
    if (this.#phase !== 'command') return
    if (this.#position === 0) {
      this.#fifo[0] = byte
      const kind = COMMANDS.find(({ mask, value }) => (byte & mask) === value)
      this.#length = 1 + (kind?.parameters ?? 0)
    }
    this.#fifo[this.#position++] = byte
    if (this.#position >= this.#length) this.#start()
  }

  #start(): void {
    const f = this.#fifo
    const name = this.#command
    if (name !== undefined && HAS_DRIVE.has(name)) this.#dor = (this.#dor & ~1) | (f[1]! & 1)
    const drive = this.#drive
    switch (name) {
      case 'read':
      case 'write':
      case 'verify':
      case 'format':
        return this.#execute()
      case 'read id':
        return this.#readId()
      case 'seek':
        return this.#seekTo(f[2]!)
      case 'seek in':
        return this.#seekTo(Math.min(drive.format.tracks - 1, drive.track + f[2]!))
      case 'seek out':
        return this.#seekTo(Math.max(0, drive.track - f[2]!))
      case 'recalibrate':
        return this.#seekTo(0)
      case 'sense interrupt':
        return this.#senseInterrupt()
      case 'sense drive':
        drive.head = (f[1]! >> 2) & 1
        return this.#result(drive.status | (this.#dor & 1))
      case 'specify':
        this.#timers = ((f[1]! & 0xf0) << 8) | (f[2]! >> 1)
        this.#dor = (f[2]! & 1) === 0 ? this.#dor | DOR_DMA : this.#dor & ~DOR_DMA
        return this.#toCommand()
      case 'perpendicular':
        if ((f[1]! & 0x80) !== 0) this.#perpendicular = f[1]! & 0x07
        return this.#toCommand()
      case 'configure':
        this.#config = f[2]!
        this.#precompensation = f[3]!
        return this.#toCommand()
      case 'option':
        return this.#toCommand()
      case 'power down':
        return this.#result(f[1]!)
      case 'lock':
        this.#lock = f[0]! >> 7
        return this.#result(this.#lock << 4)
      case 'version':
        return this.#result(VERSION)
      case 'part id':
        return this.#result(PART_ID)
      case 'dump registers':
        return this.#dump()
      default:
        this.#unknown('command', f[0]!)
        return this.#result(SR0_INVALID)
    }
  }

  /** A command with data. */
  #execute(): void {
    this.#transfer.begin(this.#order())
  }

  #order(): FloppyOrder {
    return {
      name: this.#command ?? '',
      fifo: this.#fifo.slice(),
      drive: this.#drive,
      rate: this.#dsr & RATE_MASK,
      usesDma: (this.#dor & DOR_DMA) !== 0,
      impliedSeek: (this.#config & CONFIG_IMPLIED_SEEK) !== 0,
    }
  }

  #dump(): void {
    const [first, second] = this.#drives
    const timers = [this.#timers >> 12, this.#timers & 0x7f]
    const locks = (this.#lock << 7) | (this.#perpendicular << 2)
    const last = this.#drive.format.sectors
    const registers = [locks, this.#config, this.#precompensation]
    this.#result(first!.track, second!.track, 0, 0, ...timers, last, ...registers)
  }

  #seekTo(track: number): void {
    this.#drive.seek(track)
    this.#toCommand()
    this.#raise(SR0_SEEK)
  }

  #senseInterrupt(): void {
    const drive = this.#drive
    if (this.#senses > 0) {
      const unit = RESET_SENSES - this.#senses--
      this.#lower()
      this.#result(SR0_READY_CHANGED | unit, drive.track)
    } else if (!this.#interrupt) this.#result(SR0_INVALID)
    else {
      const status = (this.#status0 & ~0x07) | (this.#dor & 1)
      this.#lower()
      this.#result(status, drive.track)
    }
  }

  #readId(): void {
    const drive = this.#drive
    const { medium, format } = drive
    drive.head = (this.#fifo[1]! >> 2) & 1
    const isThere = medium !== undefined && (this.#dsr & RATE_MASK) === format.rate
    if (!isThere || drive.offset(drive.track, drive.head, 1) === undefined) {
      return this.#end(SR0_ABNORMAL, SR1_MISSING_MARK)
    }
    drive.sector = (drive.sector % format.sectors) + 1
    this.#end(0, 0)
  }

  /** The result of a command with data. */
  #end(sr0: number, sr1: number, track: number = this.#drive.track): void {
    const { head, sector } = this.#drive
    const status0 = sr0 | (head << 2) | (this.#dor & 1)
    this.#result(status0, sr1, 0, track, head, sector, SIZE_CODE)
    this.#raise(status0)
  }

  #result(...values: number[]): void {
    this.#fifo.set(values)
    this.#length = values.length
    this.#position = 0
    this.#phase = 'result'
  }

  #toCommand(): void {
    this.#phase = 'command'
    this.#length = 0
    this.#position = 0
  }

  #raise(status0: number): void {
    this.#status0 = status0
    this.#senses = 0
    this.#interrupt = true
    this.#irq.set(true)
  }

  #lower(): void {
    this.#status0 = 0
    this.#interrupt = false
    this.#irq.set(false)
  }

  #softReset(): void {
    this.#transfer.abandon()
    this.#lower()
    this.#toCommand()
    if (this.#lock === 0) this.#config = CONFIG_DEFAULT
  }

  /** After a reset each drive's state counts as changed. */
  #afterReset(): void {
    this.#raise(SR0_READY_CHANGED)
    this.#senses = RESET_SENSES
  }
}
