import type { Clock, ClockTimer, Device, IrqLine } from '../../device.ts'
import { flag, int, list, parseState, u32 } from '../../machine/state.ts'
import type { Field } from '../../machine/state.ts'
import {
  HpetTimer,
  TIMER_STATE,
  TN_ENABLE,
  TN_FSB_ENABLE,
  TN_LEVEL,
  TN_ROUTE_MASK,
  TN_ROUTE_SHIFT,
} from './timer.ts'
import type { HpetTimerState } from './timer.ts'
import type { UnknownCommand } from '../unknown-command.ts'

export const HPET_BASE = 0xfed0_0000
export const HPET_BYTES = 0x400
export const HPET_MIN_TIMERS = 3
export const HPET_MAX_TIMERS = 32

/** Vendor 8086, legacy replacement, 64-bit counter, revision 1. */
const ID = 0x8086_a001
const ID_TIMERS_SHIFT = 8
const TICK_NS = 10
const PERIOD_FS = TICK_NS * 1_000_000

const CONFIG_ENABLE = 1
const CONFIG_LEGACY = 2
const CONFIG_WRITABLE = CONFIG_ENABLE | CONFIG_LEGACY

const TIMERS_AT = 0x100
const TIMER_BYTES = 0x20
const ROUTES = 24
const TIMER_GSI = 0
const RTC_GSI = 8
const TWO32 = 0x1_0000_0000
/** Beyond it a deadline is further away than any guest lives: 104 days. */
const FURTHEST_TICKS = BigInt(Math.floor(Number.MAX_SAFE_INTEGER / TICK_NS / 2))

export interface HpetState {
  config: number
  status: number
  counterLow: number
  counterHigh: number
  /** Guest time at which the counter had that value, while it runs. */
  sinceNs: number
  rtcLevel: boolean
  timers: HpetTimerState[]
}

/** What the timer block is connected to. */
export interface HpetParts {
  clock: Clock
  /** The line of a global system interrupt, 0 to 23. */
  line(gsi: number): IrqLine
  /** Sends a message, in place of an interrupt. */
  sendMessage(address: number, data: number): unknown
  /** Legacy replacement takes the first timer's line from the PIT, or gives it back. */
  setPit(connected: boolean): void
  /** Comparators, 3 by default. */
  timers?: number
  /** Interrupts that comparators may be routed to, one bit for each. */
  routes: number
  /** Comparators can send messages. */
  msi?: boolean
  unknown?: UnknownCommand
}

/**
 * The timer block of ICH chips (IA-PC HPET 1.0a) as QEMU has it: a counter of 100 MHz and comparators.
 *
 * In legacy replacement mode the first two comparators have the lines of PIT and RTC, whose own
 * interrupts are cut off.
 */
export class Hpet implements Device<HpetState> {
  /** What the RTC drives. */
  readonly rtcLine: IrqLine
  readonly #parts: HpetParts
  readonly #lines: readonly IrqLine[]
  /** What of the RTC's line comes through. */
  readonly #rtc: IrqLine
  readonly #timers: readonly HpetTimer[]
  readonly #pending: (ClockTimer | undefined)[]
  readonly #atNs: number[]
  #config = 0
  #status = 0
  #counterLow = 0
  #counterHigh = 0
  #sinceNs = 0
  #rtcLevel = false

  constructor(parts: HpetParts) {
    this.#parts = parts
    this.#lines = Array.from({ length: ROUTES }, (_, gsi) => parts.line(gsi))
    this.#rtc = parts.line(RTC_GSI)
    this.#timers = Array.from(
      { length: parts.timers ?? HPET_MIN_TIMERS },
      () => new HpetTimer(parts.routes, parts.msi ?? false),
    )
    this.#pending = this.#timers.map(() => undefined)
    this.#atNs = this.#timers.map(() => -1)
    const set = (level: boolean): void => {
      this.#rtcLevel = level
      if (!this.#isLegacy) this.#rtc.set(level)
    }
    this.rtcLine = {
      set,
      pulse() {
        set(true)
        set(false)
      },
    }
  }

