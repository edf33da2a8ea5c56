import type { Clock, ClockTimer, Device, IrqLine } from '../device.ts'
import { bytes, int, parseState, time } from '../machine/state.ts'
import { decodeTime, encodeTime } from './rtc-time.ts'

const REG_SECONDS_ALARM = 0x01
const REG_MINUTES_ALARM = 0x03
const REG_HOURS_ALARM = 0x05
const REG_A = 0x0a
const REG_B = 0x0b
const REG_C = 0x0c
const REG_D = 0x0d
const REG_CENTURY = 0x32

const A_UIP = 0x80
const A_DIVIDER = 0x70
const A_DIVIDER_RUN = 0x20
const A_RATE = 0x0f
const B_SET = 0x80
const B_PIE = 0x40
const B_AIE = 0x20
const B_UIE = 0x10
const C_IRQF = 0x80
const C_PF = 0x40
const C_AF = 0x20
const C_UF = 0x10
const C_FLAGS = C_PF | C_AF | C_UF
const D_VALID = 0x80

const SECOND_MS = 1000
const DAY_SECONDS = 86_400
/** The chip shows "update in progress" this long before the seconds change. */
const UIP_MS = 0.244
const ALARM_ANY = 0xc0

/** CMOS bytes and the time base. */
export interface RtcState {
  index: number
  cmos: Uint8Array
  /** Guest time of day minus the clock's, in milliseconds. */
  offsetMs: number
  /** Guest time of day while the clock is stopped; -1 while it runs. */
  frozenMs: number
  /** Second, since 1970, of the last update cycle that was looked at. */
  lastSecond: number
  /** Guest time of the next periodic interrupt; -1 when none is due. */
  periodicAtNs: number
  /** Periodic interrupts that the guest has missed, and will get. */
  owed: number
}

/** How a clock is driven. */
export interface RtcOptions {
  /** The time of day that it follows, in milliseconds since 1970; the clock's wall time by default. */
  timeMs?: () => number
  /** Periodic interrupts that come while the guest has not seen the last one follow later (QEMU's `driftfix=slew`). */
  catchesUp?: boolean
}

/** So many interrupts in a row follow at once as the guest asks for the reason of one; then it gets time for something else. */
const MOST_AT_ONCE = 20
/** More is a guest that does not look at them at all. */
const MOST_OWED = 1 << 20

/**
 * MC146818 real-time clock with 128 bytes of CMOS at ports 0x70 and 0x71, interrupt on IRQ 8.
 *
 * The time registers are computed from the clock when they are read; update and alarm flags are
 * brought up to date when they are looked at, and by timers only while their interrupts are on.
 */
export class Rtc implements Device<RtcState> {
  readonly #irq: IrqLine
  readonly #clock: Clock
  #index = 0
  readonly #cmos: Uint8Array = new Uint8Array(128)
  #offsetMs = 0
  /** What it was at the start. */
  #baseMs = 0
  #frozenMs = -1
  #lastSecond: number
  #periodicAtNs = -1
  #periodNsNow = 0
  readonly #timeMs: () => number
  readonly #catchesUp: boolean
  #owed = 0
  #atOnce = 0
  #periodic: ClockTimer | undefined
  #update: ClockTimer | undefined

  /** Called when the alarm's interrupt is due and enabled. */
  onAlarm: () => void = () => {}
  /** Called when the guest has set the time, with the seconds by which it is ahead of what it would have been. */
  onSet: (seconds: number) => void = () => {}

  constructor(
    irq: IrqLine,
    clock: Clock,
    { timeMs = () => clock.wallMs(), catchesUp = false }: RtcOptions = {},
  ) {
    this.#irq = irq
    this.#clock = clock
    this.#timeMs = timeMs
    this.#catchesUp = catchesUp
    this.#cmos[REG_A] = A_DIVIDER_RUN | 0x06
    this.#cmos[REG_B] = 0x02
    this.#cmos[REG_D] = D_VALID
    this.#lastSecond = Math.floor(this.#nowMs() / SECOND_MS)
  }

  /** Sets what it shows now, in milliseconds since 1970. */
  setNow(ms: number): void {
    this.#offsetMs = ms - this.#timeMs()
    this.#baseMs = this.#offsetMs
    this.#lastSecond = Math.floor(ms / SECOND_MS)
  }

  /** Sets a configuration byte, as firmware and board do. */
  setCmos(index: number, value: number): void {
    this.#cmos[index & 0x7f] = value
  }

  /** The reset input clears interrupts; time and CMOS are on battery. */
  reset(): void {
    this.#cmos[REG_B] = this.#b & ~(B_PIE | B_AIE | B_UIE | 0x08)
    this.#cmos[REG_C] = 0
    this.#index = 0
    this.#stopTimers()
    this.#owed = 0
    this.#irq.set(false)
  }

