import { int, u32 } from '../../machine/state.ts'
import type { Field } from '../../machine/state.ts'

/** Bits of a timer's configuration (IA-PC HPET 1.0a, 2.3.8). */
export const TN_LEVEL = 0x0002
export const TN_ENABLE = 0x0004
export const TN_PERIODIC = 0x0008
export const TN_PERIODIC_CAP = 0x0010
export const TN_SIZE_CAP = 0x0020
export const TN_SETVAL = 0x0040
export const TN_32BIT = 0x0100
export const TN_ROUTE_SHIFT = 9
export const TN_ROUTE_MASK = 0x1f
export const TN_FSB_ENABLE = 0x4000
export const TN_FSB_CAP = 0x8000
/** As on QEMU, which lets a driver set the FSB bit whatever the capability says. */
const TN_WRITABLE = 0x7f4e

const ONES = 0xffff_ffff_ffff_ffffn
const LOW = 0xffff_ffffn

/** A timer's registers in halves of 32 bits. */
export interface HpetTimerState {
  config: number
  comparatorLow: number
  comparatorHigh: number
  periodLow: number
  periodHigh: number
  fsbValue: number
  fsbAddress: number
  /** The pending interrupt is for the counter's wrap. */
  wraps: number
  /** Guest time of the next interrupt; -1 without one. */
  atNs: number
}

export const TIMER_STATE: { readonly [K in keyof HpetTimerState]: Field<HpetTimerState[K]> } = {
  config: u32,
  comparatorLow: u32,
  comparatorHigh: u32,
  periodLow: u32,
  periodHigh: u32,
  fsbValue: u32,
  fsbAddress: u32,
  wraps: int(0, 1),
  atNs: int(-1, Number.MAX_SAFE_INTEGER),
}

/** One comparator: registers and arithmetic. Who has the counter and the clock says when. */
export class HpetTimer {
  config = 0
  comparator: bigint = ONES
  period = 0n
  fsbValue = 0
  fsbAddress = 0
  wraps = false
  readonly #capabilities: number
  readonly #routes: number

  /**
   * @param routes the interrupts that may be chosen, one bit for each
   * @param hasFsb messages in place of interrupts
   */
  constructor(routes: number, hasFsb: boolean) {
    this.#capabilities = TN_PERIODIC_CAP | TN_SIZE_CAP | (hasFsb ? TN_FSB_CAP : 0)
    this.#routes = routes
    this.reset()
  }

  reset(): void {
    this.config = this.#capabilities
    this.comparator = ONES
    this.period = 0n
    this.fsbValue = 0
    this.fsbAddress = 0
    this.wraps = false
  }

  get isPeriodic(): boolean {
    return (this.config & TN_PERIODIC) !== 0
  }

  get is32Bit(): boolean {
    return (this.config & TN_32BIT) !== 0
  }

  get isEnabled(): boolean {
    return (this.config & TN_ENABLE) !== 0
  }

  /** The 32-bit register at an offset into the timer's block. */
  read(offset: number): number {
    switch (offset) {
      case 0x00:
        return this.config
      case 0x04:
        return this.#routes
      case 0x08:
        return Number(this.comparator & LOW)
      case 0x0c:
        return Number(this.comparator >> 32n)
      case 0x10:
        return this.fsbValue
      case 0x14:
        return this.fsbAddress
      default:
        return 0
    }
  }

  /** Returns the bits that changed. */
  writeConfig(value: number): number {
    const before = this.config
    this.config = (value & TN_WRITABLE) | (before & ~TN_WRITABLE)
    if (this.is32Bit) {
      this.comparator &= LOW
      this.period &= LOW
    }
    return before ^ this.config
  }

  /**
   * Half of the comparator. In periodic mode it is the period that is written, and the comparator only
   * while the driver has asked for that.
   */
  writeComparator(isHigh: boolean, value: number): void {
    const isSet = (this.config & TN_SETVAL) !== 0
    const half = (old: bigint, bits: number): bigint =>
      isHigh ? (old & LOW) | (BigInt(bits) << 32n) : (old & ~LOW) | BigInt(bits)
    if (!this.isPeriodic || isSet) this.comparator = half(this.comparator, value)
    // The high half comes with the comparator, or alone.
    if (this.isPeriodic && (!isHigh || !isSet)) {
      const isTop = isHigh || this.is32Bit
      this.period = half(this.period, isTop ? value & 0x7fff_ffff : value)
    }
    this.config &= ~TN_SETVAL
  }

  /** Ticks from `counter` to the next interrupt, at least 1. */
  arm(counter: bigint): bigint {
    this.wraps = false
    const ticks = this.#distance(counter)
    if (!this.is32Bit || this.isPeriodic) return ticks
    // A one-shot timer of 32 bits fires when the counter wraps as well.
    const toWrap = LOW - (counter & LOW)
    if (toWrap >= ticks) return ticks
    this.wraps = true
    return toWrap > 0n ? toWrap : 1n
  }

  /** The interrupt is due: ticks to the next one, if there is one. */
  expire(counter: bigint): bigint | undefined {
    if (this.isPeriodic && this.period !== 0n) {
      this.#advance(counter)
      return this.#distance(counter)
    }
    if (!this.wraps) return undefined
    this.wraps = false
    return this.#distance(counter)
  }

  save(atNs: number): HpetTimerState {
    return {
      config: this.config,
      comparatorLow: Number(this.comparator & LOW),
      comparatorHigh: Number(this.comparator >> 32n),
      periodLow: Number(this.period & LOW),
      periodHigh: Number(this.period >> 32n),
      fsbValue: this.fsbValue,
      fsbAddress: this.fsbAddress,
      wraps: this.wraps ? 1 : 0,
      atNs,
    }
  }

  load(s: HpetTimerState): void {
    this.config = (s.config & (TN_WRITABLE & ~TN_SETVAL)) | this.#capabilities
    this.config |= s.config & TN_SETVAL
    this.comparator = (BigInt(s.comparatorHigh) << 32n) | BigInt(s.comparatorLow)
    this.period = (BigInt(s.periodHigh) << 32n) | BigInt(s.periodLow)
    this.fsbValue = s.fsbValue
    this.fsbAddress = s.fsbAddress
    this.wraps = s.wraps === 1
  }

  /** Moves the comparator by whole periods past the counter: ticks that a late timer missed merge. */
  #advance(counter: bigint): void {
    const bits = this.is32Bit ? 32 : 64
    const late = BigInt.asIntN(bits, counter - this.comparator)
    if (late < 0n) return
    const steps = late / this.period + 1n
    this.comparator = BigInt.asUintN(bits, this.comparator + steps * this.period)
  }

  #distance(counter: bigint): bigint {
    const ticks = BigInt.asIntN(this.is32Bit ? 32 : 64, this.comparator - counter)
    return ticks > 0n ? ticks : 1n
  }
}
