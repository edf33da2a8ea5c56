import { hostio } from '../../native/hostio.ts'
import { iovFrom, iovLength, iovSlice, iovTo } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import { RangeLocks } from '../range-locks.ts'

interface Transfer {
  read(offset: number, iov: Iovec): Promise<void>
  write(offset: number, iov: Iovec): Promise<void>
}

const MEMORY_ALIGNMENT = 4096
/** Bounce buffers are at most this long; longer requests go through them in pieces. */
const BOUNCE_BYTES = 1 << 20

/**
 * Requests of any alignment on a file that was opened with `O_DIRECT`. Aligned ones go to the host
 * as they are; others through an aligned buffer, and those that change part of a block read it
 * first.
 */
export class DirectIo {
  readonly #transfer: Transfer
  readonly #blockBytes: number
  readonly #locks = new RangeLocks()
  readonly #buffers: Uint8Array[] = []

  constructor(transfer: Transfer, blockBytes: number) {
    this.#transfer = transfer
    this.#blockBytes = blockBytes
  }

  async readv(offset: number, iov: Iovec): Promise<void> {
    if (this.#aligned(offset, iov)) return await this.#transfer.read(offset, iov)
    const length = iovLength(iov)
    for (let done = 0; done < length;) {
      const { start, end, from, bytes } = this.#piece(offset + done, length - done)
      await this.#bounce(end - start, async (buffer) => {
        await this.#transfer.read(start, [buffer])
        iovFrom(iov, done, buffer.subarray(from, from + bytes))
      })
      done += bytes
    }
  }

  async writev(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    const start = offset - (offset % this.#blockBytes)
    const end = Math.ceil((offset + length) / this.#blockBytes) * this.#blockBytes
    // Two writes to parts of one block must not both read what the other is about to change.
    const lock = this.#locks.acquire(start, end, start !== offset || end !== offset + length)
    try {
      if (lock.ready !== undefined) await lock.ready
      if (this.#aligned(offset, iov)) await this.#transfer.write(offset, iov)
      else await this.#writeBounced(offset, iov, length)
    } finally {
      this.#locks.release(lock)
    }
  }

  async #writeBounced(offset: number, iov: Iovec, length: number): Promise<void> {
    for (let done = 0; done < length;) {
      const { start, end, from, bytes } = this.#piece(offset + done, length - done)
      await this.#bounce(end - start, async (buffer) => {
        if (from !== 0 || bytes !== end - start) await this.#transfer.read(start, [buffer])
        iovTo(iovSlice(iov, done, bytes), buffer.subarray(from, from + bytes))
        await this.#transfer.write(start, [buffer])
      })
      done += bytes
    }
  }

  /** The blocks around the request's beginning, as many as a bounce buffer holds. */
  #piece(at: number, rest: number): { start: number; end: number; from: number; bytes: number } {
    const start = at - (at % this.#blockBytes)
    const most = Math.min(at + rest, start + BOUNCE_BYTES)
    const end = Math.ceil(most / this.#blockBytes) * this.#blockBytes
    return { start, end, from: at - start, bytes: most - at }
  }

  #aligned(offset: number, iov: Iovec): boolean {
    if (offset % this.#blockBytes !== 0) return false
    for (const part of iov) {
      if (part.byteLength % this.#blockBytes !== 0) return false
      if (hostio().misalignment(part, MEMORY_ALIGNMENT) !== 0) return false
    }
    return true
  }

  async #bounce(length: number, use: (buffer: Uint8Array) => Promise<void>): Promise<void> {
    const whole = this.#buffers.pop() ?? alignedBuffer(BOUNCE_BYTES)
    try {
      await use(whole.subarray(0, length))
    } finally {
      if (this.#buffers.length < 4) this.#buffers.push(whole)
    }
  }
}

/** Memory that `O_DIRECT` accepts. */
function alignedBuffer(length: number): Uint8Array {
  const raw = new Uint8Array(length + MEMORY_ALIGNMENT)
  const skip = (MEMORY_ALIGNMENT - hostio().misalignment(raw, MEMORY_ALIGNMENT)) % MEMORY_ALIGNMENT
  return raw.subarray(skip, skip + length)
}
