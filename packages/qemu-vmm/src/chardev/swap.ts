import type { Chardev } from './chardev.ts'

/** A character device that another can be put in the place of, without its user noticing. */
export class SwapChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  onOpen?: () => void
  onHangup?: () => void
  #inner: Chardev

  constructor(inner: Chardev) {
    this.#inner = inner
    this.#attach(inner)
  }

  /** What is behind it now. */
  get inner(): Chardev {
    return this.#inner
  }

  get connected(): boolean {
    return this.#inner.connected !== false
  }

  get filename(): string {
    return this.#inner.filename ?? ''
  }

  write(data: Uint8Array): boolean {
    return this.#inner.write(data)
  }

  notifyReadable(): void {
    this.#inner.notifyReadable?.()
  }

  async drained(stallMs: number): Promise<void> {
    await this.#inner.drained?.(stallMs)
  }

  close(): void {
    this.#inner.close()
  }

  /** Puts another device in and closes the one before; input of that which nobody has taken is lost. */
  swap(next: Chardev): void {
    const before = this.#inner
    const wasConnected = this.connected
    before.canRead = () => 0
    before.onData = () => {}
    before.onWritable = () => {}
    before.onBreak = () => {}
    before.onOpen = () => {}
    before.onHangup = () => {}
    before.close()
    this.#inner = next
    this.#attach(next)
    if (wasConnected && !this.connected) this.onHangup?.()
    else if (!wasConnected && this.connected) this.onOpen?.()
    // The one before may have been full.
    this.onWritable?.()
    next.notifyReadable?.()
  }

  #attach(inner: Chardev): void {
    inner.canRead = () => this.canRead?.() ?? 0
    inner.onData = (data) => this.onData?.(data)
    inner.onWritable = () => this.onWritable?.()
    inner.onBreak = () => this.onBreak?.()
    inner.onOpen = () => this.onOpen?.()
    inner.onHangup = () => this.onHangup?.()
  }
}
