import type { FrameBatch } from 'virtio'

import type { DmaMemory } from '../../net/dma.ts'
import { Arrival } from '../e1000/arrival.ts'
import { countFrame } from '../e1000/frame.ts'
import { type RegisterFile, count } from '../e1000/register-map.ts'
import {
  CAUSE_RXDMT0,
  CAUSE_RXO,
  CAUSE_RXT0,
  MPC,
  RCTL,
  RCTL_EN,
  RDBAL,
  RDH,
  RDLEN,
  RDT,
  RNBC,
} from '../e1000/registers.ts'
import { BUFFERS, type DescriptorLayout, descriptorLayout } from './descriptor.ts'
import { type Metadata, RFCTL_ACK_DIS, RFCTL_IPFRSP_DIS, STATUS_DD, describe } from './metadata.ts'
import { type Packet, emptyPacket, parsePacket } from './packet.ts'
import {
  CAUSE_ACK,
  CAUSE_RXQ0,
  CAUSE_RXQ1,
  CAUSE_SRPD,
  QUEUE_OFFSET,
  RFCTL,
  RSRPD,
} from './registers.ts'
import { Rss } from './rss.ts'

/** Rings count in descriptors of the least size. */
const UNIT_BYTES = 16
/** The header of a packet was put into a buffer of its own. */
const HEADER_SPLIT = 0x8000

/** A frame as the guest gets it. */
interface Incoming {
  bytes: Uint8Array
  start: number
  size: number
  /** With what follows it on the cable. */
  total: number
  /** Bytes that go into a buffer of their own; -1 for none. */
  header: number
}

/** Puts frames into the guest's descriptors (Intel 82574 data sheet, 7.1). */
export class Receiver {
  readonly #registers: RegisterFile
  readonly #memory: DmaMemory
  readonly #hasVectors: () => boolean
  readonly #rss: Rss
  readonly #packet: Packet = emptyPacket()
  readonly #arrival: Arrival
  readonly #check: Uint8Array<ArrayBuffer> = new Uint8Array(4)
  readonly #descriptor: Uint8Array<ArrayBuffer> = new Uint8Array(32)
  readonly #words: DataView<ArrayBuffer> = new DataView(this.#descriptor.buffer)
  readonly #addresses: number[] = []
  readonly #written: number[] = []
  readonly #said: Metadata = { status: 0, hash: 0, mrq: 0, tag: 0, isAck: false }
  #layout: DescriptorLayout

  constructor(registers: RegisterFile, memory: DmaMemory, hasVectors: () => boolean) {
    this.#registers = registers
    this.#memory = memory
    this.#arrival = new Arrival(registers)
    this.#hasVectors = hasVectors
    this.#rss = new Rss(registers)
    this.#layout = descriptorLayout(registers)
  }

  /** RCTL, RFCTL or PSRCTL has changed. */
  layoutChanged(): void {
    this.#layout = descriptorLayout(this.#registers)
  }

