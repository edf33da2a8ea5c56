import { type Socket, createSocket } from 'node:dgram'
import { isIPv6 } from 'node:net'
import {
  type FrameBatch,
  type LinkEnd,
  type LinkSide,
  MAX_FRAME_BYTES,
  RECORD_FRAME_OFFSET,
  isFrameLength,
} from 'virtio'

import { VmmError } from '../../errors.ts'
import type { DgramLine, InetAddress } from './config.ts'
import { CardSender } from './sender.ts'

/** What may wait to be sent; further frames are lost, as on any network. */
const QUEUED_BYTES = 4 << 20
/** The most that a datagram of UDP holds. */
const DATAGRAM_BYTES = 65_507
/** Stations behind the card that are remembered. */
const STATIONS = 64

/** Frames as datagrams, to one peer or to a group. */
export class DgramNet implements LinkEnd {
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  /** Resolves when it hears. Rejects with `E_NETDEV`. */
  readonly ready: Promise<void>
  readonly detail: string
  readonly #side: LinkSide
  readonly #sender: CardSender
  readonly #socket: Socket
  readonly #remote: InetAddress | undefined
  readonly #isGroup: boolean
  /** Who sent from here: a group gives one's own frames back. */
  readonly #stations: Set<string> = new Set()
  #isOpen = true

  constructor(line: DgramLine, side: LinkSide, report: (message: string) => void) {
    const { local, remote, isGroup } = line
    this.#side = side
    this.#sender = new CardSender(side)
    this.#remote = remote
    this.#isGroup = isGroup
    const near = isGroup ? { host: '0.0.0.0', port: remote?.port ?? 0 } : local
    const host = near?.host ?? ''
    this.#socket = createSocket({
      type: isIPv6(host) || isIPv6(remote?.host ?? '') ? 'udp6' : 'udp4',
      reuseAddr: isGroup,
    })
    this.detail = isGroup ? `mcast=${text(remote)}` : `udp=${text(local)}/${text(remote)}`
    side.attach(this)
    this.#socket.on('message', (frame) => this.#heard(frame))
    this.ready = new Promise((resolve, reject) => {
      this.#socket.on('error', (error) => {
        reject(
          new VmmError('E_NETDEV', `can't use ${this.detail}: ${error.message}`, { cause: error }),
        )
        report(`network ${this.detail}: ${error.message}`)
      })
      this.#socket.bind(
        { port: near?.port ?? 0, ...(host === '' ? {} : { address: host }) },
        () => {
          try {
            if (isGroup) this.#join(local?.host)
            resolve()
          } catch (error) {
            this.#socket.emit('error', error)
          }
        },
      )
    })
    this.ready.catch(() => {})
  }

  receive(batch: FrameBatch, from: number): number {
    const remote = this.#remote
    if (remote === undefined || !this.#isOpen) return batch.used
    for (let at = from; at < batch.used; at = batch.next(at)) {
      const start = at + RECORD_FRAME_OFFSET
      const length = batch.frameBytes(at)
      if (this.#isGroup) this.#remember(batch.bytes, start)
      if (length > DATAGRAM_BYTES || this.#socket.getSendQueueSize() > QUEUED_BYTES) continue
      const frame = batch.bytes.slice(start, start + length)
      // A peer that is not there yet is no error: nobody promises that datagrams arrive.
      this.#socket.send(frame, remote.port, remote.host, () => {})
    }
    return batch.used
  }

  resume(): void {
    this.#sender.flush()
  }

  linkChanged(): void {}

  /** The port that it listens at. */
  get port(): number {
    return this.#socket.address().port
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#side.detach()
    this.#socket.close()
  }

  #join(local: string | undefined): void {
    this.#socket.addMembership(this.#remote?.host ?? '', local)
    if (local !== undefined) this.#socket.setMulticastInterface(local)
    this.#socket.setMulticastLoopback(true)
  }

  #heard(frame: Uint8Array): void {
    if (!this.#isOpen || !isFrameLength(frame.length)) return
    if (this.#isGroup && this.#stations.has(station(frame, 0))) return
    const { batch } = this.#sender
    // Behind a card that takes nothing the batch is full: what comes then is lost.
    if (batch.push(frame) >= 0) this.#sender.flush()
  }

  #remember(bytes: Uint8Array, at: number): void {
    const name = station(bytes, at)
    if (this.#stations.has(name)) return
    for (const oldest of this.#stations) {
      if (this.#stations.size < STATIONS) break
      this.#stations.delete(oldest)
    }
    this.#stations.add(name)
  }
}

/** The address that a frame comes from. */
function station(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at + 6, 6).toString('latin1')
}

function text(address: InetAddress | undefined): string {
  return address === undefined ? '' : `${address.host}:${address.port}`
}
