import type { Limit } from './limits.ts'

/** Part of a second's average that may come at once where there is no limit of bursts. */
const USUAL_BURST = 0.1

/**
 * A bucket that leaks: what is done fills it, time empties it at the average rate, and what finds it full waits. A second
 * one, which leaks at the rate of bursts, spreads a long burst over its time.
 */
export class Bucket {
  readonly #average: number
  readonly #max: number
  readonly #maxLength: number
  #level = 0
  #burst = 0

  constructor({ average, max = 0, maxLength = 1 }: Limit) {
    this.#average = average
    this.#max = max
    this.#maxLength = maxLength
  }

  /** Time has gone on. */
  leak(seconds: number): void {
    this.#level = Math.max(0, this.#level - this.#average * seconds)
    this.#burst = Math.max(0, this.#burst - this.#max * seconds)
  }

  /** So many bytes or requests begin. */
  fill(amount: number): void {
    this.#level += amount
    this.#burst += amount
  }

  /** Seconds until something may begin. */
  wait(): number {
    const size = this.#max > 0 ? this.#max * this.#maxLength : this.#average * USUAL_BURST
    const wait = Math.max(0, (this.#level - size) / this.#average)
    if (this.#maxLength === 1) return wait
    return Math.max(wait, (this.#burst - this.#max * USUAL_BURST) / this.#max)
  }
}
