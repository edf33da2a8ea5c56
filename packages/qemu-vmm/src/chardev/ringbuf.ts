import type { Chardev } from './chardev.ts'

/** Keeps the last bytes that were written, for `ringbuf_read` of the monitor. */
export class RingbufChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'ringbuf'
  readonly #bytes: Uint8Array
  /** Counts of all bytes that were ever written and read. */
  #written = 0
  #read = 0

  /** @param size bytes, a power of two */
  constructor(size: number) {
    this.#bytes = new Uint8Array(size)
  }

  write(data: Uint8Array): boolean {
    const size = this.#bytes.length
    this.#written += data.length
    const kept = data.subarray(Math.max(0, data.length - size))
    const start = (this.#written - kept.length) % size
    const first = kept.subarray(0, size - start)
    this.#bytes.set(first, start)
    this.#bytes.set(kept.subarray(first.length), 0)
    this.#read = Math.max(this.#read, this.#written - size)
    return true
  }

  /** Takes out the oldest bytes, at most `length` of them. */
  read(length: number): Uint8Array {
    const count = Math.min(length, this.#written - this.#read)
    const taken = new Uint8Array(count)
    for (let i = 0; i < count; i++) taken[i] = this.#bytes[this.#read++ % this.#bytes.length]!
    return taken
  }

  close(): void {}
}
