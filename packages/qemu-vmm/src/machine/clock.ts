import type { Clock, ClockTimer } from '../device.ts'

/** A clock that the machine can stop, start and set when a saved state is loaded. */
export interface MachineClock extends Clock {
  pause(): void
  resume(): void
  /** Sets guest time, while the clock is paused. */
  set(nowNs: number): void
}

interface Pending {
  atNs: number
  fn: () => void
  handle: NodeJS.Timeout | undefined
}

// setTimeout takes 31 bits of milliseconds; a later deadline is re-armed when the first part has
// passed.
const MAX_TIMEOUT_MS = 0x7fffffff

/** The clocks may differ by this much before the system clock counts as set. */
const WALL_SLACK_MS = 2

/** Guest time that goes on with the host's time. Starts paused. */
export class HostClock implements MachineClock {
  /** The system clock against the steady one. */
  #wallOffsetMs = 0
  readonly #guestNs: (() => number) | undefined
  readonly #timers = new Set<Pending>()
  /** Guest time while the clock is paused. */
  #pausedNs: number | undefined
  /** Guest time minus the time of `performance`, when there is no other source. */
  #offsetNs = 0

  /**
   * @param guestNs guest time as somebody else keeps it, who also sets it back to where it was
   *   before this clock is resumed; without it this clock counts on its own from 0.
   */
  constructor(guestNs?: () => number) {
    this.#guestNs = guestNs
    this.#pausedNs = guestNs === undefined ? 0 : guestNs()
  }

  nowNs(): number {
    return this.#pausedNs ?? this.#runningNs()
  }

  wallMs(): number {
    // The system clock has whole milliseconds here, too coarse for a guest that waits for the last
    // quarter of one; the steady clock has the fraction, until somebody sets the system clock.
    const wall = Date.now()
    const steady = performance.timeOrigin + performance.now() + this.#wallOffsetMs
    if (Math.abs(steady - wall) <= WALL_SLACK_MS) return steady
    this.#wallOffsetMs += wall - steady
    return wall
  }

  setTimer(atNs: number, fn: () => void): ClockTimer {
    const timer: Pending = { atNs, fn, handle: undefined }
    this.#timers.add(timer)
    if (this.#pausedNs === undefined) this.#arm(timer)
    return {
      cancel: () => {
        this.#timers.delete(timer)
        clearTimeout(timer.handle)
      },
    }
  }

  pause(): void {
    if (this.#pausedNs !== undefined) return
    this.#pausedNs = this.nowNs()
    for (const timer of this.#timers) clearTimeout(timer.handle)
  }

  resume(): void {
    if (this.#pausedNs === undefined) return
    this.#offsetNs = this.#pausedNs - hostNs()
    this.#pausedNs = undefined
    for (const timer of this.#timers) this.#arm(timer)
  }

  set(nowNs: number): void {
    this.#pausedNs = nowNs
  }

  #runningNs(): number {
    return this.#guestNs === undefined ? hostNs() + this.#offsetNs : this.#guestNs()
  }

  #arm(timer: Pending): void {
    const delayMs = Math.max(0, Math.ceil((timer.atNs - this.nowNs()) / 1e6))
    timer.handle = setTimeout(() => this.#fire(timer), Math.min(delayMs, MAX_TIMEOUT_MS))
    timer.handle.unref()
  }

  #fire(timer: Pending): void {
    if (timer.atNs > this.nowNs()) return this.#arm(timer)
    this.#timers.delete(timer)
    timer.fn()
  }
}

function hostNs(): number {
  return Math.round(performance.now() * 1e6)
}

/** A clock that moves only when told, for tests and deterministic runs. */
export class ManualClock implements MachineClock {
  #nowNs = 0
  #paused = false
  readonly #wallAtStartMs: number
  readonly #timers: { atNs: number; fn: () => void }[] = []

  constructor(wallAtStartMs = 0) {
    this.#wallAtStartMs = wallAtStartMs
  }

  nowNs(): number {
    return this.#nowNs
  }

  wallMs(): number {
    return this.#wallAtStartMs + this.#nowNs / 1e6
  }

  setTimer(atNs: number, fn: () => void): ClockTimer {
    const timer = { atNs, fn }
    this.#timers.push(timer)
    return {
      cancel: () => {
        const at = this.#timers.indexOf(timer)
        if (at >= 0) this.#timers.splice(at, 1)
      },
    }
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
  }

  set(nowNs: number): void {
    this.#nowNs = nowNs
  }

  /** Moves time forward and runs the timers that come due, each at its own time. */
  advance(byNs: number): void {
    if (this.#paused) return
    const endNs = this.#nowNs + byNs
    for (;;) {
      let next: { atNs: number; fn: () => void } | undefined
      for (const timer of this.#timers) {
        if (timer.atNs <= endNs && (next === undefined || timer.atNs < next.atNs)) next = timer
      }
      if (next === undefined) break
      this.#timers.splice(this.#timers.indexOf(next), 1)
      this.#nowNs = Math.max(this.#nowNs, next.atNs)
      next.fn()
    }
    this.#nowNs = endNs
  }
}