  /** The identification register. */
  get id(): number {
    return (ID | ((this.#timers.length - 1) << ID_TIMERS_SHIFT)) >>> 0
  }

  reset(): void {
    for (const n of this.#timers.keys()) this.#stop(n)
    for (const timer of this.#timers) timer.reset()
    const wasLegacy = this.#isLegacy
    this.#config = 0
    this.#status = 0
    this.#counterLow = 0
    this.#counterHigh = 0
    this.#sinceNs = 0
    if (wasLegacy) this.#leaveLegacy()
  }

  read(offset: number, size: number): number {
    // Only whole aligned registers of 32 bits answer; the bus makes two of 64 bits.
    if (size !== 4 || (offset & 3) !== 0) return 0
    if (offset >= TIMERS_AT) {
      const timer = this.#timers[(offset - TIMERS_AT) >> 5]
      return timer?.read(offset & (TIMER_BYTES - 1)) ?? 0
    }
    switch (offset) {
      case 0x00:
        return this.id
      case 0x04:
        return PERIOD_FS
      case 0x10:
        return this.#config
      case 0x20:
        return this.#status >>> 0
      case 0xf0:
        return (this.#counterLow + this.#elapsed()) % TWO32
      case 0xf4:
        return (this.#counterHigh + Math.floor((this.#counterLow + this.#elapsed()) / TWO32)) >>> 0
      // Upper halves.
      case 0x14:
      case 0x24:
        return 0
      default:
        this.#parts.unknown?.('read of register', offset)
        return 0
    }
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4 || (offset & 3) !== 0) return
    if (offset >= TIMERS_AT) {
      const n = (offset - TIMERS_AT) >> 5
      const timer = this.#timers[n]
      if (timer !== undefined) this.#writeTimer(n, timer, offset & (TIMER_BYTES - 1), value)
      return
    }
    switch (offset) {
      case 0x10:
        this.#writeConfig(value)
        break
      case 0x20:
        for (const n of this.#timers.keys()) {
          if ((value & this.#status & (1 << n)) !== 0) this.#update(n, false)
        }
        break
      // Software must halt the counter first.
      case 0xf0:
        if (!this.#isEnabled) this.#counterLow = value
        break
      case 0xf4:
        if (!this.#isEnabled) this.#counterHigh = value
        break
      case 0x14:
      case 0x24:
        break
      default:
        this.#parts.unknown?.('write of register', offset)
        break
    }
  }

  save(): HpetState {
    return {
      config: this.#config,
      status: this.#status >>> 0,
      counterLow: this.#counterLow,
      counterHigh: this.#counterHigh,
      sinceNs: this.#sinceNs,
      rtcLevel: this.#rtcLevel,
      timers: this.#timers.map((timer, n) => timer.save(this.#atNs[n]!)),
    }
  }

  load(state: HpetState): void {
    const s = parseState<HpetState>('hpet', state, STATE)
    const timers = s.timers.map((timer) => parseState<HpetTimerState>('hpet', timer, TIMER_STATE))
    for (const n of this.#timers.keys()) this.#cancel(n)
    this.#config = s.config & CONFIG_WRITABLE
    this.#counterLow = s.counterLow
    this.#counterHigh = s.counterHigh
    this.#sinceNs = s.sinceNs
    this.#rtcLevel = s.rtcLevel
    this.#status = s.status
    for (const [n, timer] of this.#timers.entries()) {
      const saved = timers[n]
      if (saved === undefined) timer.reset()
      else timer.load(saved)
      if (saved !== undefined && saved.atNs >= 0) this.#schedule(n, saved.atNs)
    }
    this.#drive()
    // The PIT has its own half of the switch in its own state.
    this.#rtc.set(!this.#isLegacy && this.#rtcLevel)
  }

  get #isLegacy(): boolean {
    return (this.#config & CONFIG_LEGACY) !== 0
  }

  get #isEnabled(): boolean {
    return (this.#config & CONFIG_ENABLE) !== 0
  }

  /** Ticks since the counter had the value in its registers. */
  #elapsed(): number {
    if (!this.#isEnabled) return 0
    return Math.max(0, Math.floor((this.#parts.clock.nowNs() - this.#sinceNs) / TICK_NS))
  }

  #counter(): bigint {
    const start = (BigInt(this.#counterHigh) << 32n) | BigInt(this.#counterLow)
    return BigInt.asUintN(64, start + BigInt(this.#elapsed()))
  }

  #writeConfig(value: number): void {
    const before = this.#config
    const changed = (before ^ value) & CONFIG_WRITABLE
    const counter = this.#counter()
    this.#config = value & CONFIG_WRITABLE
    if ((changed & CONFIG_ENABLE) !== 0 && this.#isEnabled) {
      this.#sinceNs = Math.floor(this.#parts.clock.nowNs())
      for (const [n, timer] of this.#timers.entries()) {
        if (timer.comparator !== 0xffff_ffff_ffff_ffffn) this.#start(n, timer)
      }
    } else if ((changed & CONFIG_ENABLE) !== 0) {
      this.#counterLow = Number(counter & 0xffff_ffffn)
      this.#counterHigh = Number(counter >> 32n)
      for (const n of this.#timers.keys()) this.#stop(n)
    }
    if ((changed & CONFIG_LEGACY) === 0) return
    this.#drive()
    if (!this.#isLegacy) return this.#leaveLegacy()
    this.#parts.setPit(false)
    this.#rtc.set(false)
  }

  #leaveLegacy(): void {
    this.#parts.setPit(true)
    this.#rtc.set(this.#rtcLevel)
  }

  #writeTimer(n: number, timer: HpetTimer, offset: number, value: number): void {
    switch (offset) {
      case 0x00: {
        if ((value & ~timer.config & TN_FSB_ENABLE) !== 0) this.#update(n, false)
        const changed = timer.writeConfig(value)
        // An interrupt that is moved elsewhere must not stay where it was.
        this.#drive()
        if ((changed & TN_ENABLE) === 0) return
        if (!timer.isEnabled) this.#stop(n)
        else if (this.#isEnabled) this.#start(n, timer)
        break
      }
      case 0x08:
      case 0x0c:
        timer.writeComparator(offset === 0x0c, value)
        if (this.#isEnabled) this.#start(n, timer)
        break
      case 0x10:
        timer.fsbValue = value
        break
      case 0x14:
        timer.fsbAddress = value
        break
      default:
        break
    }
  }

  #start(n: number, timer: HpetTimer): void {
    this.#scheduleIn(n, timer.arm(this.#counter()))
  }

  #stop(n: number): void {
    this.#cancel(n)
    this.#update(n, false)
  }

  #scheduleIn(n: number, ticks: bigint): void {
    const near = ticks < FURTHEST_TICKS ? ticks : FURTHEST_TICKS
    this.#schedule(n, Math.floor(this.#parts.clock.nowNs()) + Number(near) * TICK_NS)
  }

  #schedule(n: number, atNs: number): void {
    this.#cancel(n)
    this.#atNs[n] = atNs
    this.#pending[n] = this.#parts.clock.setTimer(atNs, () => {
      this.#atNs[n] = -1
      this.#pending[n] = undefined
      const next = this.#timers[n]!.expire(this.#counter())
      if (next !== undefined) this.#scheduleIn(n, next)
      this.#update(n, true)
    })
  }

  #cancel(n: number): void {
    this.#pending[n]?.cancel()
    this.#pending[n] = undefined
    this.#atNs[n] = -1
  }

  /** An interrupt of a comparator begins, or ends. */
  #update(n: number, isDue: boolean): void {
    const timer = this.#timers[n]!
    const bit = 1 << n
    const isMessage = (timer.config & TN_FSB_ENABLE) !== 0
    const isOn = isDue && timer.isEnabled && this.#isEnabled
    const isLevel = isOn && !isMessage && (timer.config & TN_LEVEL) !== 0
    this.#status = isLevel ? this.#status | bit : this.#status & ~bit
    if (isOn && isMessage) this.#parts.sendMessage(timer.fsbAddress, timer.fsbValue)
    else if (isOn && !isLevel) this.#lines[this.#route(n, timer)]?.pulse()
    this.#drive()
  }

  /** Lines are high for level-triggered interrupts that are due. */
  #drive(): void {
    let high = 0
    for (const [n, timer] of this.#timers.entries()) {
      const isMessage = (timer.config & TN_FSB_ENABLE) !== 0
      if ((this.#status & (1 << n)) !== 0 && !isMessage) high |= 1 << this.#route(n, timer)
    }
    for (const [gsi, line] of this.#lines.entries()) line.set((high & (1 << gsi)) !== 0)
  }

  #route(n: number, timer: HpetTimer): number {
    if (this.#isLegacy && n <= 1) return n === 0 ? TIMER_GSI : RTC_GSI
    return (timer.config >> TN_ROUTE_SHIFT) & TN_ROUTE_MASK
  }
}

const anything: Field<HpetTimerState> = (value) => value as HpetTimerState
const STATE: { readonly [K in keyof HpetState]: Field<HpetState[K]> } = {
  config: u32,
  status: u32,
  counterLow: u32,
  counterHigh: u32,
  sinceNs: int(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
  rtcLevel: flag,
  timers: list(anything, HPET_MAX_TIMERS),
}
