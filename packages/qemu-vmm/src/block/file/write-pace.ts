/** A write to the page cache that slept, and took longer, waited for something that matters. */
const SLOW_MS = 1
/** How long nothing is written at once after a slow write, and at most, as it doubles each time. */
const FIRST_REST_MS = 100
const LONGEST_REST_MS = 30_000
/** So many quick ones in a row, and what was slow before is forgotten. */
const MANY = 1000

/**
 * Whether writes may be made on the thread that has more to do. The host cannot be asked whether one would wait for a disk,
 * for memory or for another writer: one that did says that the next would, too.
 */
export class WritePace {
  readonly #nowMs: () => number
  #restMs = FIRST_REST_MS
  #untilMs = 0
  #quick = 0

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /**
   * Runs `write`, if it may be now, which returns what `writeHere` of the addon does; the bytes that were written, or
   * undefined when none were.
   */
  run(write: () => number): number | undefined {
    const start = this.#nowMs()
    if (start < this.#untilMs) return undefined
    const result = write()
    this.#judge(result > 0 && result % 2 === 1, start)
    return result < 0 ? undefined : Math.floor(result / 2)
  }

  #judge(slept: boolean, start: number): void {
    const end = this.#nowMs()
    // One that was only kept from its processor, by other threads, would not have been quicker on another.
    if (!slept || end - start < SLOW_MS) {
      if (++this.#quick >= MANY) this.#restMs = FIRST_REST_MS
      return
    }
    this.#quick = 0
    this.#untilMs = end + this.#restMs
    this.#restMs = Math.min(this.#restMs * 2, LONGEST_REST_MS)
  }
}
