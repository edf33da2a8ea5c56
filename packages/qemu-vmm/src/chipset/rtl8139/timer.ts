import type { Clock, ClockTimer } from '../../device.ts'

/** It counts at the speed of the bus. */
const TICKS_PER_NS = 33e6 / 1e9
const TURN = 2 ** 32

/** A counter of 32 bits that calls when it passes a limit. */
export class TickTimer {
  readonly #clock: Clock
  readonly #passed: () => void
  #startNs = 0
  #limit = 0
  #timer: ClockTimer | undefined

  constructor(clock: Clock, passed: () => void) {
    this.#clock = clock
    this.#passed = passed
  }

  /** 0 for none. */
  get limit(): number {
    return this.#limit
  }

  /** Nanoseconds since it was 0 for the first time. */
  get ageNs(): number {
    return Math.max(0, Math.round(this.#clock.nowNs() - this.#startNs))
  }

  get ticks(): number {
    return Math.floor(this.ageNs * TICKS_PER_NS) % TURN
  }

  load(limit: number, ageNs: number): void {
    this.#limit = limit
    this.#startNs = this.#clock.nowNs() - ageNs
    this.#arm()
  }

  close(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #arm(): void {
    this.close()
    if (this.#limit === 0) return
    // Once in each turn.
    const ahead = (this.#limit - this.ticks + TURN) % TURN || TURN
    this.#timer = this.#clock.setTimer(
      this.#clock.nowNs() + Math.ceil(ahead / TICKS_PER_NS),
      () => {
        this.#timer = undefined
        this.#passed()
        this.#arm()
      },
    )
  }
}
