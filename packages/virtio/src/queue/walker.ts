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
const PLAIN_BUFFERS = 64
const PLAIN_SHIFT = 24
const NOT_THREE = 4

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
   * Fills `chain` from the descriptor table; throws for what breaks a rule of section 2.7.5. For chains
   * that {@link walkThree} did not take.
   */
  walk(chain: DescriptorChain, table: Uint32Array, size: number, head: number): void {
    if (walkPlain(chain, table, 0, size, head)) return
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
    if (chain.count === 0) {
      const words = this.#pages.words(gpa, length)
      const first = (gpa & (PAGE_BYTES - 1)) >>> 2
      if (words !== undefined && walkUsual(chain, words, first, size, 0)) return
      chain.clear()
    }
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
 * Chains that are valid, short and in one table, whose descriptor 0 is at the word `first`. False,
 * with the counts unchanged, for all others. What was read before is not used then: the next to try
 * reads, and judges, the chain anew.
 */
function walkUsual(
  chain: DescriptorChain,
  table: Uint32Array,
  first: number,
  size: number,
  head: number,
): boolean {
  return walkThree(chain, table, first, size, head) || walkPlain(chain, table, first, size, head)
}

/** How many of three buffers are readable, by the flags of their descriptors; `NOT_THREE` for all other chains. */
const READABLE: Uint8Array = new Uint8Array(512).fill(NOT_THREE)
for (let readable = 0; readable <= 3; readable++) {
  const flags = (at: number): number => (at < 2 ? DESC_NEXT : 0) | (at < readable ? 0 : DESC_WRITE)
  READABLE[flags(0) | (flags(1) << 3) | (flags(2) << 6)] = readable
}

/**
 * Three descriptors, as a request of a block device has. Written out, because the compiler looks up
 * where an array is and how long it is once in a sequence, but again in each turn of a loop; and
 * short, because it puts only short functions into the place of their calls.
 */
export function walkThree(
  chain: DescriptorChain,
  table: Uint32Array,
  first: number,
  size: number,
  head: number,
): boolean {
  if (head >= size) return false
  const a = first + (head << 2)
  const lengthA = table[a + 2]!
  const wordA = table[a + 3]!
  const second = wordA >>> 16
  if (second >= size) return false
  const b = first + (second << 2)
  const lengthB = table[b + 2]!
  const wordB = table[b + 3]!
  const third = wordB >>> 16
  if (third >= size) return false
  const c = first + (third << 2)
  const lengthC = table[c + 2]!
  const highA = table[a + 1]!
  const highB = table[b + 1]!
  const highC = table[c + 1]!
  const readable = READABLE[(wordA & 7) | ((wordB & 7) << 3) | ((table[c + 3]! & 7) << 6)]!
  const odd =
    ((highA | highB | highC) >>> 20) |
    (((lengthA - 1) | (lengthB - 1) | (lengthC - 1)) >>> PLAIN_SHIFT)
  if (readable === NOT_THREE || odd !== 0) return false
  const { gpas, lengths } = chain
  gpas[0] = highA * FOUR_GIB + table[a]!
  gpas[1] = highB * FOUR_GIB + table[b]!
  gpas[2] = highC * FOUR_GIB + table[c]!
  lengths[0] = lengthA
  lengths[1] = lengthB
  lengths[2] = lengthC
  const two = lengthA + lengthB
  const all = two + lengthC
  const readableBytes = readable === 1 ? lengthA : readable === 2 ? two : readable === 0 ? 0 : all
  chain.count = 3
  chain.readableCount = readable
  chain.readableBytes = readableBytes
  chain.writableBytes = all - readableBytes
  return true
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
