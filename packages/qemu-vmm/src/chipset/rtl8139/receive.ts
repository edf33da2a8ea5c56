import { type FrameBatch, RECORD_FRAME_OFFSET } from 'virtio'

import type { DmaMemory } from '../../net/dma.ts'
import { checkSequence, groupHash } from './crc.ts'
import type { Rtl8139Registers } from './state.ts'

const LEAST_BYTES = 60
const CHECK_BYTES = 4
/** The header before a frame in the buffer of the mode of before. */
const HEADER_BYTES = 4
const DESCRIPTOR_BYTES = 16
const RING_ENTRIES = 64

/** RCR (RTL8139C+ data sheet, 5.5). */
const ACCEPT_ALL = 0x01
const ACCEPT_MINE = 0x02
const ACCEPT_GROUPS = 0x04
const ACCEPT_BROADCAST = 0x08
const NO_WRAP = 0x80
/** CPCR: tags are taken out. */
const CPLUS_VLAN = 0x40

/** The status of the mode of before, and of a descriptor. */
const STATUS_OK = 0x01
const STATUS_BROADCAST = 0x2000
const STATUS_MINE = 0x4000
const STATUS_GROUP = 0x8000
const OWN = 0x8000_0000
const END_OF_RING = 0x4000_0000
const FIRST_AND_LAST = 0x3000_0000
const RING_GROUP = 0x0400_0000
const RING_MINE = 0x0200_0000
const RING_BROADCAST = 0x0100_0000
const SIZE = 0x1fff
const TAGGED = 0x0001_0000

/** What became of a frame. */
export type Delivery = 'taken' | 'unwanted' | 'no room' | 'impossible'
/** Whom a frame is for. */
export type Target = 'mine' | 'group' | 'broadcast'

/** Puts frames into the guest's buffer, or into the ring of C+ mode. */
export class Rtl8139Receiver {
  readonly #registers: Rtl8139Registers
  readonly #memory: DmaMemory
  readonly #short: Uint8Array<ArrayBuffer> = new Uint8Array(LEAST_BYTES)
  readonly #descriptor: Uint8Array = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #word: DataView = new DataView(this.#descriptor.buffer)
  /** Whom the last frame that was taken was for. */
  target: Target = 'mine'

  constructor(registers: Rtl8139Registers, memory: DmaMemory) {
    this.#registers = registers
    this.#memory = memory
  }

  /** Bytes of the buffer of the mode of before, 8 to 64 KiB. */
  get bufferBytes(): number {
    return 8192 << ((this.#registers.receiveConfig >>> 11) & 3)
  }

  deliver(batch: FrameBatch, at: number, usesRing: boolean): Delivery {
    let { bytes } = batch
    let start = at + RECORD_FRAME_OFFSET
    let size = batch.frameBytes(at)
    if (size < LEAST_BYTES) {
      this.#short.fill(0)
      this.#short.set(bytes.subarray(start, start + size))
      bytes = this.#short
      start = 0
      size = LEAST_BYTES
    }
    const target = this.#target(bytes, start)
    if (target === undefined) return 'unwanted'
    const result = usesRing
      ? this.#toRing(bytes, start, size, target)
      : this.#toBuffer(bytes, start, size, target)
    if (result === 'taken') this.target = target
    return result
  }

  /** Whom a frame is for, when the guest wants it. */
  #target(frame: Uint8Array, at: number): Target | undefined {
    const { receiveConfig: wanted, groups, mac } = this.#registers
    const isWanted = (bit: number): boolean => (wanted & (bit | ACCEPT_ALL)) !== 0
    const address = frame.subarray(at, at + 6)
    if (address.every((byte) => byte === 0xff)) {
      return isWanted(ACCEPT_BROADCAST) ? 'broadcast' : undefined
    }
    if ((address[0]! & 1) !== 0) {
      if ((wanted & ACCEPT_ALL) !== 0) return 'group'
      const hash = groupHash(frame, at)
      const isIn = (groups[hash >> 3]! & (1 << (hash & 7))) !== 0
      return (wanted & ACCEPT_GROUPS) !== 0 && isIn ? 'group' : undefined
    }
    const isMine = address.every((byte, i) => byte === mac[i])
    return isWanted(isMine ? ACCEPT_MINE : ACCEPT_ALL) ? 'mine' : undefined
  }

  #toBuffer(bytes: Uint8Array, start: number, size: number, target: Target): Delivery {
    const registers = this.#registers
    const most = this.bufferBytes
    const total = (HEADER_BYTES + size + CHECK_BYTES + 3) & ~3
    if (total >= most) return 'impossible'
    const free = (most + registers.readAt - registers.writeAt) % most
    // An empty buffer has all of it free.
    if (free !== 0 && total >= free) return 'no room'
    const record = new Uint8Array(total)
    const view = new DataView(record.buffer)
    view.setUint16(0, STATUS_OK | statusOf(target), true)
    view.setUint16(2, size + CHECK_BYTES, true)
    record.set(bytes.subarray(start, start + size), HEADER_BYTES)
    view.setUint32(HEADER_BYTES + size, checkSequence(bytes, start, start + size), true)
    const at = registers.buffer + registers.writeAt
    const end = most - registers.writeAt
    // Behind its end there is room for a frame, where the guest says so; that of 64 KiB always goes round.
    const goesRound = (registers.receiveConfig & NO_WRAP) === 0 || most === 0x1_0000
    const first = goesRound ? Math.min(total, end) : total
    this.#memory.write(at, record.subarray(0, first))
    if (first < total) this.#memory.write(registers.buffer, record.subarray(first))
    registers.writeAt = (registers.writeAt + total) % most
    return 'taken'
  }

