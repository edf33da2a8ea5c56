import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { Duplex } from 'node:stream'

import type { SocketPair } from '../../native/usernet.ts'

const LOOPBACK = '127.0.0.1'
/** The network gives up a flow that nothing went through for four minutes; its end of this is closed then. */
const IDLE_MS = 250_000

/** Datagrams to and from one port of a guest, as a stream of objects: each chunk is one datagram. */
export class DatagramStream extends Duplex {
  readonly #socket: Socket = createSocket('udp4')
  readonly #networkPort: number
  readonly #program: number
  readonly #idle: NodeJS.Timeout
  #hasRoom = true

  constructor({ program, networkPort }: SocketPair) {
    super({ objectMode: true })
    this.#networkPort = networkPort
    this.#idle = setTimeout(() => this.destroy(), IDLE_MS).unref()
    this.#socket.on('message', (data, from) => {
      // Everybody on this host can write to the port.
      if (from.port !== networkPort || from.address !== LOOPBACK) return
      this.#idle.refresh()
      // What nobody reads in time is lost, as datagrams are.
      if (this.#hasRoom) this.#hasRoom = this.push(data)
    })
    // Such as that the other end is gone: datagrams have no errors.
    this.#socket.on('error', () => {})
    this.#program = program
    this.#socket.unref()
  }

  override _construct(done: (error?: Error | null) => void): void {
    this.#socket.bind({ fd: this.#program }, () => done())
  }

  override _read(): void {
    this.#hasRoom = true
  }

  override _write(
    chunk: Uint8Array,
    _encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    this.#idle.refresh()
    this.#socket.send(chunk, this.#networkPort, LOOPBACK, (error) => done(error))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#idle)
    this.#socket.close(() => done(error))
  }
}