  save(): RtcState {
    return {
      index: this.#index,
      cmos: this.#cmos.slice(),
      offsetMs: this.#offsetMs,
      frozenMs: this.#frozenMs,
      lastSecond: this.#lastSecond,
      periodicAtNs: this.#periodicAtNs,
      owed: this.#owed,
    }
  }

  load(state: RtcState): void {
    const s = parseState<RtcState>('rtc', state, {
      index: int(0, 0x7f),
      cmos: bytes(128),
      offsetMs: time,
      frozenMs: time,
      lastSecond: time,
      periodicAtNs: time,
      owed: int(0, MOST_OWED),
    })
    this.#stopTimers()
    this.#index = s.index
    this.#cmos.set(s.cmos)
    this.#offsetMs = s.offsetMs
    this.#frozenMs = s.frozenMs
    this.#lastSecond = s.lastSecond
    this.#owed = s.owed
    this.#periodNsNow = this.#periodNs()
    if (s.periodicAtNs >= 0) this.#armPeriodic(s.periodicAtNs)
    this.#armUpdate()
    this.#irq.set((this.#c & C_IRQF) !== 0)
  }

  read(offset: number): number {
    // The index port is write-only.
    if ((offset & 1) === 0) return 0xff
    const index = this.#index
    if (isTimeRegister(index)) {
      return encodeTime(this.#nowMs(), index, this.#b)
    }
    switch (index) {
      case REG_A:
        return (this.#a & ~A_UIP) | (this.#updateInProgress() ? A_UIP : 0)
      case REG_C: {
        this.#catchUp()
        const value = this.#c
        this.#cmos[REG_C] = 0
        this.#irq.set(false)
        this.#pay()
        this.#armUpdate()
        return value
      }
      case REG_D:
        return D_VALID
      default:
        return this.#cmos[index]!
    }
  }

  write(offset: number, _size: number, value: number): void {
    const byte = value & 0xff
    if ((offset & 1) === 0) {
      // Bit 7 masks NMIs on a PC; nothing here raises one.
      this.#index = byte & 0x7f
      return
    }
    const index = this.#index
    if (isTimeRegister(index)) return this.#setTime(index, byte)
    switch (index) {
      case REG_A:
        this.#writeA(byte & ~A_UIP)
        break
      case REG_B:
        this.#writeB(byte)
        break
      case REG_C:
      case REG_D:
        break
      default:
        this.#cmos[index] = byte
        if (index <= REG_HOURS_ALARM) this.#armUpdate()
    }
  }

  get #a(): number {
    return this.#cmos[REG_A]!
  }

  get #b(): number {
    return this.#cmos[REG_B]!
  }

