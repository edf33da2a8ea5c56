import { Link } from 'virtio'
import { NetEnd } from 'virtio/testing'
import { Rtl8139 } from '../../src/chipset/rtl8139/rtl8139.ts'
import { Bus } from '../../src/machine/bus.ts'
import { ManualClock } from '../../src/machine/clock.ts'
import { MAC } from './e1000-driver.ts'
import { FlatRam } from './ram.ts'

export const BASE = 0xfebc_0000
export const PORTS = 0xc100
export const TX_RING = 0x1000
export const RX_RING = 0x2000
export const RX_BUFFERS = 0x1_0000
export const TX_DATA = 0x8_0000
export const ENTRIES = 16

export const OWN = 0x8000_0000
export const END_OF_RING = 0x4000_0000
export const FIRST = 0x2000_0000
export const LAST = 0x1000_0000
export const LARGE_SEND = 0x0800_0000

/** An rtl8139 with somebody at the other end of its cable, and what drivers of both modes do. */
export class Rtl8139Driver {
  readonly bus: Bus = new Bus()
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly clock: ManualClock = new ManualClock()
  readonly link: Link = new Link()
  readonly end: NetEnd = new NetEnd()
  readonly card: Rtl8139
  interrupt = false
  #tail = 0

  constructor() {
    this.link.a.attach(this.end)
    const { link, clock } = this
    this.card = new Rtl8139('rtl8139', this.bus, this.ram, { side: link.b, mac: MAC, clock })
    this.card.fn.onInterrupt = (level) => {
      this.interrupt = level
    }
    this.card.fn.configWrite(0x10, 4, PORTS)
    this.card.fn.configWrite(0x14, 4, BASE)
    this.card.fn.configWrite(4, 2, 7)
  }

  get(register: number, size = 4): number {
    return this.bus.mmio.read(BASE + register, size)
  }

  set(register: number, size: number, value: number): void {
    this.bus.mmio.write(BASE + register, size, value)
  }

  /** The mode of before: a buffer of 8 KiB. */
  startOld(rcr = 0x0f): void {
    this.set(0x37, 1, 0x10)
    this.set(0x30, 4, RX_BUFFERS)
    this.set(0x37, 1, 0x0c)
    this.set(0x44, 4, rcr)
  }

  /** C+ mode: rings of sixteen. */
  startRings(cplus = 0x2b, rcr = 0x0f): void {
    this.set(0x37, 1, 0x10)
    this.set(0xe0, 2, cplus)
    this.set(0xe4, 4, RX_RING)
    this.set(0xe8, 4, 0)
    this.set(0x20, 4, TX_RING)
    this.set(0x24, 4, 0)
    for (let i = 0; i < ENTRIES; i++) this.give(i)
    this.set(0x37, 1, 0x0c)
    this.set(0x44, 4, rcr)
    this.#tail = 0
  }

  /** Gives the card a receive descriptor. */
  give(index: number): void {
    const end = index === ENTRIES - 1 ? END_OF_RING : 0
    this.words(RX_RING + 16 * index, [(OWN | end | 2048) >>> 0, 0, RX_BUFFERS + 2048 * index, 0])
  }

  words(at: number, words: readonly number[]): void {
    const view = new DataView(this.ram.bytes.buffer)
    for (const [i, word] of words.entries()) view.setUint32(at + 4 * i, word >>> 0, true)
  }

  word(at: number): number {
    return new DataView(this.ram.bytes.buffer).getUint32(at, true)
  }

  /** Puts descriptors into the ring of C+ mode, and tells the card. */
  send(
    ...descriptors: readonly (readonly [command: number, tag: number, address: number])[]
  ): void {
    for (const [command, tag, address] of descriptors) {
      const end = this.#tail === ENTRIES - 1 ? END_OF_RING : 0
      this.words(TX_RING + 16 * this.#tail, [(command | end | OWN) >>> 0, tag, address, 0])
      this.#tail = (this.#tail + 1) % ENTRIES
    }
    this.set(0xd9, 1, 0x40)
  }

  get sent(): Uint8Array[] {
    return this.end.got.map(({ frame }) => frame)
  }
}
