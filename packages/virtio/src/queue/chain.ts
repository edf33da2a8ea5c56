import { VIRTQUEUE_MAX_SIZE } from '../constants.ts'
import type { GuestMemory } from '../memory.ts'
import type { GuestPages } from './pages.ts'
import type { PartList } from './part-list.ts'

const FIRST_CAPACITY = 8
/** Buffers of a large request of Linux: 254 and its header and status. */
const LARGE_CAPACITY = 256

/**
 * One chain of descriptors: what the driver wants read, then what it wants written.
 *
 * Buffers are pairs of `gpas[i]` and `lengths[i]`; the first `readableCount` are device-readable,
 * those up to `count` device-writable. Descriptors of length 0 are left out. A chain belongs to
 * its queue and is used again after `pushUsed`, so nobody may keep it longer.
 */
export class DescriptorChain {
  readonly #memory: GuestMemory
  readonly #pages: GuestPages
  readonly #word: Uint8Array = new Uint8Array(8)
  gpas: Float64Array = new Float64Array(FIRST_CAPACITY)
  /** Bytes of each buffer. */
  lengths: Uint32Array = new Uint32Array(FIRST_CAPACITY)
  count = 0
  readableCount = 0
  readableBytes = 0
  writableBytes = 0
  /** Index of the first descriptor, by which the driver knows the chain. */
  head = 0
  /** In order of being popped. */
  sequence = 0
  /**
   * In use, with a queue that was neither reset nor failed since: only then the memory may be
   * touched.
   */
  live = false
  #abandoned = false

  constructor(memory: GuestMemory, pages: GuestPages) {
    this.#memory = memory
    this.#pages = pages
  }

  /** Between pop and push. */
  get inUse(): boolean {
    return this.live || this.#abandoned
  }

  /** In use still, but with nothing to do any more. */
  abandon(): void {
    this.live = false
    this.#abandoned = true
  }

  /** No longer in use, after it was abandoned. Throws for one that was not in use. */
  release(): void {
    if (!this.#abandoned) throw new TypeError('a chain was pushed twice')
    this.#abandoned = false
  }

  /** Forgets all buffers. */
  clear(): void {
    this.count = 0
    this.readableCount = 0
    this.readableBytes = 0
    this.writableBytes = 0
  }

  readonly #checkWritable = (gpa: number, length: number): void => {
    this.#pages.checkWritable(gpa, length)
  }

  /** Makes more room in the arrays: at once what large requests have, then twice as much each time. */
  grow(): void {
    const capacity = Math.max(this.lengths.length * 2, LARGE_CAPACITY)
    if (capacity > VIRTQUEUE_MAX_SIZE * 2) throw new RangeError('a chain cannot be that long')
    const gpas = new Float64Array(capacity)
    const lengths = new Uint32Array(capacity)
    gpas.set(this.gpas)
    lengths.set(this.lengths)
    this.gpas = gpas
    this.lengths = lengths
  }

  /**
   * Copies device-readable bytes from `offset` to `target[at]` and on, at most `most`; returns how many
   * there were. Throws `E_GUEST_ADDRESS`.
   */
  read(
    offset: number,
    target: Uint8Array,
    at: number = 0,
    most: number = target.length - at,
  ): number {
    let done = 0
    let skip = offset
    for (let i = 0; i < this.readableCount && done < most; i++) {
      const length = this.lengths[i]!
      if (skip >= length) {
        skip -= length
        continue
      }
      const part = Math.min(length - skip, most - done)
      this.#pages.read(this.gpas[i]! + skip, target, at + done, part)
      done += part
      skip = 0
    }
    return done
  }

  /**
   * Copies `source` from `at` on, at most `most` bytes, to the device-writable bytes from `offset` and
   * reports them as written; returns how many fitted. A chain that is no longer live is left alone.
   */
  write(
    offset: number,
    source: Uint8Array,
    at: number = 0,
    most: number = source.length - at,
  ): number {
    if (!this.live) return 0
    let done = 0
    let skip = offset
    for (let i = this.readableCount; i < this.count && done < most; i++) {
      const length = this.lengths[i]!
      if (skip >= length) {
        skip -= length
        continue
      }
      const part = Math.min(length - skip, most - done)
      this.#pages.write(this.gpas[i]! + skip, source, at + done, part)
      done += part
      skip = 0
    }
    return done
  }

  /** Writes one device-writable byte. */
  writeByte(offset: number, value: number): void {
    this.#word[0] = value
    this.write(offset, this.#word.subarray(0, 1))
  }

  /** Views of `length` device-readable bytes from `offset`, for input and output without a copy. */
  readableViews(offset: number, length: number): Uint8Array[] {
    return this.#views(0, this.readableCount, offset, length, false)
  }

  /** Views of device-writable bytes; follow a write with {@link markWritten}. */
  writableViews(offset: number, length: number): Uint8Array[] {
    return this.#views(this.readableCount, this.count, offset, length, true)
  }

  /** Adds `length` device-readable bytes from `offset` on. */
  readableParts(offset: number, length: number, list: PartList): void {
    let skip = offset
    let left = length
    for (let i = 0; i < this.readableCount && left > 0; i++) {
      const size = this.lengths[i]!
      if (skip >= size) {
        skip -= size
        continue
      }
      const part = Math.min(size - skip, left)
      list.add(this.gpas[i]! + skip, part)
      left -= part
      skip = 0
    }
  }

  /** Adds the first `length` device-writable bytes; follow a write with {@link markWritten}. */
  writableParts(length: number, list: PartList): void {
    const most = Math.min(length, this.writableBytes)
    list.addAll(this.gpas, this.lengths, this.readableCount, most, this.#checkWritable)
  }

  /** Reports all buffers with any of these device-writable bytes as written. */
  markWritten(offset: number, length: number): void {
    if (length === 0) return
    let first = this.readableCount
    let before = 0
    while (first < this.count && before + this.lengths[first]! <= offset) {
      before += this.lengths[first++]!
    }
    let end = first
    while (end < this.count && before < offset + length) before += this.lengths[end++]!
    if (this.#memory.markAllWritten !== undefined) {
      this.#memory.markAllWritten(this.gpas, this.lengths, first, end)
      return
    }
    for (let i = first; i < end; i++) this.#memory.markWritten(this.gpas[i]!, this.lengths[i]!)
  }

  #views(
    first: number,
    end: number,
    offset: number,
    length: number,
    writable: boolean,
  ): Uint8Array[] {
    const views: Uint8Array[] = []
    let skip = offset
    let left = length
    for (let i = first; i < end && left > 0; i++) {
      const size = this.lengths[i]!
      if (skip >= size) {
        skip -= size
        continue
      }
      const part = Math.min(size - skip, left)
      const gpa = this.gpas[i]! + skip
      if (writable) this.#pages.checkWritable(gpa, part)
      const pieces = this.#memory.pieces(gpa, part)
      for (let piece = 0; piece < pieces.length; piece++) views.push(pieces[piece]!)
      left -= part
      skip = 0
    }
    return views
  }
}
