import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { Link } from 'virtio'
import { type NetEnd, batchOf } from 'virtio/testing'
import type { Bus } from '../../src/machine/bus.ts'
import type { FlatRam } from './ram.ts'
import { startIdlePeer } from './qtest.ts'
import type { QtestPeer } from './qtest.ts'

/** A card of ours on a bus, with somebody at the other end of its cable. */
export interface OwnCard {
  readonly bus: Bus
  readonly ram: FlatRam
  readonly link: Link
  readonly end: NetEnd
  readonly card: { close(): void }
}

/** Where QEMU's card is. */
const CONFIG = 0x8000_1800

/** Our card and QEMU's, with the same registers and memory. */
export class CardPair<Card extends OwnCard> {
  readonly ours: Card
  readonly theirs: QtestPeer
  readonly #base: number
  /** Frames of QEMU's card. */
  readonly sent: Uint8Array[] = []
  readonly #socket: Socket
  readonly #peerPort: number

  private constructor(ours: Card, base: number, theirs: QtestPeer, socket: Socket, port: number) {
    this.ours = ours
    this.#base = base
    this.theirs = theirs
    this.#socket = socket
    this.#peerPort = port
    socket.on('message', (frame) => void this.sent.push(Uint8Array.from(frame)))
  }

  /** `config` are words of configuration space that place QEMU's card at `base`. */
  static async start<Card extends OwnCard>(
    ours: Card,
    model: string,
    base: number,
    firmware: string,
    config: readonly (readonly [number, number])[],
  ): Promise<CardPair<Card>> {
    const sockets = [createSocket('udp4'), createSocket('udp4')] as const
    for (const socket of sockets) {
      socket.bind(0, '127.0.0.1')
      await once(socket, 'listening')
    }
    const { port } = sockets[1].address() as AddressInfo
    sockets[1].close()
    const own = sockets[0].address().port
    const netdev = `socket,id=n,udp=127.0.0.1:${own},localaddr=127.0.0.1:${port}`
    const device = `${model},netdev=n,addr=3,romfile=`
    const theirs = startIdlePeer(firmware, '-netdev', netdev, '-device', device)
    const pair = new CardPair(ours, base, theirs, sockets[0], port)
    for (const [offset, value] of config) {
      await theirs.ask(`outl 0xcf8 ${CONFIG + offset}`)
      await theirs.ask(`outl 0xcfc ${value}`)
    }
    return pair
  }

  async set(register: number, value: number, size: 1 | 2 | 4 = 4): Promise<void> {
    this.ours.bus.mmio.write(this.#base + register, size, value)
    await this.theirs.ask(`write${letter(size)} ${this.#base + register} ${value}`)
  }

  /** The register of both; ours first. */
  async get(register: number, size: 1 | 2 | 4 = 4): Promise<[number, number]> {
    const theirs = await this.theirs.ask(`read${letter(size)} ${this.#base + register}`)
    return [this.ours.bus.mmio.read(this.#base + register, size), Number(theirs)]
  }

  async poke(address: number, bytes: Uint8Array): Promise<void> {
    this.ours.ram.bytes.set(bytes, address)
    const hex = Buffer.from(bytes).toString('hex')
    await this.theirs.ask(`write ${address} ${bytes.length} 0x${hex}`)
  }

  /** Memory of both. */
  async peek(address: number, bytes: number): Promise<[string, string]> {
    const theirs = await this.theirs.ask(`read ${address} ${bytes}`)
    const ours = this.ours.ram.bytes.subarray(address, address + bytes)
    return [`0x${Buffer.from(ours).toString('hex')}`, theirs]
  }

  /** Puts a frame onto both cables. */
  send(frame: Uint8Array): void {
    this.ours.link.a.send(batchOf(frame))
    this.#socket.send(frame, this.#peerPort, '127.0.0.1')
  }

  /** Frames that both have sent since the last call, as text, once QEMU has sent as many. */
  async frames(): Promise<[string[], string[]]> {
    const { got } = this.ours.end
    for (let i = 0; i < 200 && this.sent.length < got.length; i++) await setTimeout(5)
    await setTimeout(10)
    const text = (frame: Uint8Array): string => Buffer.from(frame).toString('hex')
    return [got.splice(0).map(({ frame }) => text(frame)), this.sent.splice(0).map(text)]
  }

  close(): void {
    this.theirs.close()
    this.#socket.close()
    this.ours.card.close()
  }
}

function letter(size: 1 | 2 | 4): string {
  return size === 4 ? 'l' : size === 2 ? 'w' : 'b'
}
