import { Link } from 'virtio'
import { NetEnd } from 'virtio/testing'
import { E1000 } from '../../src/chipset/e1000/e1000.ts'
import { Bus } from '../../src/machine/bus.ts'
import { ManualClock } from '../../src/machine/clock.ts'
import { FlatRam } from './ram.ts'

export const BASE = 0xfebc_0000
export const PORTS = 0xc040
export const TX_RING = 0x1000
export const RX_RING = 0x2000
/** Where buffers of receive descriptors are, 2 KiB each. */
export const RX_BUFFERS = 0x1_0000
/** Where frames of the driver are. */
export const TX_DATA = 0x8_0000
export const MAC: Uint8Array = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)

export const END = 0x0100_0000
export const INSERT = 0x0400_0000
export const REPORT = 0x0800_0000
export const DATA = 0x2010_0000
export const CONTEXT = 0x2000_0000
export const CUT = 0x0400_0000
export const TAGGED = 0x4000_0000

/** An e1000 with somebody at the other end of its cable, and what a driver does. */
export class E1000Driver {
  readonly bus: Bus = new Bus()
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly clock: ManualClock = new ManualClock()
  readonly link: Link = new Link()
  readonly end: NetEnd = new NetEnd()
  readonly card: E1000
  interrupt = false
  /** Rings of so many descriptors. */
  readonly entries: number

  constructor(entries = 16) {
    this.entries = entries
    this.link.a.attach(this.end)
    this.card = new E1000('e1000', this.bus, this.ram, {
      side: this.link.b,
      mac: MAC,
      clock: this.clock,
    })
    this.card.fn.onInterrupt = (level) => {
      this.interrupt = level
    }
    this.card.fn.configWrite(0x10, 4, BASE)
    this.card.fn.configWrite(0x14, 4, PORTS)
    this.card.fn.configWrite(4, 2, 7)
  }

  get(register: number): number {
    return this.bus.mmio.read(BASE + register, 4)
  }

  set(register: number, value: number): void {
    this.bus.mmio.write(BASE + register, 4, value)
  }

  /** Gives the card its rings, and as many receive buffers as fit. */
  start(rctl = 0x8002): void {
    const bytes = 16 * this.entries
    for (const [registers, ring] of [
      [0x2800, RX_RING],
      [0x3800, TX_RING],
    ] as const) {
      this.set(registers, ring)
      this.set(registers + 4, 0)
      this.set(registers + 8, bytes)
      this.set(registers + 0x10, 0)
      this.set(registers + 0x18, 0)
    }
    for (let i = 0; i < this.entries; i++) this.giveBuffer(i, RX_BUFFERS + 2048 * i)
    this.set(0x400, 2)
    this.set(0x100, rctl)
    this.set(0x2818, this.entries - 1)
  }

  giveBuffer(index: number, address: number): void {
    const at = RX_RING + 16 * index
    this.ram.bytes.fill(0, at, at + 16)
    new DataView(this.ram.bytes.buffer).setUint32(at, address, true)
  }

  /** Puts descriptors, four words each, behind those that are in the ring, and tells the card. */
  send(...descriptors: readonly (readonly [number, number, number, number])[]): void {
    const words = new DataView(this.ram.bytes.buffer)
    let tail = this.get(0x3818)
    for (const descriptor of descriptors) {
      for (const [i, word] of descriptor.entries()) {
        words.setUint32(TX_RING + 16 * tail + 4 * i, word, true)
      }
      tail = (tail + 1) % this.entries
    }
    this.set(0x3818, tail)
  }

  /** Puts a frame into memory; returns its address. */
  frame(frame: Uint8Array, address = TX_DATA): number {
    this.ram.bytes.set(frame, address)
    return address
  }

  /** What the driver finds in a receive descriptor: status, length, special, and the buffer's bytes. */
  received(index: number): { status: number; length: number; tag: number; bytes: Uint8Array } {
    const at = RX_RING + 16 * index
    const words = new DataView(this.ram.bytes.buffer)
    const address = words.getUint32(at, true)
    const length = words.getUint16(at + 8, true)
    return {
      status: words.getUint8(at + 12),
      length,
      tag: words.getUint16(at + 14, true),
      bytes: this.ram.bytes.slice(address, address + length),
    }
  }

  get sent(): Uint8Array[] {
    return this.end.got.map(({ frame }) => frame)
  }
}

/** An Ethernet frame of so many bytes, to the card unless another address is given. */
export function frameOf(bytes: number, to: Uint8Array = MAC, type = 0x0800): Uint8Array {
  const frame = Uint8Array.from({ length: bytes }, (_, i) => i * 7)
  frame.set(to)
  frame.set([2, 0, 0, 0, 0, 9], 6)
  frame.set([type >> 8, type & 0xff], 12)
  return frame
}

/** The Internet checksum of bytes that contain a right one is 0xffff. */
export function sumOf(bytes: Uint8Array, more = 0): number {
  let sum = more
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  return sum
}
