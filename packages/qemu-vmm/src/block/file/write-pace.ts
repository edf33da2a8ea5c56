/** A write to the page cache that took longer waited for something. */
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

  /** Runs `write`, if it may be now; undefined when it may not. */
  run(write: () => number): number | undefined {
    const start = this.#nowMs()
    if (start < this.#untilMs) return undefined
    const result = write()
    const end = this.#nowMs()
    if (end - start < SLOW_MS) {
      if (++this.#quick >= MANY) this.#restMs = FIRST_REST_MS
      return result
    }
    this.#quick = 0
    this.#untilMs = end + this.#restMs
    this.#restMs = Math.min(this.#restMs * 2, LONGEST_REST_MS)
    return result
  }
}
