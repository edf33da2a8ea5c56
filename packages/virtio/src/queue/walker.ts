import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../constants.ts'
import type { DescriptorChain } from './chain.ts'
import { addressFault, descriptorIndexFault, lengthFault, loopFault, orderFault } from './faults.ts'
import { indirectSize, nestedIndirect } from './layout.ts'
import type { GuestPages } from './pages.ts'

const FOUR_GIB = 2 ** 32
const MAX_CHAIN_BYTES = 2 ** 32 - 1

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

  /** Fills `chain` from the descriptor table; throws for what breaks a rule of section 2.7.5. */
  walk(chain: DescriptorChain, table: Uint32Array, size: number, head: number): void {
    if (!walkPlain(chain, table, size, head)) this.#walk(chain, table, size, head, false)
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
    if (chain.count === 0 && walkPlain(chain, this.#table, size, 0)) return
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
 * The usual chain: short, valid and in one table. False, with the chain unchanged, for any other.
 * A function that calls nothing, which lets the compiler keep everything in registers.
 */
function walkPlain(
  chain: DescriptorChain,
  table: Uint32Array,
  size: number,
  head: number,
): boolean {
  const { gpas, lengths } = chain
  const room = Math.min(lengths.length, size)
  let count = 0
  let readableCount = 0
  let readableBytes = 0
  let writableBytes = 0
  let index = head
  for (;;) {
    if (index >= size || count === room) return false
    const at = index << 2
    const high = table[at + 1]!
    const length = table[at + 2]!
    const word = table[at + 3]!
    if ((word & VIRTQ_DESC_F_INDIRECT) !== 0 || high >>> 20 !== 0 || length === 0) return false
    gpas[count] = high * FOUR_GIB + table[at]!
    lengths[count] = length
    count++
    if ((word & VIRTQ_DESC_F_WRITE) !== 0) writableBytes += length
    else {
      if (readableCount !== count - 1) return false
      readableCount = count
      readableBytes += length
    }
    if ((word & VIRTQ_DESC_F_NEXT) === 0) break
    index = word >>> 16
  }
  if (readableBytes + writableBytes > MAX_CHAIN_BYTES) return false
  chain.count = count
  chain.readableCount = readableCount
  chain.readableBytes = readableBytes
  chain.writableBytes = writableBytes
  return true
}
