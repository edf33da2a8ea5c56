import { RpcError } from './errors.ts'
import { HEADER_BYTES, MESSAGE_BYTES } from './message.ts'
import type { Message } from './message.ts'

/** What an idle connection keeps. */
const SMALL_BYTES = 4096

/**
 * Cuts a stream of bytes into messages. It keeps what it was given and at most as much again: a length that was announced
 * reserves nothing, and many small pieces take no more than one large one.
 */
export class FrameReader {
  /** The longest message that is taken. */
  limit: number
  #bytes: Buffer = Buffer.alloc(0)
  #start = 0
  #end = 0

  constructor(limit: number = MESSAGE_BYTES) {
    this.limit = limit
  }

  /** Bytes of a message whose end has not come. */
  get pending(): number {
    return this.#end - this.#start
  }

  push(chunk: Buffer): void {
    const needed = this.pending + chunk.length
    if (this.#bytes.length - this.#end < chunk.length) {
      const isRoomy = this.#bytes.length >= needed
      const target = isRoomy
        ? this.#bytes
        : Buffer.allocUnsafe(Math.max(needed, Math.min(this.pending * 2, this.limit), SMALL_BYTES))
      this.#bytes.copy(target, 0, this.#start, this.#end)
      this.#end -= this.#start
      this.#start = 0
      this.#bytes = target
    }
    chunk.copy(this.#bytes, this.#end)
    this.#end += chunk.length
  }

  /**
   * The next whole message, or undefined until there is one.
   *
   * @throws RpcError `E_FRAME` for a length that no message has; the stream cannot be made sense of then
   */
  next(): Message | undefined {
    if (this.pending < 4) return undefined
    const length = this.#bytes.readUInt32BE(this.#start)
    if (length < HEADER_BYTES || length > this.limit) {
      throw new RpcError(
        'E_FRAME',
        `a message of ${length} bytes; they have from ${HEADER_BYTES} to ${this.limit}`,
      )
    }
    if (this.pending < length) return undefined
    const bytes = Buffer.from(this.#bytes.subarray(this.#start, this.#start + length))
    this.#start += length
    if (this.#start === this.#end) {
      this.#start = 0
      this.#end = 0
      if (this.#bytes.length > SMALL_BYTES) this.#bytes = Buffer.alloc(0)
    }
    return {
      program: bytes.readUInt32BE(4),
      version: bytes.readUInt32BE(8),
      procedure: bytes.readInt32BE(12),
      type: bytes.readUInt32BE(16),
      serial: bytes.readUInt32BE(20),
      status: bytes.readUInt32BE(24),
      payload: bytes.subarray(HEADER_BYTES),
    }
  }
}
