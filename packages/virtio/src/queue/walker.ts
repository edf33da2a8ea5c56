import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../constants.ts'
import type { DescriptorChain } from './chain.ts'
import { addressFault, descriptorIndexFault, lengthFault, loopFault, orderFault } from './faults.ts'
import { indirectSize, nestedIndirect } from './layout.ts'
import { type GuestPages, PAGE_BYTES } from './pages.ts'

// The compiler knows a module's own constants; those that it imports it would load and check each time.
const DESC_NEXT = VIRTQ_DESC_F_NEXT
const DESC_WRITE = VIRTQ_DESC_F_WRITE
const DESC_INDIRECT = VIRTQ_DESC_F_INDIRECT
const FOUR_GIB = 2 ** 32
const MAX_CHAIN_BYTES = 2 ** 32 - 1
/** Buffers of a usual chain at most, and the bits of the length of each: together less than 2^31 bytes. */
const PLAIN_BUFFERS = 256
export const PLAIN_SHIFT = 22

/**
 * Follows the descriptors of chains. Each word of a descriptor is read once and copied, because a
 * driver may change it at any time.
 */
export class ChainWalker {
  readonly #queue: number
  readonly #pages: GuestPages
  /** INDIRECT_DESC was negotiated. */
  indirect = false
  #table: Uint32Array = new Uint32Array(0)
  #tableBytes: Uint8Array = new Uint8Array(0)

  constructor(queue: number, pages: GuestPages) {
    this.#queue = queue
    this.#pages = pages
  }

  /**
   * Fills `chain` from the descriptor table when that is valid and usual: short, and in one table. False, with
   * the counts unchanged, for all others; what was read of such a chain is not used.
   */
  walkUsual(chain: DescriptorChain, table: Uint32Array, size: number, head: number): boolean {
    if (head >= size) return false
    const at = head << 2
    const flags = table[at + 3]!
    if ((flags & DESC_INDIRECT) === 0) return walkPlain(chain, table, 0, size, head)
    const length = table[at + 2]!
    if (
      !this.indirect ||
      (flags & DESC_NEXT) !== 0 ||
      (length - 1) >>> 0 >= PAGE_BYTES ||
      (length & 15) !== 0
    )
      return false
    const gpa = table[at + 1]! * FOUR_GIB + table[at]!
    const words = this.#pages.words(gpa, length)
    // Each chain of the queue would otherwise find out by itself, the long way, that requests are large.
    if (length >>> 4 > chain.lengths.length) chain.grow()
    return (
      words !== undefined &&
      walkPlain(chain, words, (gpa & (PAGE_BYTES - 1)) >>> 2, length >>> 4, 0)
    )
  }

  /** Fills `chain` from the descriptor table; throws for what breaks a rule of section 2.7.5. */
  walk(chain: DescriptorChain, table: Uint32Array, size: number, head: number): void {
    chain.head = head
    chain.clear()
    this.#walk(chain, table, size, head, false)
  }

  /** All chains, and the judge of bad ones. */
  #walk(
    chain: DescriptorChain,
    table: Uint32Array,
    size: number,
    head: number,
    inner: boolean,
  ): void {
    let index = head
    for (let steps = 0; ; steps++) {
      if (index >= size) throw descriptorIndexFault(this.#queue, size, index)
      if (steps === size) throw loopFault(this.#queue, size, head)
      const at = index << 2
      const gpa = table[at + 1]! * FOUR_GIB + table[at]!
      const length = table[at + 2]!
      const word = table[at + 3]!
      if ((word & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (inner) nestedIndirect(word)
        this.#walkIndirect(chain, gpa, length, word & 0xffff)
        return
      }
      this.#append(chain, gpa, length, (word & VIRTQ_DESC_F_WRITE) !== 0)
      if ((word & VIRTQ_DESC_F_NEXT) === 0) return
      index = word >>> 16
    }
  }

  #walkIndirect(chain: DescriptorChain, gpa: number, length: number, flags: number): void {
    const size = indirectSize(flags, length, this.indirect)
    if (this.#tableBytes.length < length) {
      this.#table = new Uint32Array(length / 4)
      this.#tableBytes = new Uint8Array(this.#table.buffer)
    }
    this.#pages.read(gpa, this.#tableBytes, 0, length)
    this.#walk(chain, this.#table, size, 0, true)
  }

  #append(chain: DescriptorChain, gpa: number, length: number, writable: boolean): void {
    const at = chain.count
    if (!writable && at !== chain.readableCount) throw orderFault(chain.head)
    if (length === 0) return
    // No address has more than 52 bits, so that sums of address and length are exact.
    if (gpa >= 2 ** 52) throw addressFault(chain.head, gpa, length)
    if (at === chain.lengths.length) chain.grow()
    chain.gpas[at] = gpa
    chain.lengths[at] = length
    chain.count = at + 1
    if (writable) chain.writableBytes += length
    else {
      chain.readableCount = at + 1
      chain.readableBytes += length
    }
    if (chain.readableBytes + chain.writableBytes > MAX_CHAIN_BYTES) throw lengthFault(chain.head)
  }
}

/**
 * A chain of any number of descriptors. A function that calls nothing and whose sums cannot overflow,
 * so that the compiler keeps it in the registers of integers.
 */
function walkPlain(
  chain: DescriptorChain,
  table: Uint32Array,
  first: number,
  size: number,
  head: number,
): boolean {
  const { gpas, lengths } = chain
  const capacity = lengths.length | 0
  let room = size < capacity ? size : capacity
  if (room > PLAIN_BUFFERS) room = PLAIN_BUFFERS
  let count = 0
  let bytes = 0
  let readableCount = 0
  let readableBytes = 0
  let direction = 0
  let index = head
  for (;;) {
    if (index >= size || count === room) return false
    const at = (first + (index << 2)) | 0
    const low = table[at]!
    const high = table[at + 1]!
    const length = table[at + 2]!
    const word = table[at + 3]!
    // One branch for all that is unusual: an indirect table, a wild address, no or very many bytes.
    if (((word & DESC_INDIRECT) | (high >>> 20) | ((length - 1) >>> PLAIN_SHIFT)) !== 0)
      return false
    const write = word & DESC_WRITE
    if (write !== direction) {
      if (write === 0) return false
      direction = write
      readableCount = count
      readableBytes = bytes
    }
    gpas[count] = high === 0 ? low : high * FOUR_GIB + low
    lengths[count] = length
    count = (count + 1) | 0
    bytes = (bytes + length) | 0
    if ((word & DESC_NEXT) === 0) break
    index = word >>> 16
  }
  if (direction === 0) {
    readableCount = count
    readableBytes = bytes
  }
  chain.count = count
  chain.readableCount = readableCount
  chain.readableBytes = readableBytes
  chain.writableBytes = (bytes - readableBytes) | 0
  return true
}
