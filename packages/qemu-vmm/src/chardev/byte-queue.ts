import type { Chardev } from './chardev.ts'

/** Bytes on their way to the user of a character device, held back until the user has room. */
export class ByteQueue {
  readonly #chunks: Uint8Array[] = []
  #length = 0
  #delivering = false

  /** Bytes that wait. */
  get length(): number {
    return this.#length
  }

  push(data: Uint8Array): void {
    if (data.length === 0) return
    this.#chunks.push(data)
    this.#length += data.length
  }

  clear(): void {
    this.#chunks.length = 0
    this.#length = 0
  }

  /** Hands over as much as the user takes. */
  deliver(user: Pick<Chardev, 'canRead' | 'onData'>): void {
    // A user that takes bytes says at once that it has room again: that call finds this one busy.
    if (this.#delivering) return
    this.#delivering = true
    try {
      for (;;) {
        const chunk = this.#chunks[0]
        const room = user.onData === undefined ? 0 : (user.canRead?.() ?? 0)
        if (chunk === undefined || room <= 0) return
        const part = chunk.subarray(0, room)
        if (part.length === chunk.length) this.#chunks.shift()
        else this.#chunks[0] = chunk.subarray(room)
        this.#length -= part.length
        user.onData?.(part)
      }
    } finally {
      this.#delivering = false
    }
  }
}
