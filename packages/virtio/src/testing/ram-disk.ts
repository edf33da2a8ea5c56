import type { BlkBackend } from '../devices/blk/backend.ts'
import type { MemoryParts } from '../memory.ts'

/** A disk in memory whose requests end when the test says so, or by themselves. */
export class RamDisk implements BlkBackend {
  readonly data: Uint8Array
  readonly readOnly: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number = 4096
  /** What was asked for, in order. */
  readonly calls: string[] = []
  /** Requests wait for `release` while true. */
  hold = false
  /** Requests fail while true. */
  broken = false
  /** Reads and writes are answered at once while true, unless they are held or fail. */
  now = false
  /** Kinds of requests that the device has refused. */
  readonly refusals: string[] = []
  #waiting: (() => void)[] = []

  constructor(sizeBytes: number, options: { readOnly?: boolean; logicalBlockBytes?: number } = {}) {
    this.data = new Uint8Array(sizeBytes)
    this.readOnly = options.readOnly ?? false
    this.logicalBlockBytes = options.logicalBlockBytes ?? 512
  }

  get sizeBytes(): number {
    return this.data.length
  }

  /** Requests that wait. */
  get held(): number {
    return this.#waiting.length
  }

  /** Lets those that wait go on: the last first, because no order is promised. */
  release(): void {
    const waiting = this.#waiting.toReversed()
    this.#waiting = []
    for (const go of waiting) go()
  }

  readNow(offset: number, target: MemoryParts): boolean {
    if (!this.now || this.hold || this.broken) return false
    this.calls.push(`now ${offset} ${target.length}`)
    let at = offset
    for (let part = 0; part < target.count; part++) {
      const [buffer = 0, from = 0, length = 0] = target.parts.subarray(3 * part)
      target.buffers[buffer]!.set(this.data.subarray(at, at + length), from)
      at += length
    }
    return true
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    if (!this.now || this.hold || this.broken) return false
    this.calls.push(`write now ${offset} ${source.length}`)
    let at = offset
    for (let part = 0; part < source.count; part++) {
      const [buffer = 0, from = 0, length = 0] = source.parts.subarray(3 * part)
      this.data.set(source.buffers[buffer]!.subarray(from, from + length), at)
      at += length
    }
    return true
  }

  refused(operation: string): void {
    this.refusals.push(operation)
  }

  async readv(offset: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.#start(`read ${offset} ${total(iov)}`)
    let at = offset
    for (const view of iov) {
      view.set(this.data.subarray(at, at + view.length))
      at += view.length
    }
  }

  async writev(offset: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.#start(`write ${offset} ${total(iov)}`)
    let at = offset
    for (const view of iov) {
      this.data.set(view, at)
      at += view.length
    }
  }

  async flush(): Promise<void> {
    await this.#start('flush')
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#start(`discard ${offset} ${length}`)
    this.data.fill(0xdd, offset, offset + length)
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#start(`zero ${offset} ${length} ${mayUnmap}`)
    this.data.fill(0, offset, offset + length)
  }

  async #start(call: string): Promise<void> {
    this.calls.push(call)
    if (this.hold) await new Promise<void>((resolve) => void this.#waiting.push(resolve))
    if (this.broken) throw new Error('the disk is broken')
  }
}

function total(iov: readonly Uint8Array[]): number {
  return iov.reduce((sum, view) => sum + view.length, 0)
}
