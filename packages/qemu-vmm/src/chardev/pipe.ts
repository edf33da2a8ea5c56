import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { Socket } from 'node:net'

import { systemMessage } from '../cli/system-error.ts'
import { VmmError } from '../errors.ts'
import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** Opened for both, a FIFO neither waits for its other end nor ends with it (fifo(7)). */
const FLAGS = constants.O_RDWR | constants.O_NONBLOCK

/**
 * Named pipes: `PATH.in` for what the device gets and `PATH.out` for what it sends, or where these are not
 * there one `PATH` for both. Without a reader output waits in the pipe, and then its user waits.
 */
export class PipeChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'pipe'
  readonly #input: Socket
  readonly #output: Socket
  readonly #queue: ByteQueue = new ByteQueue()
  #full = false
  #closed = false
  #drained: (() => void) | undefined

  /** @throws VmmError `E_CHARDEV` when there is no such pipe */
  constructor(path: string) {
    const [input, output] = openPipes(path)
    if (output === undefined) {
      this.#input = this.#output = new Socket({ fd: input, readable: true, writable: true })
    } else {
      this.#input = new Socket({ fd: input, readable: true, writable: false })
      this.#output = new Socket({ fd: output, readable: false, writable: true })
    }
    for (const end of new Set([this.#input, this.#output])) end.on('error', () => {})
    this.#input.on('data', (chunk: Uint8Array) => {
      this.#queue.push(chunk)
      this.#queue.deliver(this)
      if (this.#queue.length > 0) this.#input.pause()
    })
    this.#output.on('drain', () => {
      this.#full = false
      this.onWritable?.()
      this.#drained?.()
    })
  }

  write(data: Uint8Array): boolean {
    if (this.#closed) return true
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
    this.#input.destroy()
    this.#output.destroy()
    this.#drained?.()
  }

  /** Resolves when the pipe has everything, or has taken nothing for `stallMs`. */
  async drained(stallMs: number): Promise<void> {
    if (this.#closed || this.#output.writableLength === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#drained = resolve
      timer = setTimeout(resolve, stallMs)
      this.#output.write('', () => resolve())
    })
    clearTimeout(timer)
  }
}

/** The pipe to read from, and if it is another one that to write to. */
function openPipes(path: string): [number, number | undefined] {
  const input = tryOpen(`${path}.in`)
  const output = input === undefined ? undefined : tryOpen(`${path}.out`)
  if (input !== undefined && output !== undefined) return [input, output]
  if (input !== undefined) closeSync(input)
  try {
    return [openFifo(path), undefined]
  } catch (error) {
    if (error instanceof VmmError) throw error
    throw new VmmError('E_CHARDEV', `Could not open '${path}': ${systemMessage(error)}`, {
      cause: error,
    })
  }
}

function tryOpen(path: string): number | undefined {
  try {
    return openFifo(path)
  } catch (error) {
    if (error instanceof VmmError) throw error
    return undefined
  }
}

/** @throws VmmError for what is there and no pipe, else the error of `open` */
function openFifo(path: string): number {
  const fd = openSync(path, FLAGS)
  if (fstatSync(fd).isFIFO()) return fd
  closeSync(fd)
  throw new VmmError('E_CHARDEV', `Could not open '${path}': it is not a named pipe (see mkfifo)`, {
    fields: { path },
  })
}
