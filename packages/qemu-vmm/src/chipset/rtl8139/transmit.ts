import { FrameBatch, MAX_FRAME_BYTES, MIN_FRAME_BYTES } from 'virtio'

import { putChecksum } from '../../net/checksum.ts'
import type { DmaMemory } from '../../net/dma.ts'
import { type Rtl8139Registers, TSD_OWN } from './state.ts'

const DESCRIPTOR_BYTES = 16
/** The largest ring of C+ mode. */
const RING_ENTRIES = 64
/** What is looked at in one go: vCPUs wait meanwhile. */
const STEPS = 512
const MOST_BYTES = MAX_FRAME_BYTES - 4

/** A transmit status of the mode of before (RTL8139C+ data sheet, 5.2). */
const TSD_OK = 0x8000
const TSD_SIZE = 0x1fff

/** A descriptor of C+ mode (9.2.1). */
const OWN = 0x8000_0000
const END_OF_RING = 0x4000_0000
const FIRST = 0x2000_0000
const LAST = 0x1000_0000
const LARGE_SEND = 0x0800_0000
const IP_SUM = 0x0004_0000
const UDP_SUM = 0x0002_0000
const TCP_SUM = 0x0001_0000
/** What is cleared of it with the ownership: errors of cables. */
const ERRORS = 0x02f0_0000
const TAG = 0x0002_0000

const ETHERNET_BYTES = 14
const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17
const TCP_LAST_FLAGS = 0x09

/** Takes frames from the guest in both modes, into one batch. */
export class Rtl8139Transmitter {
  readonly batch: FrameBatch = new FrameBatch()
  readonly #registers: Rtl8139Registers
  readonly #memory: DmaMemory
  readonly #sent: () => void
  /** The frame of C+ mode that is being put together. */
  readonly #data: Uint8Array<ArrayBuffer> = new Uint8Array(MOST_BYTES)
  readonly #view: DataView<ArrayBuffer> = new DataView(this.#data.buffer)
  readonly #descriptor: Uint8Array = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #word: DataView = new DataView(this.#descriptor.buffer)
  size = 0
  /** The frame cannot be sent. */
  isBad = false
  /** Bytes of a large packet's segments that are sent already. */
  errors = 0

  /** `sent` counts a frame. */
  constructor(registers: Rtl8139Registers, memory: DmaMemory, sent: () => void) {
    this.#registers = registers
    this.#memory = memory
    this.#sent = sent
  }

  get partial(): Uint8Array {
    return this.#data.slice(0, this.size)
  }

  restore(partial: Uint8Array, isBad: boolean): void {
    this.#data.set(partial)
    this.size = partial.length
    this.isBad = isBad
  }

  reset(): void {
    this.batch.clear()
    this.size = 0
    this.isBad = false
  }

