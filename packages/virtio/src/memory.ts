import type { QueueLink } from './net/ring-loan.ts'

/**
 * Guest RAM as a virtio device sees it, implemented by the embedder.
 *
 * Every method throws, before anything is touched, when a part of the range is not in RAM; what
 * it throws makes the device that asked need a reset. RAM begins and ends at multiples of 4096.
 */
export interface GuestMemory {
  /**
   * Views of `[gpa, gpa + length)` in order: one, or more where the range crosses from one piece
   * of RAM into the next. Who writes through them calls `markWritten` afterwards.
   */
  pieces(gpa: number, length: number): Uint8Array[]
  /**
   * Where a ring is: a place of at least `length` bytes in an ArrayBuffer. It is kept until
   * `generation` changes, and is fastest when the buffer is not much larger than the ring. Throws
   * as well when the range is not in one piece of RAM.
   */
  window(gpa: number, length: number): { buffer: ArrayBuffer; byteOffset: number }
  /**
   * All of the RAM that lies together around `gpa`, the same view at every call until `generation`
   * changes. Without this method nothing is read at once. `readOnly: false` says that `isWritable` is true for all of it.
   */
  piece?(gpa: number): {
    readonly gpa: number
    readonly bytes: Uint8Array
    readonly readOnly?: boolean
  }
  /** Reports a write: for the dirty log, and for code that was decoded from there. */
  markWritten(gpa: number, length: number): void
  /** Reports writes, the entries `first` up to `end` of two arrays, where that is cheaper at once. */
  markAllWritten?(gpas: Float64Array, lengths: Uint32Array, first: number, end: number): void
  /** False where a device may only read, such as ROM. Without this method all RAM is writable. */
  isWritable?(gpa: number, length: number): boolean
  /** Changes whenever memory slots change, so that windows and views are made anew. */
  readonly generation: number
}

/** Parts of a few buffers, in order: an iovec of readv(2) without an object for each part. */
export interface MemoryParts {
  readonly buffers: readonly Uint8Array[]
  /** Three numbers for each part: which buffer, where in it, how many bytes. */
  readonly parts: Uint32Array
  readonly count: number
  /** Bytes of all parts together. */
  readonly length: number
}

/** How a device interrupts its driver; a transport implements it. */
export interface Interrupt {
  /** A used-buffer notification for a queue. */
  queue(index: number): void
  /** A configuration-change notification. */
  config(): void
  /**
   * Has kicks of a queue told to whoever borrows it, until that ends. Undefined where kicks or interrupts of the queue need this
   * side.
   */
  lend?(index: number): QueueLink | undefined
}

/** The only source of randomness. */
export interface Entropy {
  /**
   * Fills the whole array, now or when the promise resolves. One that rejects has no more bytes:
   * the request is answered with none.
   */
  fill(target: Uint8Array): void | Promise<void>
}
