import type { Duplex } from 'node:stream'
import { RpcError } from './errors.ts'
import { FrameReader } from './frame-reader.ts'
import { KeepAlive, MessageType, Program, Status, encodeMessage } from './message.ts'
import type { Header, Message } from './message.ts'

/** Output that waits for the peer: as long as it is more, nothing new is read from it. */
const OUTPUT_BYTES = 4 * 1024 * 1024
/** A peer that lets so much output wait, which only happens to what it did not ask for, is cut off. */
const OUTPUT_LIMIT_BYTES = 32 * 1024 * 1024
/** A peer that takes none of its output for so long is cut off. */
const STALL_MS = 60_000

/** What the owner of a {@link Wire} does with it. */
export interface WireEvents {
  /** Each message that is none of the keepalive's, in order. */
  message(message: Message): void
  /** Once, with the reason if there is one. */
  closed(error: Error | undefined): void
}

/** Messages over a stream of bytes: what both ends of a connection have in common. */
export class Wire {
  readonly #stream: Duplex
  readonly #events: WireEvents
  readonly #frames = new FrameReader()
  /** Who does not want more messages now. */
  readonly #holders = new Set<unknown>()
  #error: Error | undefined
  #isClosed = false
  #isReading = false
  #stall: NodeJS.Timeout | undefined
  #ping: NodeJS.Timeout | undefined
  #unanswered = 0

  constructor(stream: Duplex, events: WireEvents) {
    this.#stream = stream
    this.#events = events
    stream.on('data', (chunk: Buffer) => {
      this.#unanswered = 0
      this.#frames.push(chunk)
      this.#read()
    })
    stream.on('drain', () => {
      clearTimeout(this.#stall)
      this.#stall = undefined
      this.release(stream)
    })
    stream.on('error', (error) => this.close(error))
    stream.on('end', () => this.close())
    stream.on('close', () => this.close())
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** The longest message that the peer may send, in bytes. */
  set messageLimit(bytes: number) {
    this.#frames.limit = bytes
  }

  /** Bytes that the peer has not taken. */
  get waiting(): number {
    return this.#stream.writableLength
  }

  /** Until {@link release} no message is delivered, and the peer is held up after a while. */
  hold(holder: unknown): void {
    this.#holders.add(holder)
    this.#stream.pause()
  }

  release(holder: unknown): void {
    if (!this.#holders.delete(holder) || this.#holders.size > 0 || this.#isClosed) return
    this.#stream.resume()
    // What is here already goes first, but not from within a message's own handling.
    queueMicrotask(() => this.#read())
  }

  /** Sends a message. `taken` is called when the peer, or the system on its behalf, has it, or never will. */
  send(header: Header, payload: Uint8Array, taken?: () => void): void {
    if (this.#isClosed) {
      // Nobody is left to hold anything up.
      if (taken) queueMicrotask(taken)
      return
    }
    this.#write(encodeMessage(header, payload), taken)
  }

  /** Sends a message that has its header already. */
  sendBytes(message: Buffer): void {
    if (!this.#isClosed) this.#write(message)
  }

  #write(message: Buffer, taken?: () => void): void {
    if (taken === undefined) this.#stream.write(message)
    else this.#stream.write(message, () => taken())
    const waiting = this.#stream.writableLength
    if (waiting > OUTPUT_LIMIT_BYTES) {
      this.close(new RpcError('E_LIMIT', `the peer left ${waiting} bytes unread`))
    } else if (waiting > OUTPUT_BYTES) this.hold(this.#stream)
    if (waiting > 0 && this.#stream.writableNeedDrain) {
      this.#stall ??= setTimeout(() => {
        this.close(new RpcError('E_TIMEOUT', `the peer read nothing for ${STALL_MS / 1000} s`))
      }, STALL_MS).unref()
    }
  }

  /** Asks the peer every `interval` whether it is there, and gives up after `count` times without any answer. */
  startKeepAlive(intervalMs: number, count: number): void {
    clearInterval(this.#ping)
    this.#unanswered = 0
    this.#ping = setInterval(() => {
      // What it says is not read now, so it does not count as silent. (Output that it does not take has a limit of its own.)
      if (this.#holders.size > 0) this.#unanswered = 0
      if (this.#unanswered >= count) {
        const seconds = Math.round((intervalMs * count) / 1000)
        this.close(new RpcError('E_TIMEOUT', `the peer did not answer for ${seconds} s`))
        return
      }
      this.#unanswered++
      this.#sendKeepAlive(KeepAlive.PING)
    }, intervalMs).unref()
  }

  /** Sends what is under way and closes. */
  end(): void {
    if (this.#isClosed) return
    this.#finish()
    this.#stream.end()
    // A peer that reads nothing cannot keep the socket.
    setTimeout(() => this.#stream.destroy(), 2000).unref()
  }

  close(error?: Error): void {
    if (this.#isClosed) return
    this.#error = error
    this.#finish()
    this.#stream.destroy()
  }

  #finish(): void {
    this.#isClosed = true
    clearTimeout(this.#stall)
    clearInterval(this.#ping)
    this.#events.closed(this.#error)
  }

  #sendKeepAlive(procedure: number): void {
    const header = {
      program: Program.KEEPALIVE,
      version: 1,
      procedure,
      type: MessageType.MESSAGE,
      serial: 0,
      status: Status.OK,
    }
    this.send(header, new Uint8Array(0))
  }

  #read(): void {
    if (this.#isReading) return
    this.#isReading = true
    try {
      while (!this.#isClosed && this.#holders.size === 0) {
        const message = this.#frames.next()
        if (message === undefined) break
        if (message.program !== Program.KEEPALIVE) this.#events.message(message)
        else if (message.procedure === KeepAlive.PING) this.#sendKeepAlive(KeepAlive.PONG)
      }
    } catch (error) {
      this.close(error as Error)
    } finally {
      this.#isReading = false
    }
  }
}