  #toRing(bytes: Uint8Array, start: number, size: number, target: Target): Delivery {
    const registers = this.#registers
    const base = registers.ringHigh * 0x1_0000_0000 + ((registers.ring & ~0xff) >>> 0)
    const at = base + DESCRIPTOR_BYTES * registers.currentRxRing
    if (!this.#memory.read(at, this.#descriptor)) return 'impossible'
    const command = this.#word.getUint32(0, true)
    if ((command & OWN) === 0) return 'no room'
    const type = (bytes[start + 12]! << 8) | bytes[start + 13]!
    const isTagged = (registers.cplus & CPLUS_VLAN) !== 0 && type === 0x8100
    const frame = bytes.slice(start, start + size)
    const data = isTagged ? untagged(frame) : frame
    if (data.length + CHECK_BYTES > (command & SIZE)) return 'impossible'
    const whole = new Uint8Array(data.length + CHECK_BYTES)
    whole.set(data)
    // That of the frame as it came, with its tag.
    new DataView(whole.buffer).setUint32(data.length, checkSequence(frame, 0, size), true)
    const low = this.#word.getUint32(8, true)
    this.#memory.write(this.#word.getUint32(12, true) * 0x1_0000_0000 + low, whole)
    const flags = FIRST_AND_LAST | ringStatusOf(target) | (command & END_OF_RING)
    // The tag has its bytes the other way round.
    const tag = isTagged ? TAGGED | (frame[15]! << 8) | frame[14]! : 0
    this.#word.setUint32(4, tag, true)
    this.#memory.write(at + 4, this.#descriptor.subarray(4, 8))
    // The guest may look at this at any moment: it comes last.
    this.#word.setUint32(0, (flags | whole.length) >>> 0, true)
    this.#memory.write(at, this.#descriptor.subarray(0, 4))
    const next = registers.currentRxRing + 1
    const isEnd = (command & END_OF_RING) !== 0 || next >= RING_ENTRIES
    registers.currentRxRing = isEnd ? 0 : next
    return 'taken'
  }
}

function untagged(frame: Uint8Array): Uint8Array {
  const data = new Uint8Array(Math.max(LEAST_BYTES, frame.length - 4))
  data.set(frame.subarray(0, 12))
  data.set(frame.subarray(16), 12)
  return data
}

function statusOf(target: Target): number {
  if (target === 'mine') return STATUS_MINE
  return target === 'group' ? STATUS_GROUP : STATUS_BROADCAST
}

function ringStatusOf(target: Target): number {
  if (target === 'mine') return RING_MINE
  return target === 'group' ? RING_GROUP : RING_BROADCAST
}
