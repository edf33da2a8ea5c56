import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** Peers that may wait for their turn; the kernel's queue holds more in front of the process. */
const WAITING_PEERS = 8
/** How long a peer that takes nothing holds up the user of the device. */
const STALL_MS = 10_000

export interface SocketOptions {
  path: string
  /** Listen on this open file instead; `path` is only what it is called. */
  fd?: number
  /** Told when output is dropped because the peer does not read. */
  report: (message: string) => void
  stallMs?: number
}

/**
 * A UNIX socket, as server or as client. One peer at a time has the device; a server lets others
 * wait. Without a peer output is dropped, as on a line with nobody at the other end. A peer that
 * does not read holds its user up for a while, and then only loses what it does not take.
 */
export class SocketChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  onOpen?: () => void
  onHangup?: () => void
  readonly #options: SocketOptions
  readonly #queue: ByteQueue = new ByteQueue()
  readonly #waiting: Socket[] = []
  #server: Server | undefined
  #peer: Socket | undefined
  #reconnectMs = 0
  #retry: NodeJS.Timeout | undefined
  #stall: NodeJS.Timeout | undefined
  #full = false
  #dropping = false
  #closed = false
  #adopted: (() => void) | undefined

  private constructor(options: SocketOptions) {
    this.#options = options
  }

  /**
   * Listens at the path; a socket that an earlier process left there is replaced.
   * @throws the error of `bind`
   */
  static async listen(options: SocketOptions): Promise<SocketChardev> {
    const device = new SocketChardev(options)
    const server = createServer({ pauseOnConnect: true }, (socket) => device.#arrive(socket))
    await new Promise<void>((resolve, reject) => {
      server
        .once('error', reject)
        .listen(options.fd === undefined ? options.path : { fd: options.fd }, () => {
          server.off('error', reject).on('error', () => {})
          resolve()
        })
    })
    device.#server = server
    return device
  }

  /**
   * Connects to the path. With `reconnectMs` above 0 it tries again whenever there is no
   * connection, also for the first one; else a first connection that fails is an error.
   * @throws the error of `connect`
   */
  static async connect(options: SocketOptions, reconnectMs: number): Promise<SocketChardev> {
    const device = new SocketChardev(options)
    device.#reconnectMs = reconnectMs
    await new Promise<void>((resolve, reject) => device.#dial(resolve, reject))
    return device
  }

  get connected(): boolean {
    return this.#peer !== undefined
  }

  /** What `info chardev` shows. */
  get filename(): string {
    const role = this.#server === undefined ? '' : ',server=on'
    return `${this.connected ? '' : 'disconnected:'}unix:${this.#options.path}${role}`
  }

  /** Resolves when there is a peer. */
  opened(): Promise<void> {
    if (this.connected) return Promise.resolve()
    return new Promise((resolve) => {
      this.#adopted = resolve
    })
  }

  write(data: Uint8Array): boolean {
    const peer = this.#peer
    if (peer === undefined || this.#dropping) return true
    if (this.#full) return false
    this.#full = !peer.write(data)
    if (this.#full) this.#watch(peer)
    return true
  }

  notifyReadable(): void {
    this.#queue.deliver(this)
    if (this.#queue.length === 0) this.#peer?.resume()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#retry)
    clearTimeout(this.#stall)
    this.#queue.clear()
    // It removes its file from the folder.
    this.#server?.close()
    for (const socket of this.#waiting.splice(0)) socket.destroy()
    this.#peer?.destroy()
    this.#peer = undefined
  }

  /** Resolves when the peer has taken everything, or has taken nothing for `stallMs`. */
  async drained(stallMs: number): Promise<void> {
    const peer = this.#peer
    if (peer === undefined || peer.writableLength === 0) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, stallMs)
      peer.once('close', resolve).end(resolve)
    })
    clearTimeout(timer)
  }

  #arrive(socket: Socket): void {
    if (this.#closed || this.#waiting.length === WAITING_PEERS) {
      socket.destroy()
      return
    }
    // Both ends may vanish at any time; 'close' follows and says all that counts.
    socket.on('error', () => {})
    if (this.#peer === undefined) this.#adopt(socket)
    else this.#waiting.push(socket)
  }

  #dial(connected?: () => void, failed?: (error: Error) => void): void {
    const socket = connect({ path: this.#options.path })
    const lost = (error: Error): void => {
      socket.destroy()
      if (this.#reconnectMs === 0) failed?.(error)
      else {
        connected?.()
        this.#dialLater()
      }
    }
    socket.once('error', lost).once('connect', () => {
      socket.off('error', lost).on('error', () => {})
      if (this.#closed) socket.destroy()
      else this.#adopt(socket)
      connected?.()
    })
  }

  #dialLater(): void {
    if (this.#closed) return
    this.#retry = setTimeout(() => this.#dial(), this.#reconnectMs).unref()
  }

  #adopt(socket: Socket): void {
    this.#peer = socket
    socket.on('data', (chunk) => {
      this.#queue.push(chunk)
      this.#queue.deliver(this)
      if (this.#queue.length > 0) socket.pause()
    })
    socket.on('drain', () => this.#moved())
    // A peer that has closed its end is gone, even while it lets output wait.
    socket.on('end', () => socket.destroy())
    socket.on('close', () => this.#hangup(socket))
    // What the last peer sent still has its place in the queue.
    if (this.#queue.length > 0) socket.pause()
    else socket.resume()
    this.#adopted?.()
    this.onOpen?.()
  }

  #hangup(socket: Socket): void {
    if (this.#peer !== socket) return
    this.#peer = undefined
    this.onHangup?.()
    // The user may have been waiting for the one that has gone.
    this.#moved()
    const next = this.#waiting.find((other) => !other.destroyed)
    this.#waiting.splice(0, next === undefined ? Infinity : this.#waiting.indexOf(next) + 1)
    if (next !== undefined) this.#adopt(next)
    else if (this.#server === undefined && this.#reconnectMs > 0) this.#dialLater()
  }

  #watch(peer: Socket): void {
    this.#stall = setTimeout(() => {
      if (this.#peer !== peer) return
      this.#dropping = true
      this.#options.report(
        `nobody reads from the socket '${this.#options.path}'; what follows is lost until ` +
          'somebody does',
      )
      this.onWritable?.()
    }, this.#options.stallMs ?? STALL_MS).unref()
  }

  #moved(): void {
    clearTimeout(this.#stall)
    this.#full = false
    this.#dropping = false
    this.onWritable?.()
  }
}
