import { parseState, u8 } from '../../machine/state.ts'

/** Bits of the status register (ATA/ATAPI-6, 7.15). */
export const STATUS_ERR = 0x01
export const STATUS_DRQ = 0x08
export const STATUS_DSC = 0x10
export const STATUS_DRDY = 0x40
export const STATUS_BSY = 0x80
/** A command has ended well. */
export const STATUS_READY: number = STATUS_DRDY | STATUS_DSC

/** Bits of the error register (ATA/ATAPI-6, 7.9). */
export const ERROR_ABRT = 0x04
export const ERROR_IDNF = 0x10
export const ERROR_UNC = 0x40
export const ERROR_ICRC = 0x80

/** Bits of the sector count register that say what a packet device wants (7.12). */
export const REASON_COMMAND = 0x01
export const REASON_TO_HOST = 0x02

const DEVICE_LBA = 0x40

export interface TaskFileState {
  feature: number
  count: number
  low: number
  mid: number
  high: number
  previousFeature: number
  previousCount: number
  previousLow: number
  previousMid: number
  previousHigh: number
  device: number
  error: number
  status: number
}

const FIELDS = {
  feature: u8,
  count: u8,
  low: u8,
  mid: u8,
  high: u8,
  previousFeature: u8,
  previousCount: u8,
  previousLow: u8,
  previousMid: u8,
  previousHigh: u8,
  device: u8,
  error: u8,
  status: u8,
} as const

/**
 * The command block registers of one device. Those that take 16 bits hold what was written before
 * as their upper half.
 */
export class TaskFile {
  feature = 0
  count = 0
  low = 0
  mid = 0
  high = 0
  previousFeature = 0
  previousCount = 0
  previousLow = 0
  previousMid = 0
  previousHigh = 0
  device = 0
  error = 0
  status = 0

  /** Writes register 1..5: features, count, and the three of the address. */
  write(register: number, value: number): void {
    switch (register) {
      case 1:
        this.previousFeature = this.feature
        this.feature = value
        break
      case 2:
        this.previousCount = this.count
        this.count = value
        break
      case 3:
        this.previousLow = this.low
        this.low = value
        break
      case 4:
        this.previousMid = this.mid
        this.mid = value
        break
      case 5:
        this.previousHigh = this.high
        this.high = value
        break
      default:
        break
    }
  }

  /** Reads register 1..7, with `previous` the upper half of those that have one. */
  read(register: number, previous: boolean): number {
    switch (register) {
      case 1:
        return previous ? this.previousFeature : this.error
      case 2:
        return previous ? this.previousCount : this.count
      case 3:
        return previous ? this.previousLow : this.low
      case 4:
        return previous ? this.previousMid : this.mid
      case 5:
        return previous ? this.previousHigh : this.high
      case 6:
        return this.device | 0xa0
      default:
        return this.status
    }
  }

  get usesLba(): boolean {
    return (this.device & DEVICE_LBA) !== 0
  }

  /** The 28-bit address; its upper four bits are in the device register. */
  get lba28(): number {
    return (this.device & 0x0f) * 0x100_0000 + this.high * 0x1_0000 + this.mid * 0x100 + this.low
  }

  get lba48(): number {
    const upper = this.previousHigh * 0x1_0000 + this.previousMid * 0x100 + this.previousLow
    return upper * 0x100_0000 + this.high * 0x1_0000 + this.mid * 0x100 + this.low
  }

  set lba28(lba: number) {
    this.low = lba % 0x100
    this.mid = Math.floor(lba / 0x100) % 0x100
    this.high = Math.floor(lba / 0x1_0000) % 0x100
    this.device = (this.device & 0xf0) | (Math.floor(lba / 0x100_0000) & 0x0f)
  }

  set lba48(lba: number) {
    this.low = lba % 0x100
    this.mid = Math.floor(lba / 0x100) % 0x100
    this.high = Math.floor(lba / 0x1_0000) % 0x100
    this.previousLow = Math.floor(lba / 0x100_0000) % 0x100
    this.previousMid = Math.floor(lba / 0x1_0000_0000) % 0x100
    this.previousHigh = Math.floor(lba / 0x100_0000_0000) % 0x100
  }

  /** What a device shows after a reset, by which a driver tells disks from packet devices. */
  sign(mid: number, high: number): void {
    this.device &= 0xf0
    this.count = 1
    this.low = 1
    this.mid = mid
    this.high = high
    this.error = 1
  }

  save(): TaskFileState {
    const state: Partial<TaskFileState> = {}
    for (const key of Object.keys(FIELDS) as (keyof TaskFileState)[]) state[key] = this[key]
    return state as TaskFileState
  }

  load(state: unknown): void {
    Object.assign(this, parseState<TaskFileState>('ide', state, FIELDS))
  }
}