  get isOn(): boolean {
    return (this.#registers[RCTL >> 2]! & RCTL_EN) !== 0
  }

  /** Whether the guest has given descriptors. */
  get hasRoom(): boolean {
    return this.#free(0) > 0 || this.#free(QUEUE_OFFSET) > 0
  }

  /**
   * Takes the frame at `at` of a batch. Returns interrupt causes, 0 for a frame that the guest does not want; -1 when it
   * has to wait for descriptors.
   */
  deliver(batch: FrameBatch, at: number): number {
    const registers = this.#registers
    const arrival = this.#arrival
    if (!arrival.take(batch, at)) return 0
    const { bytes, start, size, total, tag } = arrival
    parsePacket(this.#packet, bytes, start, size)
    this.#rss.classify(this.#packet, bytes)
    const queue = this.#rss.result.queue * QUEUE_OFFSET
    const frame = { bytes, start, size, total, header: this.#headerBytes(start, size) }
    const needed = this.#needed(frame)
    // As many as it needs the guest can never give.
    if (needed >= this.#ringSize(queue)) return this.#overrun()
    if (needed > this.#free(queue)) return -1
    describe(this.#said, registers, this.#packet, bytes, this.#rss, tag)
    if (!this.#store(frame, queue)) return this.#overrun()
    countFrame(registers, bytes, start, size, total)
    return this.#causes(queue, total)
  }

  /** What goes into the first buffer alone (7.1.5.1). */
  #headerBytes(start: number, size: number): number {
    const { kind, sizes } = this.#layout
    const { ip, isFragment, l4, l5 } = this.#packet
    if (kind !== 'split' || ip === 0) return -1
    if (isFragment && (this.#registers[RFCTL >> 2]! & RFCTL_IPFRSP_DIS) !== 0) return -1
    const bytes = (l5 >= 0 ? l5 : l4) - start
    return bytes > sizes[0]! || bytes > size ? -1 : bytes
  }

  /** Units of the ring that a frame takes. */
  #needed({ total, header }: Incoming): number {
    const { bytes, sizes, capacity } = this.#layout
    const units = bytes / UNIT_BYTES
    if (header < 0) return Math.ceil(total / capacity) * units
    return Math.max(1, Math.ceil((total - header) / (capacity - sizes[0]!))) * units
  }

  /** False when there were too few descriptors after all, as those without a buffer are passed over. */
  #store(frame: Incoming, queue: number): boolean {
    const registers = this.#registers
    const { bytes } = this.#layout
    const units = bytes / UNIT_BYTES
    const head = (RDH + queue) >> 2
    let done = 0
    while (done < frame.total) {
      if (this.#free(queue) < units) return false
      const at = this.#ringBase(queue) + registers[head]! * UNIT_BYTES
      if (!this.#memory.read(at, this.#descriptor.subarray(0, bytes))) return false
      const before = done
      if (this.#readAddresses()) done += this.#fill(frame, done)
      this.#writeBack(at, done >= frame.total, before === 0 ? frame.header : -1)
      const next = registers[head]! + units
      registers[head] = next >= this.#ringSize(queue) ? 0 : next
    }
    return true
  }

  /** False for a descriptor without a buffer. */
  #readAddresses(): boolean {
    const buffers = this.#layout.kind === 'split' ? BUFFERS : 1
    for (let i = 0; i < BUFFERS; i++) {
      const high = i < buffers ? this.#words.getUint32(8 * i + 4, true) : 0
      const low = i < buffers ? this.#words.getUint32(8 * i, true) : 0
      this.#addresses[i] = high * 0x1_0000_0000 + low
      this.#written[i] = 0
    }
    return this.#addresses[0] !== 0
  }

  /** Fills the buffers of a descriptor; returns how many bytes they took. */
  #fill(frame: Incoming, done: number): number {
    const { sizes } = this.#layout
    const { total, header } = frame
    let at = done
    let buffer = 0
    if (header >= 0) {
      // The first buffer of further descriptors stays empty.
      if (done === 0) {
        this.#put(frame, 0, 0, header)
        at = header
      }
      buffer = 1
    }
    for (; buffer < sizes.length && at < total; buffer++) {
      const bytes = Math.min(sizes[buffer]!, total - at)
      this.#put(frame, buffer, at, bytes)
      at += bytes
    }
    return at - done
  }

  /** Copies a part of the frame; what is behind it is the check sequence. */
  #put({ bytes, start, size }: Incoming, buffer: number, at: number, length: number): void {
    const address = this.#addresses[buffer]!
    const here = Math.max(0, Math.min(length, size - at))
    // What is not memory takes the frame as a bus does that nobody listens on.
    if (here > 0) this.#memory.write(address, bytes.subarray(start + at, start + at + here))
    if (length > here) this.#memory.write(address + here, this.#check.subarray(0, length - here))
    this.#written[buffer] = length
  }

  #writeBack(at: number, isLast: boolean, header: number): void {
    const { kind, bytes } = this.#layout
    const words = this.#words
    const { status, hash, mrq, tag } = this.#said
    const said = isLast ? status : STATUS_DD
    if (kind === 'legacy') {
      words.setUint32(8, this.#written[0]!, true)
      words.setUint16(12, ((said & 0xfe) | ((said >>> 24) << 8)) & 0xffff, true)
      words.setUint16(14, isLast ? tag : 0, true)
      this.#memory.write(at + 8, this.#descriptor.subarray(8, 16))
      // The guest looks at this, maybe at this moment: it comes last.
      this.#descriptor[12]! |= STATUS_DD
      this.#memory.write(at + 12, this.#descriptor.subarray(12, 13))
      return
    }
    this.#descriptor.fill(0)
    words.setUint16(12, this.#written[0]!, true)
    if (isLast) {
      words.setUint32(0, mrq, true)
      words.setUint32(4, hash, true)
      words.setUint16(14, tag, true)
    }
    if (kind === 'split') {
      words.setUint16(16, header > 0 ? header | HEADER_SPLIT : 0, true)
      for (let i = 1; i < BUFFERS; i++) words.setUint16(16 + 2 * i, this.#written[i]!, true)
    }
    this.#memory.write(at, this.#descriptor.subarray(0, bytes))
    words.setUint32(8, said, true)
    this.#memory.write(at + 8, this.#descriptor.subarray(8, 12))
  }

  #causes(queue: number, total: number): number {
    const registers = this.#registers
    let causes = 0
    if (total < registers[RSRPD >> 2]!) causes |= CAUSE_SRPD
    const tellsOfAcks = (registers[RFCTL >> 2]! & RFCTL_ACK_DIS) === 0
    if (tellsOfAcks && this.#said.isAck) causes |= CAUSE_ACK
    if (this.#hasVectors()) return causes | (queue === 0 ? CAUSE_RXQ0 : CAUSE_RXQ1)
    const least = this.#ringSize(queue) >> (((registers[RCTL >> 2]! >>> 8) & 3) + 1)
    return causes | CAUSE_RXT0 | (this.#free(queue) <= least ? CAUSE_RXDMT0 : 0)
  }

  #overrun(): number {
    count(this.#registers, RNBC)
    count(this.#registers, MPC)
    return CAUSE_RXO
  }

  #free(queue: number): number {
    const size = this.#ringSize(queue)
    const head = this.#registers[(RDH + queue) >> 2]!
    const tail = this.#registers[(RDT + queue) >> 2]!
    if (head >= size || tail >= size) return 0
    return tail >= head ? tail - head : tail + size - head
  }

  #ringSize(queue: number): number {
    return this.#registers[(RDLEN + queue) >> 2]! / UNIT_BYTES
  }

  #ringBase(queue: number): number {
    const low = (RDBAL + queue) >> 2
    return this.#registers[low + 1]! * 0x1_0000_0000 + ((this.#registers[low]! & ~15) >>> 0)
  }
}
