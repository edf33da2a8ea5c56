import type { Server, Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import { addressText, endText } from './address.ts'
import type { SocketAddress, SocketProtocol } from './address.ts'
import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'
import { dial } from './dial.ts'
import { listenAt } from './listen.ts'
import { TELNET_GREETING, TelnetReader, telnetData } from './telnet.ts'

/** Peers that may wait for their turn; the kernel's queue holds more in front of the process. */
const WAITING_PEERS = 8
/** How long a peer that takes nothing holds up the user of the device. */
const STALL_MS = 10_000

export interface SocketOptions {
  address: SocketAddress
  /** By default bytes as they are. Telnet's commands are those of a server. */
  protocol?: SocketProtocol
  /** Send small pieces at once, over TCP. */
  noDelay?: boolean
  /** Told when output is dropped because the peer does not read, and when there is no connection yet. */
  report: (message: string) => void
  /** What messages call it. */
  label?: string
  stallMs?: number
}

/**
 * A socket, as server or as client. One peer at a time has the device; a server lets others
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
  readonly #protocol: SocketProtocol
  readonly #queue: ByteQueue = new ByteQueue()
  readonly #waiting: Duplex[] = []
  readonly #abort = new AbortController()
  #server: Server | undefined
  #peer: Duplex | undefined
  /** Both ends of the connection, once there has been one. */
  #ends = ''
  #telnet: TelnetReader | undefined
  #reconnectMs = 0
  #isReported = false
  #retry: NodeJS.Timeout | undefined
  #stall: NodeJS.Timeout | undefined
  #full = false
  #dropping = false
  #closed = false
  #adopted: (() => void) | undefined

  private constructor(options: SocketOptions) {
    this.#options = options
    this.#protocol = options.protocol ?? 'tcp'
  }

  /**
   * Listens at the address; a UNIX socket that an earlier process left there is replaced.
   * @throws VmmError `E_CHARDEV`
   */
  static async listen(options: SocketOptions): Promise<SocketChardev> {
    const device = new SocketChardev(options)
    device.#server = await listenAt(options.address, (socket) => device.#arrive(socket))
    return device
  }

  /**
   * Connects to the address. With `reconnectMs` above 0 it tries again whenever there is no
   * connection, also for the first one; else a first connection that fails is an error.
   * @throws VmmError `E_CHARDEV`
   */
  static async connect(options: SocketOptions, reconnectMs: number): Promise<SocketChardev> {
    const device = new SocketChardev(options)
    device.#reconnectMs = reconnectMs
    const dialed = device.#dial()
    // A host that does not answer would hold everything up for minutes.
    if (reconnectMs === 0 || options.address.type === 'unix') await dialed
    return device
  }

  get connected(): boolean {
    return this.#peer !== undefined
  }

  /** What `info chardev` shows. */
  get filename(): string {
    const role = this.#server === undefined ? '' : ',server=on'
    if (this.connected && this.#ends !== '') return `${this.#protocol}:${this.#ends}`
    return `${this.connected ? '' : 'disconnected:'}${this.#place()}${role}`
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
    this.#full = !peer.write(this.#telnet === undefined ? data : telnetData(data))
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
    this.#abort.abort()
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

  /** Where it really listens, or what it was told to connect to. */
  #place(): string {
    const { address } = this.#options
    const bound = this.#server?.address()
    if (address.type === 'unix' || bound === null || bound === undefined) {
      return addressText(address, this.#protocol)
    }
    if (typeof bound === 'string') return `unix:${bound}`
    return `${this.#protocol}:${bound.address}:${bound.port}`
  }

  #arrive(socket: Duplex): void {
    if (this.#closed || this.#waiting.length === WAITING_PEERS) {
      socket.destroy()
      return
    }
    // Both ends may vanish at any time; 'close' follows and says all that counts.
    socket.on('error', () => {})
    if (this.#peer === undefined) this.#adopt(socket)
    else this.#waiting.push(socket)
  }

  async #dial(): Promise<void> {
    try {
      const socket = await dial(this.#options.address, this.#abort.signal)
      this.#isReported = false
      this.#arrive(socket)
    } catch (error) {
      if (this.#closed) return
      if (this.#reconnectMs === 0) throw error
      const { report, label = '' } = this.#options
      const reason = (error as Error).message
      if (!this.#isReported) report(`Unable to connect character device ${label}: ${reason}`)
      this.#isReported = true
      this.#dialLater()
    }
  }

  #dialLater(): void {
    if (this.#closed) return
    this.#retry = setTimeout(() => void this.#dial(), this.#reconnectMs).unref()
  }

  #adopt(socket: Duplex): void {
    this.#peer = socket
    this.#greet(socket)
    socket.on('data', (chunk: Uint8Array) => {
      this.#queue.push(this.#telnet === undefined ? chunk : this.#telnet.take(chunk))
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

  /** What is new with each peer. */
  #greet(socket: Duplex): void {
    const { localAddress, localPort = 0, remoteAddress, remotePort = 0 } = socket as Partial<Socket>
    const role = this.#server === undefined ? '' : ',server=on'
    this.#ends =
      localAddress === undefined || remoteAddress === undefined
        ? ''
        : `${endText(localAddress, localPort)}${role} <-> ${endText(remoteAddress, remotePort)}`
    if (this.#options.noDelay === true) (socket as Partial<Socket>).setNoDelay?.(true)
    if (this.#protocol !== 'telnet' || this.#server === undefined) return
    this.#telnet = new TelnetReader(() => this.onBreak?.())
    socket.write(TELNET_GREETING)
  }

  #hangup(socket: Duplex): void {
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

  #watch(peer: Duplex): void {
    this.#stall = setTimeout(() => {
      if (this.#peer !== peer) return
      this.#dropping = true
      this.#options.report(
        `nobody reads from the socket '${this.#name()}'; what follows is lost until ` +
          'somebody does',
      )
      this.onWritable?.()
    }, this.#options.stallMs ?? STALL_MS).unref()
  }

  /** What messages call the place. */
  #name(): string {
    const { address } = this.#options
    return address.type === 'unix' ? address.path : this.#place()
  }

  #moved(): void {
    clearTimeout(this.#stall)
    this.#full = false
    this.#dropping = false
    this.onWritable?.()
  }
}
