import type { MemoryParts } from 'virtio'

import { currentRing } from './file/ring.ts'
import type { Ring } from './file/ring.ts'
import { Filter } from './filter.ts'
import type { Filterable } from './filter.ts'
import { iovLength } from './iovec.ts'
import type { Iovec } from './iovec.ts'

/** Kinds of requests, as they are counted. */
export type BlockOperation = 'read' | 'write' | 'flush' | 'unmap'

/** What has been asked of a drive by its device. Plain data. */
export interface OperationStats {
  /** Requests that have succeeded. */
  operations: number
  /** Of those. */
  bytes: number
  /** Nanoseconds from the requests to their ends, also of those that failed. */
  timeNs: number
  failed: number
  /** Never tried: behind the end of the medium, for instance. */
  invalid: number
}

export interface BlockStats extends Record<BlockOperation, OperationStats> {
  /** Where the last byte ends that was ever written. */
  highestWrite: number
  /** Nanoseconds since the last request; undefined before the first one. */
  idleNs?: number
}

/** What a device has asked of its drive so far; it goes on when another medium is put in. */
export class BlockCounters {
  readonly counts: Record<BlockOperation, OperationStats> = {
    read: none(),
    write: none(),
    flush: none(),
    unmap: none(),
  }
  highestWrite = 0
  /** When the last request was. */
  lastNs: number | undefined

  /** The same as plain data, for which `nowNs` is the time. */
  stats(nowNs: number): BlockStats {
    const { read, write, flush, unmap } = this.counts
    return {
      read: { ...read },
      write: { ...write },
      flush: { ...flush },
      unmap: { ...unmap },
      highestWrite: this.highestWrite,
      ...(this.lastNs === undefined ? {} : { idleNs: nowNs - this.lastNs }),
    }
  }
}

/** A node whose requests are counted. Those that wait for the machine to go on are not at their ends yet. */
export class Accounting extends Filter implements Filterable {
  readonly #nowNs: () => number
  readonly #counters: BlockCounters
  /** Told when the size has changed; set by a device that can tell its guest. */
  onResized: (() => void) | undefined
  #plugged: Ring | undefined
  #inFlight = 0
  #onIdle: (() => void) | undefined
  /** Requests wait for this while the size changes. */
  #gate: Promise<void> | undefined

  /** `nowNs` is the host's time, which goes on while the machine stands. */
  constructor(
    node: Filterable,
    nowNs: () => number,
    counters: BlockCounters = new BlockCounters(),
  ) {
    super(node)
    this.#nowNs = nowNs
    this.#counters = counters
  }

  /** What has been counted so far. */
  stats(): BlockStats {
    return this.#counters.stats(this.#nowNs())
  }

  /** The device has refused a request by itself. */
  refused(operation: BlockOperation): void {
    this.#counters.counts[operation].invalid++
    this.#counters.lastNs = this.#nowNs()
  }

  /** Carries out a change of the size while no request is under way; those that come meanwhile wait. */
  async resize(change: () => Promise<void>): Promise<void> {
    if (this.#gate !== undefined) throw new Error('the size is being changed already')
    let open = (): void => {}
    this.#gate = new Promise((resolve) => {
      open = resolve
    })
    try {
      await this.idle()
      await change()
    } finally {
      this.#gate = undefined
      open()
    }
    this.onResized?.()
  }

  /** Resolves when no request is under way; who waits for it sees to it that none comes. */
  async idle(): Promise<void> {
    if (this.#inFlight === 0) return
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve
    })
  }

  plug(): void {
    this.#plugged = currentRing()
    this.#plugged?.plug()
  }

  unplug(): void {
    this.#plugged?.unplug()
    this.#plugged = undefined
  }

  override readNow(offset: number, target: MemoryParts): boolean {
    const node = this.node
    if (node.readNow === undefined || this.#gate !== undefined) return false
    // What is not on the disk any more fails in its turn.
    if (offset + target.length > this.sizeBytes) return false
    const start = this.#nowNs()
    if (!node.readNow(offset, target)) return false
    this.#succeeded('read', start, target.length)
    return true
  }

  override readv(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    return this.#run('read', length, () => this.node.readv(offset, iov), offset + length)
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    const node = this.node
    if (node.writeNow === undefined || this.#gate !== undefined) return false
    if (offset + source.length > this.sizeBytes) return false
    const start = this.#nowNs()
    if (!node.writeNow(offset, source)) return false
    this.#succeeded('write', start, source.length)
    const end = offset + source.length
    this.#counters.highestWrite = Math.max(this.#counters.highestWrite, end)
    return true
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    return this.#run('write', length, () => this.node.writev(offset, iov), offset + length)
  }

  override flush(): Promise<void> {
    return this.#run('flush', 0, () => this.node.flush())
  }

  override discard(offset: number, length: number): Promise<void> {
    const end = offset + length
    return this.#run('unmap', length, () => this.node.discard(offset, length), end)
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#run(
      'write',
      length,
      () => this.node.writeZeroes(offset, length, mayUnmap),
      offset + length,
    )
  }

  async #run(
    operation: BlockOperation,
    bytes: number,
    request: () => Promise<void>,
    end: number = 0,
  ): Promise<void> {
    const start = this.#nowNs()
    if (this.#gate !== undefined) await this.#gate
    this.#inFlight++
    try {
      if (end > this.sizeBytes) throw new RangeError('the disk has become smaller')
      await request()
    } catch (error) {
      const now = this.#nowNs()
      const count = this.#counters.counts[operation]
      count.failed++
      count.timeNs += now - start
      this.#counters.lastNs = now
      throw error
    } finally {
      if (--this.#inFlight === 0) this.#onIdle?.()
    }
    this.#succeeded(operation, start, bytes)
    if (operation === 'write')
      this.#counters.highestWrite = Math.max(this.#counters.highestWrite, end)
  }

  #succeeded(operation: BlockOperation, start: number, bytes: number): void {
    const now = this.#nowNs()
    const count = this.#counters.counts[operation]
    count.operations++
    count.bytes += bytes
    count.timeNs += now - start
    this.#counters.lastNs = now
  }
}

function none(): OperationStats {
  return { operations: 0, bytes: 0, timeNs: 0, failed: 0, invalid: 0 }
}
