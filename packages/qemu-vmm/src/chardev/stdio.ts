import type { RawMode } from '../terminal/raw-mode.ts'
import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** The part of `process.stdin` that is used: a terminal, a pipe, a file or `/dev/null`. */
export interface ByteInput {
  on(event: 'data', listener: (chunk: Uint8Array) => void): unknown
  on(event: 'error' | 'end', listener: () => void): unknown
  pause(): unknown
  resume(): unknown
}

/** The part of `process.stdout` that is used. */
export interface ByteOutput {
  write(chunk: Uint8Array): boolean
  on(event: 'drain' | 'error', listener: () => void): unknown
}

/** What the terminal driver does with control characters when it is not raw. */
const SIGNALS: ReadonlyMap<number, NodeJS.Signals> = new Map([
  [0x03, 'SIGINT'],
  [0x1c, 'SIGQUIT'],
  [0x1a, 'SIGTSTP'],
])

/** The process's standard input and output. */
export class StdioChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'stdio'
  readonly #input: ByteInput
  readonly #output: ByteOutput
  readonly #raw: RawMode
  readonly #raise: ((signal: NodeJS.Signals) => void) | undefined
  readonly #queue: ByteQueue = new ByteQueue()
  #full = false
  #outputGone = false
  #closed = false
  #moved: (() => void) | undefined

  /**
   * @param raw switches the terminal, if the input is one
   * @param raise what Ctrl-C and its like do; absent: they are characters like all others
   */
  constructor(
    input: ByteInput,
    output: ByteOutput,
    raw: RawMode,
    raise?: (signal: NodeJS.Signals) => void,
  ) {
    this.#input = input
    this.#output = output
    this.#raw = raw
    this.#raise = raw.isTerminal ? raise : undefined
    output.on('drain', () => this.#writable())
    // Nobody reads any more; the machine runs on all the same.
    output.on('error', () => {
      this.#outputGone = true
      this.#writable()
    })
    input.on('data', (chunk) => this.#receive(chunk))
    // Input that ends or breaks leaves a machine that nobody types on.
    input.on('end', () => {})
    input.on('error', () => {})
    raw.enable()
  }

  /** Takes over the data: the caller must not change it any more. */
  write(data: Uint8Array): boolean {
    if (this.#closed || this.#outputGone) return true
    if (this.#full) return false
    this.#full = !this.#output.write(data)
    return true
  }

  notifyReadable(): void {
    this.#queue.deliver(this)
    if (this.#queue.length === 0 && !this.#closed) this.#input.resume()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue.clear()
    this.#input.pause()
    this.#raw.disable()
  }

  /**
   * Resolves when all that the users had to write has been taken, or when the reader has taken
   * nothing for `stallMs`.
   */
  async drained(stallMs: number): Promise<void> {
    while (this.#full && !this.#closed) {
      let timer: NodeJS.Timeout | undefined
      const moved = await new Promise<boolean>((resolve) => {
        this.#moved = () => resolve(true)
        timer = setTimeout(() => resolve(false), stallMs)
      })
      clearTimeout(timer)
      if (!moved) return
    }
  }

  #writable(): void {
    this.#full = false
    this.onWritable?.()
    this.#moved?.()
  }

  #receive(chunk: Uint8Array): void {
    if (this.#closed) return
    this.#queue.push(this.#raise === undefined ? chunk : this.#withoutSignals(chunk, this.#raise))
    this.#queue.deliver(this)
    if (this.#queue.length > 0) this.#input.pause()
  }

  #withoutSignals(chunk: Uint8Array, raise: (signal: NodeJS.Signals) => void): Uint8Array {
    const found = chunk.filter((byte) => SIGNALS.has(byte))
    if (found.length === 0) return chunk
    for (const byte of found) {
      const signal = SIGNALS.get(byte)
      if (signal !== undefined) raise(signal)
    }
    return chunk.filter((byte) => !SIGNALS.has(byte))
  }
}
