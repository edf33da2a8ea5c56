/** How fast something may go. */
export interface Rates {
  /** Bytes per second in the long run, from 1. */
  average: number
  /** Bytes per second at most while `burst` lasts; absent or 0 for any. */
  peak?: number
  /** Bytes that may go at once; by default, and at least, those of 10 ms and of one large packet. */
  burst?: number
}

/** A large packet, and what goes in the time that timers of the host may be late. */
const LEAST_BURST_BYTES = 65_550
const LEAST_BURST_MS = 10

/** Two buckets of tokens, a byte each (RFC 2698): who takes from them may go into debt with the last frame. */
export class TokenBucket {
  #rates: Rates
  #tokens: number
  #peakTokens: number
  #ms: number

  /** `ms` is the time of a clock that never goes back. */
  constructor(rates: Rates, ms: number) {
    this.#rates = rates
    this.#ms = ms
    this.#tokens = this.#burst
    this.#peakTokens = this.#peakBurst
  }

  /** What was saved up stays, as far as it fits. */
  setRates(rates: Rates): void {
    this.#rates = rates
    this.#tokens = Math.min(this.#tokens, this.#burst)
    this.#peakTokens = Math.min(this.#peakTokens, this.#peakBurst)
  }

  refill(ms: number): void {
    const seconds = Math.max(0, ms - this.#ms) / 1000
    this.#ms = Math.max(ms, this.#ms)
    const { average } = this.#rates
    this.#tokens = Math.min(this.#burst, this.#tokens + average * seconds)
    this.#peakTokens = Math.min(this.#peakBurst, this.#peakTokens + this.#peak * seconds)
  }

  get isOpen(): boolean {
    return this.#tokens > 0 && (this.#peak === 0 || this.#peakTokens > 0)
  }

  take(bytes: number): void {
    this.#tokens -= bytes
    this.#peakTokens -= bytes
  }

  giveBack(bytes: number): void {
    this.take(-bytes)
  }

  /** Milliseconds after the last refill until it is open. */
  get openInMs(): number {
    const wait = (tokens: number, rate: number): number =>
      tokens > 0 || rate === 0 ? 0 : ((1 - tokens) / rate) * 1000
    return Math.max(wait(this.#tokens, this.#rates.average), wait(this.#peakTokens, this.#peak))
  }

  get #peak(): number {
    return this.#rates.peak ?? 0
  }

  get #burst(): number {
    return Math.max(this.#rates.burst ?? 0, leastBurst(this.#rates.average))
  }

  get #peakBurst(): number {
    return leastBurst(this.#peak)
  }
}

function leastBurst(rate: number): number {
  return Math.max(LEAST_BURST_BYTES, (rate * LEAST_BURST_MS) / 1000)
}