  get #c(): number {
    return this.#cmos[REG_C]!
  }

  get #running(): boolean {
    return (this.#b & B_SET) === 0 && (this.#a & A_DIVIDER) === A_DIVIDER_RUN
  }

  #nowMs(): number {
    return this.#frozenMs >= 0 ? this.#frozenMs : this.#timeMs() + this.#offsetMs
  }

  #updateInProgress(): boolean {
    if (!this.#running) return false
    return this.#nowMs() % SECOND_MS >= SECOND_MS - UIP_MS
  }

  #setTime(index: number, byte: number): void {
    const timeMs = decodeTime(this.#nowMs(), index, byte, this.#b)
    if (this.#frozenMs >= 0) this.#frozenMs = Math.max(0, timeMs)
    else this.#offsetMs = timeMs - this.#timeMs()
    this.#lastSecond = Math.floor(this.#nowMs() / SECOND_MS)
    if (this.#frozenMs < 0) this.#tellSet()
    this.#armUpdate()
  }

  #tellSet(): void {
    this.onSet(Math.round((this.#offsetMs - this.#baseMs) / SECOND_MS))
  }

  #writeA(byte: number): void {
    this.#catchUp()
    const rateChanged = ((byte ^ this.#a) & A_RATE) !== 0
    this.#cmos[REG_A] = byte
    this.#freezeOrRun()
    if (rateChanged) this.#restartPeriodic()
    this.#armUpdate()
  }

  #writeB(byte: number): void {
    this.#catchUp()
    // Stopping the updates also turns their interrupt off (MC146818A data sheet, SET bit).
    const value = byte & B_SET ? byte & ~B_UIE : byte
    const periodicChanged = ((value ^ this.#b) & B_PIE) !== 0
    this.#cmos[REG_B] = value
    this.#freezeOrRun()
    this.#raise(0)
    if (periodicChanged) this.#restartPeriodic()
    this.#armUpdate()
  }

  #freezeOrRun(): void {
    if (this.#running === this.#frozenMs < 0) return
    if (this.#running) {
      this.#offsetMs = this.#frozenMs - this.#timeMs()
      this.#frozenMs = -1
      this.#lastSecond = Math.floor(this.#nowMs() / SECOND_MS)
      this.#tellSet()
    } else {
      this.#frozenMs = Math.max(0, this.#nowMs())
    }
  }

  /** Sets the flags of every update cycle since the last look. */
  #catchUp(): void {
    if (!this.#running) return
    const second = Math.floor(this.#nowMs() / SECOND_MS)
    if (second === this.#lastSecond) return
    let flags = C_UF
    if (second > this.#lastSecond && this.#alarmWithin(this.#lastSecond + 1, second)) flags |= C_AF
    this.#lastSecond = second
    this.#raise(flags)
  }

  /** Whether the alarm's time of day lies in the seconds from `first` to `last`. */
  #alarmWithin(first: number, last: number): boolean {
    const isHour = this.#alarmMatches(REG_HOURS_ALARM, 24, 3600)
    const isMinute = this.#alarmMatches(REG_MINUTES_ALARM, 60, 60)
    const isSecond = this.#alarmMatches(REG_SECONDS_ALARM, 60, 1)
    for (let second = Math.max(first, last - DAY_SECONDS + 1); second <= last; second++) {
      const minute = Math.floor(second / 60)
      if (isSecond[second % 60] && isMinute[minute % 60] && isHour[Math.floor(minute / 60) % 24]) {
        return true
      }
    }
    return false
  }

  /** Which of the `count` values of a time register match its alarm register. */
  #alarmMatches(alarm: number, count: number, seconds: number): boolean[] {
    const wanted = this.#cmos[alarm]!
    const anyValue = (wanted & ALARM_ANY) === ALARM_ANY
    const encoded = (value: number): number =>
      encodeTime(value * seconds * SECOND_MS, alarm - 1, this.#b)
    return Array.from({ length: count }, (_, value) => anyValue || wanted === encoded(value))
  }

  #raise(flags: number): void {
    if ((flags & C_AF) !== 0 && (this.#b & B_AIE) !== 0) this.onAlarm()
    const c = (this.#c & C_FLAGS) | flags
    const enabled = (c & this.#b & C_FLAGS) !== 0
    this.#cmos[REG_C] = enabled ? c | C_IRQF : c
    // The pin is IRQF: it falls, too, when the guest turns off the interrupt that holds it.
    this.#irq.set(enabled)
  }

  /** A timer for the next second, only while an interrupt waits for it. */
  #armUpdate(): void {
    this.#update?.cancel()
    this.#update = undefined
    if (!this.#running || (this.#b & (B_UIE | B_AIE)) === 0) return
    const leftMs = SECOND_MS - (this.#nowMs() % SECOND_MS)
    const atNs = this.#clock.nowNs() + Math.ceil(leftMs * 1e6)
    this.#update = this.#clock.setTimer(atNs, () => {
      this.#catchUp()
      this.#armUpdate()
    })
  }

  #periodNs(): number {
    const rate = this.#a & A_RATE
    if (rate === 0 || (this.#b & B_PIE) === 0) return 0
    // Rates 1 and 2 mean what 8 and 9 mean with the 32768 Hz time base.
    const shift = rate <= 2 ? rate + 6 : rate - 1
    return ((1 << shift) * 1e9) / 32_768
  }

  #restartPeriodic(): void {
    this.#periodic?.cancel()
    this.#periodic = undefined
    this.#periodicAtNs = -1
    const periodNs = this.#periodNs()
    // The same time, in ticks of the new length.
    const owed = periodNs > 0 ? Math.floor((this.#owed * this.#periodNsNow) / periodNs) : 0
    this.#owed = Math.min(owed, MOST_OWED)
    this.#periodNsNow = periodNs
    if (periodNs > 0) this.#armPeriodic(this.#clock.nowNs() + periodNs)
  }

  #armPeriodic(atNs: number): void {
    this.#periodicAtNs = atNs
    this.#periodic = this.#clock.setTimer(Math.ceil(atNs), () => {
      const isSeen = (this.#c & C_PF) === 0
      this.#raise(C_PF)
      const periodNs = this.#periodNs()
      if (periodNs === 0) return
      // The flag cannot count the ticks that a late timer, or guest, has missed.
      const missed = Math.max(0, Math.floor((this.#clock.nowNs() - atNs) / periodNs))
      if (this.#catchesUp) {
        this.#owed = Math.min(this.#owed + missed + (isSeen ? 0 : 1), MOST_OWED)
        this.#atOnce = 0
      }
      this.#armPeriodic(atNs + (missed + 1) * periodNs)
    })
  }

  /** The next of the interrupts that the guest has missed, as it has seen one. */
  #pay(): void {
    if (this.#owed === 0 || (this.#b & B_PIE) === 0 || this.#atOnce === MOST_AT_ONCE) return
    this.#owed--
    this.#atOnce++
    this.#raise(C_PF)
  }

  #stopTimers(): void {
    this.#periodic?.cancel()
    this.#update?.cancel()
    this.#periodic = undefined
    this.#update = undefined
    this.#periodicAtNs = -1
  }
}

function isTimeRegister(index: number): boolean {
  return (index <= REG_A - 1 && (index > 5 || (index & 1) === 0)) || index === REG_CENTURY
}
