import { FrameBatch, type LinkGate, type LinkPassage } from 'virtio'

import { VmmError } from '../errors.ts'
import type { FilterThrottleConfig } from '../objects/config.ts'
import type { GatedNetworks } from './netdevs.ts'
import type { NetworkFilter } from './network-filter.ts'
import { type Rates, TokenBucket } from './token-bucket.ts'

const RATES = ['average', 'peak', 'burst'] as const
/** Timers of the host are no finer. */
const LEAST_WAIT_MS = 1

/** Lets the frames of one direction through as fast as a bucket of tokens allows; the sender keeps the others. */
class Throttle implements LinkGate {
  readonly #passage: LinkPassage
  readonly #bucket: TokenBucket
  readonly #part: FrameBatch = new FrameBatch()
  #timer: NodeJS.Timeout | undefined

  constructor(passage: LinkPassage, bucket: TokenBucket) {
    this.#passage = passage
    this.#bucket = bucket
  }

  take(batch: FrameBatch, from: number): number {
    this.#bucket.refill(performance.now())
    let to = from
    while (to < batch.used && this.#bucket.isOpen) {
      this.#bucket.take(batch.frameBytes(to))
      to = batch.next(to)
    }
    if (to < batch.used) this.#wait()
    if (to === from) return from
    const taken =
      to === batch.used ? this.#passage.pass(batch, from) : this.#passPart(batch, from, to)
    // What the receiver did not take comes again.
    for (let at = taken; at < to; at = batch.next(at)) this.#bucket.giveBack(batch.frameBytes(at))
    return taken
  }

  /** The sender offers by itself what it kept. */
  ready(): void {}

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Its rates have changed. */
  wake(): void {
    this.stop()
    this.#passage.wake()
  }

  #passPart(batch: FrameBatch, from: number, to: number): number {
    const part = this.#part
    let taken = from
    while (taken < to) {
      part.clear()
      let at = taken
      while (at < to && part.copyRecord(batch, at)) at = batch.next(at)
      // Records are as long here as there.
      const here = this.#passage.pass(part, 0)
      taken += here
      if (here < part.used) break
    }
    return taken
  }

  #wait(): void {
    if (this.#timer !== undefined) return
    const ms = Math.max(LEAST_WAIT_MS, this.#bucket.openInMs)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#passage.wake()
    }, ms)
    this.#timer.unref()
  }
}

/**
 * `filter-throttle`, which QEMU has not: the frames of a network go no faster than a rate. A frame that has to wait stays
 * with the card or the network that sends it, so none is lost here.
 */
export class FilterThrottle implements NetworkFilter {
  readonly #throttles: { throttle: Throttle; bucket: TokenBucket }[] = []
  readonly #removals: (() => void)[] = []
  #rates: Rates

  /** @throws VmmError `E_CONFIG` for rates that cannot be, `E_NETDEV` when there is no such network */
  constructor(config: FilterThrottleConfig, networks: GatedNetworks) {
    const { netdev, queue = 'all', average, peak, burst } = config
    this.#rates = {
      average,
      ...(peak === undefined ? {} : { peak }),
      ...(burst === undefined ? {} : { burst }),
    }
    checkRates(this.#rates)
    for (const fromCard of [true, false]) {
      if (queue !== 'all' && (queue === 'rx') !== fromCard) continue
      const bucket = new TokenBucket(this.#rates, performance.now())
      this.#removals.push(
        networks.addGate(netdev, fromCard, (passage) => {
          const throttle = new Throttle(passage, bucket)
          this.#throttles.push({ throttle, bucket })
          return throttle
        }),
      )
    }
  }

  get(name: string): unknown {
    return isRate(name) ? (this.#rates[name] ?? 0) : undefined
  }

  set(name: string, value: unknown): boolean {
    if (!isRate(name)) return false
    const rates = { ...this.#rates, [name]: value }
    checkRates(rates)
    this.#rates = rates
    for (const { throttle, bucket } of this.#throttles) {
      bucket.refill(performance.now())
      bucket.setRates(rates)
      throttle.wake()
    }
    return true
  }

  close(): void {
    for (const { throttle } of this.#throttles) throttle.stop()
    for (const remove of this.#removals.splice(0)) remove()
  }
}

function isRate(name: string): name is (typeof RATES)[number] {
  return (RATES as readonly string[]).includes(name)
}

function checkRates(rates: { readonly [name in keyof Rates]: unknown }): void {
  for (const name of RATES) {
    const value = rates[name]
    const least = name === 'average' ? 1 : 0
    if (name !== 'average' && value === undefined) continue
    if (Number.isSafeInteger(value) && (value as number) >= least) continue
    const unit = name === 'burst' ? 'bytes' : 'bytes per second'
    throw new VmmError(
      'E_CONFIG',
      `Property 'filter-throttle.${name}' doesn't take value '${String(value)}': it is in ${unit}, from ${least}`,
    )
  }
  const { average, peak } = rates as Rates
  if (peak === undefined || peak === 0 || peak >= average) return
  throw new VmmError(
    'E_CONFIG',
    `Property 'filter-throttle.peak' is ${peak}: use at least the average, ${average}, or 0 for none`,
  )
}
