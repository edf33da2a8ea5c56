import { unlinkSync } from 'node:fs'
import { type Server, Socket, connect, createConnection, createServer } from 'node:net'
import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

import { VmmError } from '../../errors.ts'
import type { SocketAddress, StreamLine } from './config.ts'
import { FrameReader, streamOf } from './frame-reader.ts'
import { CardSender } from './sender.ts'

/** What may wait to be sent; then the card waits. */
const QUEUED_BYTES = 1 << 20

/**
 * Frames over a connection to another machine, or to a program such as passt. A server has one peer at a time, and waits for
 * another when that goes. While there is none, frames are lost.
 */
export class StreamNet implements LinkEnd {
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  /** Resolves when it is connected, or can be connected to. Rejects with `E_NETDEV`. */
  readonly ready: Promise<void>
  /** As monitors show it. */
  detail = ''
  readonly #side: LinkSide
  readonly #sender: CardSender
  readonly #report: (message: string) => void
  readonly #line: StreamLine
  #server: Server | undefined
  #peer: Socket | undefined
  #isOpen = true
  #reader = new FrameReader()
  /** What the peer sent and the card has no room for. */
  #rest: Uint8Array | undefined
  #cardWaits = false

  constructor(line: StreamLine, side: LinkSide, report: (message: string) => void) {
    this.#line = line
    this.#side = side
    this.#sender = new CardSender(side)
    this.#report = report
    side.attach(this)
    const opened = line.server ? this.#listen(line.address) : this.#connect(line.address)
    this.ready = opened.catch((error: unknown) => {
      const verb = line.server ? 'listen at' : 'connect to'
      const reason = error instanceof Error ? error.message : String(error)
      throw new VmmError('E_NETDEV', `can't ${verb} ${placeText(line.address)}: ${reason}`, {
        cause: error,
      })
    })
    // Who opens it may not look.
    this.ready.catch(() => {})
  }

  receive(batch: FrameBatch, from: number): number {
    const peer = this.#peer
    if (peer === undefined) return batch.used
    if (peer.writableLength > QUEUED_BYTES) {
      this.#cardWaits = true
      return from
    }
    peer.write(streamOf(batch, from))
    return batch.used
  }

  resume(): void {
    if (!this.#sender.flush()) return
    const rest = this.#rest
    this.#rest = undefined
    if (rest === undefined || this.#take(rest)) this.#peer?.resume()
  }

  linkChanged(): void {}

  /** Where a server is to be reached. */
  get port(): number | undefined {
    const address = this.#server?.address()
    return typeof address === 'object' ? address?.port : undefined
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#side.detach()
    this.#server?.close()
    this.#peer?.destroy()
    this.#peer = undefined
  }

  #listen(address: SocketAddress): Promise<void> {
    const server = createServer((socket) => this.#accept(socket))
    this.#server = server
    this.detail = `listening at ${placeText(address)}`
    return new Promise((resolve, reject) => {
      let isAgain = false
      server.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EADDRINUSE' || !('path' in address) || isAgain) return reject(error)
        isAgain = true
        reclaim(address.path, () => server.listen(address), reject)
      })
      server.listen(
        'host' in address ? { port: address.port, host: address.host || '::' } : address,
        resolve,
      )
    })
  }

  #connect(address: SocketAddress): Promise<void> {
    if ('fd' in address) return this.#adopt(address.fd)
    const peer = connect('path' in address ? { path: address.path } : { ...address })
    return new Promise((resolve, reject) => {
      peer.once('error', reject)
      peer.once('connect', () => {
        if (this.#isOpen) this.#connected(peer)
        else peer.destroy()
        resolve()
      })
    })
  }

  /** Takes a connection that is there. */
  async #adopt(fd: number): Promise<void> {
    this.#connected(new Socket({ fd, readable: true, writable: true }))
  }

  #accept(socket: Socket): void {
    if (!this.#isOpen) return void socket.destroy()
    if (this.#peer === undefined) return this.#connected(socket)
    this.#report(`${this.#name}: there is a peer already; another was turned away`)
    socket.destroy()
  }

  #connected(peer: Socket): void {
    this.#peer = peer
    this.#reader = new FrameReader()
    peer.setNoDelay(true)
    const { address } = this.#line
    const from =
      peer.remoteAddress === undefined
        ? placeText(address)
        : `${peer.remoteAddress}:${peer.remotePort}`
    this.detail = this.#line.server
      ? `connection from ${from}`
      : `connected to ${placeText(address)}`
    peer.on('data', (data: Uint8Array) => {
      if (!this.#take(data)) peer.pause()
    })
    peer.on('drain', () => this.#letCard())
    peer.on('error', (error) => this.#report(`${this.#name}: ${error.message}`))
    peer.on('close', () => this.#lost(peer))
  }

  /** Gives frames to the card; false when the rest has to wait for it. */
  #take(data: Uint8Array): boolean {
    let at = 0
    while (at < data.length) {
      at = this.#reader.read(data, at, this.#sender.batch)
      if (at < 0) {
        this.#report(`${this.#name}: the peer sends what are no frames; the connection ends`)
        this.#peer?.destroy()
        return true
      }
      if (!this.#sender.flush() && at < data.length) {
        this.#rest = Uint8Array.prototype.slice.call(data, at)
        return false
      }
    }
    // A few frames may wait in the batch: with them no more are read.
    return this.#sender.batch.used === 0
  }

  #lost(peer: Socket): void {
    if (this.#peer !== peer) return
    this.#peer = undefined
    this.#rest = undefined
    this.#sender.clear()
    const { server, address } = this.#line
    this.detail = server ? `listening at ${placeText(address)}` : 'disconnected'
    this.#report(`${this.#name}: the peer is gone`)
    this.#letCard()
  }

  #letCard(): void {
    if (!this.#cardWaits) return
    this.#cardWaits = false
    this.#side.ready()
  }

  get #name(): string {
    return `network at ${placeText(this.#line.address)}`
  }
}

/** Removes the socket that a process has left behind; one that is in use stays. */
function reclaim(path: string, again: () => void, fail: (error: Error) => void): void {
  const probe = createConnection({ path })
  probe.on('connect', () => {
    probe.destroy()
    fail(new Error('another process listens there'))
  })
  probe.on('error', () => {
    try {
      unlinkSync(path)
      again()
    } catch (error) {
      fail(error as Error)
    }
  })
}

function placeText(address: SocketAddress): string {
  if ('path' in address) return address.path
  if ('fd' in address) return `fd=${address.fd}`
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}
