import { TextDecoder } from 'node:util'

import type { SerialBackend } from '../chipset/serial-port.ts'
import { VmmError } from '../errors.ts'

const TAIL_CHARS = 64 * 1024
const SHOWN_LINES = 25
const DEFAULT_TIMEOUT_MS = 60_000

interface Waiter {
  pattern: RegExp
  done(text: string): void
  fail(error: VmmError): void
}

/**
 * A terminal for programs: keeps the end of what the guest wrote, waits for text in it, and types.
 * Text that `expect` has returned is not searched again.
 */
export class Console implements SerialBackend {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  readonly #decoder: TextDecoder = new TextDecoder()
  readonly #waiters: Waiter[] = []
  #screen = ''
  #searchFrom = 0
  #typed: Uint8Array[] = []
  #ended: string | undefined

  /** The end of the output, at most 64 Ki characters. */
  get screen(): string {
    return this.#screen
  }

  write(data: Uint8Array): boolean {
    this.#screen += this.#decoder.decode(data, { stream: true })
    const excess = this.#screen.length - TAIL_CHARS
    if (excess > 0) {
      this.#screen = this.#screen.slice(excess)
      this.#searchFrom = Math.max(0, this.#searchFrom - excess)
    }
    this.#search()
    return true
  }

  notifyReadable(): void {
    while (this.#typed.length > 0) {
      const room = this.canRead?.() ?? 0
      if (room === 0) return
      const next = this.#typed[0]!
      this.onData?.(next.subarray(0, room))
      if (next.length > room) this.#typed[0] = next.subarray(room)
      else this.#typed.shift()
    }
  }

  close(): void {
    this.end('the machine was closed')
  }

  /** Fails the present and future waits: no more output will come. */
  end(reason: string): void {
    this.#ended ??= reason
    for (const waiter of this.#waiters.splice(0)) waiter.fail(this.#error(waiter.pattern, reason))
  }

  type(text: string): void {
    if (text === '') return
    this.#typed.push(new TextEncoder().encode(text))
    this.notifyReadable()
  }

  /** Resolves with the output up to the end of the match. */
  expect(text: string | RegExp, timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<string> {
    const pattern =
      typeof text === 'string'
        ? new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
        : new RegExp(text.source, text.flags.replaceAll(/[gy]/g, ''))
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
        waiter.fail(this.#error(pattern, `nothing matched within ${timeoutMs} ms`, 'E_TIMEOUT'))
      }, timeoutMs)
      const waiter: Waiter = {
        pattern,
        done: (found) => {
          clearTimeout(timer)
          resolve(found)
        },
        fail: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#waiters.push(waiter)
      this.#search()
      if (this.#ended !== undefined) this.end(this.#ended)
    })
  }

  #search(): void {
    for (;;) {
      const waiter = this.#waiters[0]
      if (waiter === undefined) return
      const unread = this.#screen.slice(this.#searchFrom)
      const match = waiter.pattern.exec(unread)
      if (match === null) return
      const end = match.index + match[0].length
      this.#searchFrom += end
      this.#waiters.shift()
      waiter.done(unread.slice(0, end))
    }
  }

  #error(pattern: RegExp, reason: string, code: 'E_TIMEOUT' | 'E_ENDED' = 'E_ENDED'): VmmError {
    const lines = this.#screen.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n')
    return new VmmError(
      code,
      `waiting for ${String(pattern)} on the serial console: ${reason}; the screen ends with:\n` +
        `${lines}`,
    )
  }
}
