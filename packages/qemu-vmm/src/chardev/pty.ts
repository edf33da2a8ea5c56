import { PTY_HUNG_UP, PTY_READABLE, PTY_WRITABLE } from '../native/pty.ts'
import type { NativePty } from '../native/pty.ts'
import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** The kernel does not tell when somebody opens the other end: it is asked so often, as QEMU does. */
const POLL_MS = 1000
/** How often it is asked whether a reader has made room. */
const RETRY_MS = 10
/** How long a reader that takes nothing holds up the user of the device. */
const STALL_MS = 10_000
const CHUNK_BYTES = 4096
const EAGAIN = -11

export interface PtyOptions {
  /** Told when output is dropped because whoever has the terminal open does not read. */
  report: (message: string) => void
  stallMs?: number
  pollMs?: number
}

/**
 * A pseudo-terminal: programs such as `screen` open its other end by name. While nobody has, output is
 * dropped. A reader that does not read holds the user up for a while, and then loses what it does not take.
 */
export class PtyChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  onOpen?: () => void
  onHangup?: () => void
  readonly #pty: NativePty
  readonly #options: PtyOptions
  readonly #queue: ByteQueue = new ByteQueue()
  #isConnected = false
  #poll: NodeJS.Timeout | undefined
  #retry: NodeJS.Timeout | undefined
  /** What there was no room for. */
  #pending: Uint8Array = new Uint8Array()
  #stalledMs = 0
  #isDropping = false
  #isClosed = false
  #drained: (() => void) | undefined

  constructor(pty: NativePty, options: PtyOptions) {
    this.#pty = pty
    this.#options = options
    this.#pollLater()
  }

  get connected(): boolean {
    return this.#isConnected
  }

  get path(): string {
    return this.#pty.path
  }

  get filename(): string {
    return `pty:${this.#pty.path}`
  }

  write(data: Uint8Array): boolean {
    if (this.#isClosed) return true
    // The other end may have been opened since it was last asked about.
    if (!this.#isConnected) this.#look()
    if (!this.#isConnected) return true
    if (this.#pending.length > 0) return this.#isDropping
    this.#send(data)
    return true
  }

  notifyReadable(): void {
    this.#queue.deliver(this)
    if (this.#queue.length === 0 && this.#isConnected && !this.#isClosed) this.#watch()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#poll)
    clearInterval(this.#retry)
    this.#queue.clear()
    this.#pty.close()
    this.#drained?.()
  }

  /** Resolves when the reader has taken everything, or has taken nothing for `stallMs`. */
  async drained(stallMs: number): Promise<void> {
    if (this.#pending.length === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#drained = resolve
      timer = setTimeout(resolve, stallMs)
    })
    clearTimeout(timer)
  }

  #pollLater(): void {
    this.#poll = setInterval(() => this.#look(), this.#options.pollMs ?? POLL_MS).unref()
  }

  /** Whether somebody has opened the other end. */
  #look(): void {
    if (this.#isConnected || (this.#pty.poll() & PTY_HUNG_UP) !== 0) return
    clearInterval(this.#poll)
    this.#isConnected = true
    this.#isDropping = false
    this.onOpen?.()
    // What the last one typed still has its place in the queue.
    this.notifyReadable()
  }

  #watch(): void {
    this.#pty.watch(() => this.#ready())
  }

  #ready(): void {
    const state = this.#pty.poll()
    if ((state & PTY_READABLE) === 0) {
      if ((state & PTY_HUNG_UP) !== 0) this.#hangup()
      return
    }
    const chunk = new Uint8Array(CHUNK_BYTES)
    const count = this.#pty.read(chunk)
    if (count > 0) {
      this.#queue.push(chunk.subarray(0, count))
      this.#queue.deliver(this)
      if (this.#queue.length > 0) this.#pty.unwatch()
    } else if (count !== EAGAIN) this.#hangup()
  }

  #hangup(): void {
    if (!this.#isConnected || this.#isClosed) return
    this.#isConnected = false
    this.#pty.unwatch()
    this.onHangup?.()
    // The user may have been waiting for the one that has gone.
    this.#settle()
    this.#pollLater()
  }

  #send(data: Uint8Array): void {
    const count = this.#pty.write(data)
    if (count < 0 && count !== EAGAIN) {
      this.#hangup()
      return
    }
    const rest = data.subarray(Math.max(0, count))
    if (rest.length === 0) return
    // The caller goes on with its buffer.
    this.#pending = Uint8Array.from(rest)
    this.#stalledMs = 0
    this.#retry = setInterval(() => this.#sendRest(), RETRY_MS).unref()
  }

  #sendRest(): void {
    const state = this.#pty.poll()
    const count = (state & PTY_WRITABLE) === 0 ? EAGAIN : this.#pty.write(this.#pending)
    if ((state & PTY_HUNG_UP) !== 0 || (count < 0 && count !== EAGAIN)) {
      this.#hangup()
      return
    }
    if (count > 0) {
      this.#pending = this.#pending.subarray(count)
      this.#stalledMs = 0
      if (this.#pending.length === 0) this.#settle()
      return
    }
    this.#stalledMs += RETRY_MS
    if (this.#isDropping || this.#stalledMs < (this.#options.stallMs ?? STALL_MS)) return
    this.#isDropping = true
    this.#options.report(
      `nobody reads from the terminal '${this.#pty.path}'; what follows is lost until somebody does`,
    )
    this.onWritable?.()
  }

  /** Nothing waits any more. */
  #settle(): void {
    clearInterval(this.#retry)
    this.#pending = new Uint8Array()
    this.#isDropping = false
    this.#drained?.()
    this.onWritable?.()
  }
}