  get #isFull(): boolean {
    return !this.batch.hasRoom(MAX_FRAME_BYTES)
  }

  /** The four descriptors of the mode of before, in turn; true when any was sent. */
  runOld(): boolean {
    const { status, address } = this.#registers
    let any = false
    for (let i = 0; i < status.length && !this.#isFull; i++) {
      const current = this.#registers.currentTx
      const tsd = status[current]!
      if ((tsd & TSD_OWN) !== 0) break
      const size = tsd & TSD_SIZE
      const data = this.#data.subarray(0, size)
      if (this.#memory.read(address[current]!, data) && size >= MIN_FRAME_BYTES) this.#append(data)
      else this.errors++
      status[current] = (tsd | TSD_OWN | TSD_OK) >>> 0
      this.#registers.currentTx = (current + 1) % status.length
      any = true
    }
    return any
  }

  /** The ring of C+ mode. Returns whether any was done, and whether there is more to do. */
  runRing(base: number): { any: boolean; more: boolean } {
    let any = false
    for (let step = 0; step < STEPS; step++) {
      if (this.#isFull || !this.#hasRoomForSegments()) return { any, more: true }
      const at = base + DESCRIPTOR_BYTES * this.#registers.currentTxRing
      if (!this.#memory.read(at, this.#descriptor)) return { any, more: false }
      const command = this.#word.getUint32(0, true)
      if ((command & OWN) === 0) return { any, more: false }
      const tag = this.#word.getUint32(4, true)
      const low = this.#word.getUint32(8, true)
      this.#take(command, tag, this.#word.getUint32(12, true) * 0x1_0000_0000 + low)
      this.#word.setUint32(0, (command & ~(OWN | ERRORS)) >>> 0, true)
      this.#memory.write(at, this.#descriptor.subarray(0, 4))
      const next = this.#registers.currentTxRing + 1
      const isEnd = (command & END_OF_RING) !== 0 || next >= RING_ENTRIES
      this.#registers.currentTxRing = isEnd ? 0 : next
      any = true
    }
    return { any, more: true }
  }

  /** A large packet becomes up to as many bytes again, for the headers of its segments. */
  #hasRoomForSegments(): boolean {
    return this.batch.used === 0 || this.batch.used < this.batch.bytes.length / 4
  }

  #take(command: number, tag: number, address: number): void {
    if ((command & FIRST) !== 0) {
      this.size = 0
      this.isBad = false
    }
    const bytes = command & 0xffff
    const room = this.#data.subarray(this.size, this.size + bytes)
    if (room.length < bytes || !this.#memory.read(address, room)) this.isBad = true
    else this.size += bytes
    if ((command & LAST) === 0) return
    if (this.isBad || this.size < MIN_FRAME_BYTES) this.errors++
    else this.#finish(command, (tag & TAG) === 0 ? -1 : ((tag & 0xff) << 8) | ((tag >>> 8) & 0xff))
    this.size = 0
    this.isBad = false
  }

  /** Sends the frame, with the sums that it wants, in segments if it wants them. */
  #finish(command: number, tag: number): void {
    const ip = this.#ipv4()
    if (ip === undefined || (command & (LARGE_SEND | IP_SUM | UDP_SUM | TCP_SUM)) === 0) {
      this.#append(this.#data.subarray(0, this.size), tag)
      return
    }
    const { header, protocol } = ip
    if ((command & LARGE_SEND) !== 0 && protocol === PROTOCOL_TCP) {
      this.#segments(header, (command >>> 16) & 0x7ff, tag)
      return
    }
    const wanted = protocol === PROTOCOL_TCP ? TCP_SUM : UDP_SUM
    const at = protocol === PROTOCOL_TCP ? 16 : protocol === PROTOCOL_UDP ? 6 : -1
    if ((command & wanted) !== 0 && at >= 0) this.#transportSum(header, protocol, at, this.size)
    if ((command & IP_SUM) !== 0) this.#ipSum(header)
    this.#append(this.#data.subarray(0, this.size), tag)
  }

  /** The header of IPv4 behind that of Ethernet: its length, and what is in the packet. */
  #ipv4(): { header: number; protocol: number } | undefined {
    if (this.size < ETHERNET_BYTES + 20 || this.#view.getUint16(12) !== 0x0800) return undefined
    const version = this.#data[ETHERNET_BYTES]!
    const header = (version & 15) * 4
    if (version >> 4 !== 4 || header < 20 || ETHERNET_BYTES + header > this.size) return undefined
    return { header, protocol: this.#data[ETHERNET_BYTES + 9]! }
  }

  #ipSum(header: number): void {
    const at = ETHERNET_BYTES + 10
    this.#view.setUint16(at, 0)
    putChecksum(this.#view, this.size, at, ETHERNET_BYTES, ETHERNET_BYTES + header - 1)
  }

  #transportSum(header: number, protocol: number, at: number, size: number): void {
    const start = ETHERNET_BYTES + header
    // The sum of the pseudo header is where the sum of all belongs.
    let sum = protocol + size - start
    for (let i = ETHERNET_BYTES + 12; i < ETHERNET_BYTES + 20; i += 2)
      sum += this.#view.getUint16(i)
    while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
    if (start + at + 2 > size) return
    this.#view.setUint16(start + at, sum)
    putChecksum(this.#view, size, start + at, start, 0)
  }

  #segments(header: number, segment: number, tag: number): void {
    const tcp = ETHERNET_BYTES + header
    const headers = tcp + ((this.#data[tcp + 12] ?? 0) >> 4) * 4
    if (segment === 0 || headers < tcp + 20 || headers >= this.size) {
      this.errors++
      return
    }
    const packet = this.#data.slice(0, this.size)
    const original = new DataView(packet.buffer)
    const [identifier, sequence] = [original.getUint16(18), original.getUint32(tcp + 4)]
    for (let done = headers, i = 0; done < packet.length; done += segment, i++) {
      const part = packet.subarray(done, done + segment)
      this.#data.set(packet.subarray(0, headers))
      this.#data.set(part, headers)
      this.size = headers + part.length
      this.#view.setUint16(16, this.size - ETHERNET_BYTES)
      this.#view.setUint16(18, identifier + i)
      this.#view.setUint32(tcp + 4, sequence + done - headers)
      if (done + segment < packet.length) this.#data[tcp + 13]! &= ~TCP_LAST_FLAGS
      this.#transportSum(header, PROTOCOL_TCP, 16, this.size)
      this.#ipSum(header)
      if (!this.#append(this.#data.subarray(0, this.size), tag)) {
        // More segments than a batch holds.
        this.errors++
        return
      }
    }
  }

  #append(frame: Uint8Array, tag = -1): boolean {
    if (tag < 0) {
      if (this.batch.push(frame) < 0) return false
    } else {
      const tagged = new Uint8Array(frame.length + 4)
      tagged.set(frame.subarray(0, 12))
      tagged.set([0x81, 0, tag >> 8, tag & 0xff], 12)
      tagged.set(frame.subarray(12), 16)
      if (this.batch.push(tagged) < 0) return false
    }
    this.#sent()
    return true
  }
}
