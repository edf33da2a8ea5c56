import { Link } from 'virtio'
import { NetEnd } from 'virtio/testing'
import { E1000e } from '../../src/chipset/e1000e/e1000e.ts'
import { Bus } from '../../src/machine/bus.ts'
import { ManualClock } from '../../src/machine/clock.ts'
import { BASE, MAC, RX_BUFFERS, RX_RING, TX_RING, frameOf, sumOf } from './e1000-driver.ts'
import { FlatRam } from './ram.ts'

export const FLASH = 0xfeba_0000
export const PORTS = 0xc041
export const MSIX = 0xfeb9_0000
export const EXTENDED = 0x8000
const SPLIT = 0x0400
/** Descriptors of 16 bytes in a ring; those of 32 bytes are half as many. */
export const ENTRIES = 32
/** The second queue's ring for receiving. */
export const RX_RING_1 = 0x3000
/** A header of 256 bytes, and two parts of 1 KiB. */
const SPLIT_SIZES = 0x0001_0102

/** An e1000e with somebody at the other end of its cable, and what a driver does. */
export class E1000eDriver {
  readonly bus: Bus = new Bus()
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly clock: ManualClock = new ManualClock()
  readonly link: Link = new Link()
  readonly end: NetEnd = new NetEnd()
  readonly card: E1000e
  interrupt = false
  /** The data of messages that were sent, and whether one can be sent now. */
  readonly messages: number[] = []
  isOpen = true
  #isSplit = false

  constructor() {
    this.link.a.attach(this.end)
    this.card = new E1000e('e1000e', this.bus, this.ram, {
      side: this.link.b,
      mac: MAC,
      clock: this.clock,
      isIntegrated: false,
      sendMessage: (_address, data) => {
        if (this.isOpen) this.messages.push(data)
        return this.isOpen
      },
    })
    const { fn } = this.card
    fn.onInterrupt = (level) => {
      this.interrupt = level
    }
    for (const [register, value] of [
      [0x10, BASE],
      [0x14, FLASH],
      [0x18, PORTS],
      [0x1c, MSIX],
    ] as const) {
      fn.configWrite(register, 4, value)
    }
    fn.configWrite(4, 2, 7)
  }

  get(register: number): number {
    return this.bus.mmio.read(BASE + register, 4)
  }

  set(register: number, value: number): void {
    this.bus.mmio.write(BASE + register, 4, value)
  }

  /** Gives the card its rings, and as many receive buffers as fit. */
  start(rctl = 0x8002, rfctl = 0): void {
    for (const [registers, ring] of [
      [0x2800, RX_RING],
      [0x3800, TX_RING],
    ] as const) {
      this.set(registers, ring)
      this.set(registers + 4, 0)
      this.set(registers + 8, 16 * ENTRIES)
      this.set(registers + 0x10, 0)
      this.set(registers + 0x18, 0)
    }
    this.#isSplit = (rctl & SPLIT) !== 0
    for (let i = 0; i < ENTRIES / this.units; i++) this.giveBuffer(i)
    this.set(0x5008, rfctl)
    this.set(0x2170, SPLIT_SIZES)
    this.set(0x400, 2)
    this.set(0x100, rctl)
    this.set(0x2818, ENTRIES - this.units)
  }

  /** Units of 16 bytes that a descriptor has. */
  get units(): number {
    return this.#isSplit ? 2 : 1
  }

  giveBuffer(index: number, ring: number = RX_RING): void {
    const bytes = 16 * this.units
    const at = ring + bytes * index
    this.ram.bytes.fill(0, at, at + bytes)
    const words = new DataView(this.ram.bytes.buffer)
    const buffer = RX_BUFFERS + 2048 * this.units * index
    words.setUint32(at, buffer, true)
    if (!this.#isSplit) return
    for (const [i, offset] of [256, 256 + 1024].entries()) {
      words.setUint32(at + 8 + 8 * i, buffer + offset, true)
    }
  }

  /** Enables MSI-X, with the number of each vector as its data, and causes for them in the order of IVAR. */
  useVectors(): void {
    for (let vector = 0; vector < 5; vector++) {
      this.bus.mmio.write(MSIX + 16 * vector, 4, 0xfee0_0000)
      this.bus.mmio.write(MSIX + 16 * vector + 8, 4, vector)
      this.bus.mmio.write(MSIX + 16 * vector + 12, 4, 0)
    }
    this.card.fn.configWrite(0xa2, 2, 0x8000)
    this.set(0xe4, 0x000c_ba98)
  }

  /** Puts descriptors, four words each, behind those that are in the ring, and tells the card. */
  send(...descriptors: readonly (readonly [number, number, number, number])[]): void {
    const words = new DataView(this.ram.bytes.buffer)
    let tail = this.get(0x3818)
    for (const descriptor of descriptors) {
      for (const [i, word] of descriptor.entries()) {
        words.setUint32(TX_RING + 16 * tail + 4 * i, word, true)
      }
      tail = (tail + 1) % ENTRIES
    }
    this.set(0x3818, tail)
  }

  get sent(): Uint8Array[] {
    return this.end.got.map(({ frame }) => frame)
  }
}

/** A segment of TCP over IPv4 in a frame of so many bytes; its sums are right, or not. */
export function tcpFrame(
  bytes: number,
  isBroken = false,
  ports: readonly number[] = [80, 9],
): Uint8Array {
  const frame = frameOf(bytes)
  const view = new DataView(frame.buffer)
  frame.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15], 14)
  view.setUint16(16, bytes - 14)
  view.setUint16(24, ~sumOf(frame.subarray(14, 34)))
  view.setUint16(34, ports[0]!)
  view.setUint16(36, ports[1]!)
  frame.set([0x50, 0x10], 46)
  view.setUint16(50, 0)
  const pseudo = sumOf(frame.subarray(26, 34)) + 6 + bytes - 34
  view.setUint16(50, ~sumOf(frame.subarray(34), pseudo))
  if (isBroken) frame[bytes - 1]! ^= 1
  return frame
}
