import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { isIPv6 } from 'node:net'

import { systemMessage } from '../cli/system-error.ts'
import { VmmError } from '../errors.ts'
import { endText, resolveInet } from './address.ts'
import type { Endpoint, UdpAddresses } from './address.ts'
import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** What fits into a datagram over IPv4. */
const MAX_DATAGRAM_BYTES = 65_507
/** What may wait for the user; datagrams that come then are lost, as they are on any way. */
const QUEUED_BYTES = 64 * 1024
/** What may wait to be sent; then the user waits. */
const SENDING_BYTES = 256 * 1024

/** Datagrams to and from one peer: what is written at once is one of them. */
export class UdpChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'udp'
  readonly #socket: Socket
  readonly #queue: ByteQueue = new ByteQueue()
  #sending = 0
  #full = false
  #closed = false
  #drained: (() => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('message', (data) => {
      if (this.#queue.length < QUEUED_BYTES) this.#queue.push(data)
      this.#queue.deliver(this)
    })
    // Nobody listens at the other end: the next datagram may find somebody.
    socket.on('error', () => {})
  }

  /** @throws VmmError `E_CHARDEV` when the local address cannot be had, or a host is not known */
  static async open({ remote, local }: UdpAddresses): Promise<UdpChardev> {
    const [to] = await resolveInet(remote, false)
    const isV6 = isIPv6(to!.address)
    const version = isV6 ? { ipv4: false } : { ipv6: false }
    const [from] = await resolveInet({ ...local, ...version }, true)
    const socket = createSocket(isV6 ? 'udp6' : 'udp4')
    try {
      await bound(socket, from!)
      await linked(socket, to!)
    } catch (error) {
      socket.close()
      throw error
    }
    return new UdpChardev(socket)
  }

  write(data: Uint8Array): boolean {
    if (this.#closed) return true
    if (this.#full) return false
    for (let at = 0; at < data.length; at += MAX_DATAGRAM_BYTES) {
      const part = data.subarray(at, at + MAX_DATAGRAM_BYTES)
      this.#sending += part.length
      this.#socket.send(part, () => this.#sent(part.length))
    }
    this.#full = this.#sending >= SENDING_BYTES
    return true
  }

  notifyReadable(): void {
    this.#queue.deliver(this)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue.clear()
    this.#socket.close()
    this.#drained?.()
  }

  /** Resolves when everything was sent, or nothing has been for `stallMs`. */
  async drained(stallMs: number): Promise<void> {
    if (this.#sending === 0 || this.#closed) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve) => {
      this.#drained = resolve
      timer = setTimeout(resolve, stallMs)
    })
    clearTimeout(timer)
  }

  #sent(length: number): void {
    this.#sending -= length
    if (this.#sending === 0) this.#drained?.()
    if (!this.#full || this.#sending >= SENDING_BYTES) return
    this.#full = false
    this.onWritable?.()
  }
}

function bound(socket: Socket, { address, port }: Endpoint): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      const place = endText(address, port)
      const message = `Failed to bind socket to ${place}: ${systemMessage(error)}`
      reject(new VmmError('E_CHARDEV', message, { cause: error }))
    }
    socket.once('error', failed).bind({ address, port, exclusive: true }, () => {
      socket.off('error', failed)
      resolve()
    })
  })
}

function linked(socket: Socket, { address, port }: Endpoint): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.connect(port, address, (error?: Error | null) => {
      if (error === undefined || error === null) return resolve()
      const message = `Failed to connect to '${endText(address, port)}': ${systemMessage(error)}`
      reject(new VmmError('E_CHARDEV', message, { cause: error }))
    })
  })
}
