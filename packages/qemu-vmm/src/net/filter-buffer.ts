import { DEFAULT_BATCH_BYTES, FrameBatch, type LinkGate, type LinkPassage } from 'virtio'

import { VmmError } from '../errors.ts'
import type { FilterBufferConfig } from '../objects/config.ts'
import type { GatedNetworks } from './netdevs.ts'
import type { NetworkFilter } from './network-filter.ts'

/** What is kept of one direction; beyond that the sender has to wait. */
const MOST_BYTES = 16 << 20
const MOST_INTERVAL_US = 0xffff_ffff

/** Frames of one direction that wait for the end of the interval. */
class Buffer implements LinkGate {
  readonly #passage: LinkPassage
  readonly #keeps: () => boolean
  readonly #kept: FrameBatch[] = []
  /** The first record of the first batch that was not taken. */
  #from = 0

  constructor(passage: LinkPassage, keeps: () => boolean) {
    this.#passage = passage
    this.#keeps = keeps
  }

  take(batch: FrameBatch, from: number): number {
    if (!this.#keeps() && this.#kept.length === 0) return this.#passage.pass(batch, from)
    let at = from
    for (; at < batch.used; at = batch.next(at)) {
      if (this.#kept.at(-1)?.copyRecord(batch, at) === true) continue
      if (this.#kept.length * DEFAULT_BATCH_BYTES >= MOST_BYTES) break
      const next = new FrameBatch()
      next.copyRecord(batch, at)
      this.#kept.push(next)
    }
    return at
  }

  /** The receiver takes frames again: those that could not go at the end of the interval do. */
  ready(): void {
    if (this.#from > 0) this.release()
  }

  /** The interval is over. */
  release(): void {
    const wasFull = this.#kept.length * DEFAULT_BATCH_BYTES >= MOST_BYTES
    for (let batch = this.#kept[0]; batch !== undefined; batch = this.#kept[0]) {
      this.#from = this.#passage.pass(batch, this.#from)
      if (this.#from < batch.used) break
      this.#kept.shift()
      this.#from = 0
    }
    if (wasFull) this.#passage.wake()
  }
}

/** QEMU's `filter-buffer`: frames of a network are kept, and go on together at the end of each interval. */
export class FilterBuffer implements NetworkFilter {
  readonly #buffers: Buffer[] = []
  readonly #removals: (() => void)[] = []
  #timer: NodeJS.Timeout | undefined
  #interval = 0
  #isOn: boolean

  /** @throws VmmError `E_CONFIG` for values that cannot be, `E_NETDEV` when there is no such network */
  constructor(
    { interval, netdev, queue = 'all', status = 'on' }: FilterBufferConfig,
    networks: GatedNetworks,
  ) {
    checkInterval(interval)
    this.#isOn = status === 'on'
    const keeps = (): boolean => this.#isOn
    for (const fromCard of [true, false]) {
      if (queue !== 'all' && (queue === 'rx') !== fromCard) continue
      this.#removals.push(
        networks.addGate(netdev, fromCard, (passage) => {
          const buffer = new Buffer(passage, keeps)
          this.#buffers.push(buffer)
          return buffer
        }),
      )
    }
    this.#setInterval(interval)
  }

  get(name: string): unknown {
    if (name === 'interval') return this.#interval
    return name === 'status' ? (this.#isOn ? 'on' : 'off') : undefined
  }

  set(name: string, value: unknown): boolean {
    if (name === 'interval') {
      checkInterval(value)
      this.#setInterval(value)
      return true
    }
    if (name !== 'status') return false
    if (value !== 'on' && value !== 'off') {
      throw new VmmError(
        'E_CONFIG',
        `Property 'filter-buffer.status' is ${String(value)}: use on or off`,
      )
    }
    this.#isOn = value === 'on'
    if (!this.#isOn) this.#release()
    return true
  }

  close(): void {
    clearInterval(this.#timer)
    this.#isOn = false
    this.#release()
    for (const remove of this.#removals.splice(0)) remove()
  }

  #setInterval(us: number): void {
    clearInterval(this.#timer)
    this.#interval = us
    this.#timer = setInterval(() => this.#release(), Math.max(1, us / 1000))
    this.#timer.unref()
  }

  #release(): void {
    for (const buffer of this.#buffers) buffer.release()
  }
}

function checkInterval(us: unknown): asserts us is number {
  const most = MOST_INTERVAL_US
  if (typeof us === 'number' && Number.isInteger(us) && us > 0 && us <= most) return
  throw new VmmError(
    'E_CONFIG',
    `Property 'filter-buffer.interval' requires a positive value, not '${String(us)}': use 1 to ${most}`,
  )
}
