import type { RegisterFile } from '../e1000/register-map.ts'
import { type Packet } from './packet.ts'
import { MRQC, RETA, RFCTL, RSSRK, RXCSUM } from './registers.ts'

/** MRQC (Intel 82574 data sheet, 10.2.5.17): what is on, and what is hashed. */
const MRQC_QUEUES = 0x03
const MRQC_RSS = 0x01
const MRQC_TCP_IPV4 = 0x1_0000
const MRQC_IPV4 = 0x2_0000
const MRQC_TCP_IPV6 = 0x4_0000
const MRQC_IPV6_EX = 0x8_0000
const MRQC_IPV6 = 0x10_0000
/** RFCTL: extension headers stop the hash; those with other addresses do. */
const RFCTL_IPV6_EX_DIS = 0x1_0000
const RFCTL_NEW_IPV6_EX_DIS = 0x2_0000
export const RFCTL_EXTEN = 0x8000
export const RXCSUM_PCSD = 0x2000

const KEY_BYTES = 40
/** Types of hashes, as descriptors have them (7.1.8.1). */
const NONE = 0
const TCP_IPV4 = 1
const IPV4 = 2
const TCP_IPV6 = 3
const IPV6_EX = 4
const IPV6 = 5

/** The hash of a frame, its type, and the queue that it is for. */
export interface RssResult {
  hash: number
  type: number
  queue: number
}

/** Receive-side scaling (7.1.8): sends flows to one of two queues. */
export class Rss {
  readonly #registers: RegisterFile
  readonly #input: Uint8Array = new Uint8Array(36)
  readonly result: RssResult = { hash: 0, type: NONE, queue: 0 }

  constructor(registers: RegisterFile) {
    this.#registers = registers
  }

  get isOn(): boolean {
    const registers = this.#registers
    return (
      (registers[MRQC >> 2]! & MRQC_QUEUES) === MRQC_RSS &&
      (registers[RXCSUM >> 2]! & RXCSUM_PCSD) !== 0 &&
      (registers[RFCTL >> 2]! & RFCTL_EXTEN) !== 0
    )
  }

  /** Fills `result`. */
  classify(packet: Packet, bytes: Uint8Array): void {
    const { result } = this
    result.type = this.isOn ? this.#type(packet) : NONE
    result.hash = result.queue = 0
    if (result.type === NONE) return
    result.hash = this.#hash(this.#fill(packet, bytes))
    const entry = result.hash & 0x7f
    result.queue = (this.#registers[(RETA >> 2) + (entry >> 2)]! >>> (8 * (entry & 3) + 7)) & 1
  }

  #type(packet: Packet): number {
    const mrqc = this.#registers[MRQC >> 2]!
    const isTcp = packet.protocol === 'tcp'
    if (packet.ip === 4) {
      if (isTcp && (mrqc & MRQC_TCP_IPV4) !== 0) return TCP_IPV4
      return (mrqc & MRQC_IPV4) === 0 ? NONE : IPV4
    }
    if (packet.ip !== 6) return NONE
    const rfctl = this.#registers[RFCTL >> 2]!
    const hasHomes = packet.homeSource >= 0 || packet.homeTarget >= 0
    const isStopped =
      (packet.hasExtensions && (rfctl & RFCTL_IPV6_EX_DIS) !== 0) ||
      (hasHomes && (rfctl & RFCTL_NEW_IPV6_EX_DIS) !== 0)
    if (!isStopped) {
      if (isTcp && (mrqc & MRQC_TCP_IPV6) !== 0) return TCP_IPV6
      if ((mrqc & MRQC_IPV6_EX) !== 0) return IPV6_EX
    }
    return (mrqc & MRQC_IPV6) === 0 ? NONE : IPV6
  }

  /** Puts what is hashed together; returns how many bytes. */
  #fill(packet: Packet, bytes: Uint8Array): number {
    const { type } = this.result
    const input = this.#input
    const { l3, l4 } = packet
    let size = 0
    const put = (at: number, count: number): void => {
      input.set(bytes.subarray(at, at + count), size)
      size += count
    }
    if (packet.ip === 4) put(l3 + 12, 8)
    else {
      const usesHomes = type !== IPV6
      put(usesHomes && packet.homeSource >= 0 ? packet.homeSource : l3 + 8, 16)
      put(usesHomes && packet.homeTarget >= 0 ? packet.homeTarget : l3 + 24, 16)
    }
    if (type === TCP_IPV4 || type === TCP_IPV6) put(l4, 4)
    return size
  }

  /** Toeplitz's hash: for each bit of the input, the 32 bits of the key that begin there. */
  #hash(size: number): number {
    const first = RSSRK >> 2
    const byteOf = (at: number): number =>
      (this.#registers[first + ((at % KEY_BYTES) >> 2)]! >>> (8 * (at & 3))) & 0xff
    let window = (byteOf(0) << 24) | (byteOf(1) << 16) | (byteOf(2) << 8) | byteOf(3)
    let hash = 0
    for (let i = 0; i < size; i++) {
      const next = byteOf(i + 4)
      for (let bit = 7; bit >= 0; bit--) {
        if ((this.#input[i]! & (1 << bit)) !== 0) hash ^= window
        window = (window << 1) | ((next >> bit) & 1)
      }
    }
    return hash >>> 0
  }
}
