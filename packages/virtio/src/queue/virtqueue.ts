import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from '../constants.ts'
import { VirtioError } from '../errors.ts'
import type { GuestMemory } from '../memory.ts'
import { DescriptorChain } from './chain.ts'
import { availIndexFault, inFlightFault } from './faults.ts'
import { usedBytes } from './layout.ts'
import { type VirtqueueState, parseQueueState } from './queue-state.ts'
import { QueueRings } from './rings.ts'
import { ChainWalker, PLAIN_SHIFT } from './walker.ts'

// The compiler knows a module's own constants; those that it imports it would load and check each time.
const DESC_NEXT = VIRTQ_DESC_F_NEXT
const DESC_WRITE = VIRTQ_DESC_F_WRITE
/** Flags of the descriptor in the middle of three, when it is device-writable. */
const MIDDLE = DESC_NEXT | DESC_WRITE
/** The next descriptor, as its word in the table, after a shift by 14. */
const NEXT_BITS = 0x3fffc
const USUAL_SHIFT = PLAIN_SHIFT
const FOUR_GIB = 2 ** 32

/** What was negotiated and concerns queues. */
export interface QueueFeatures {
  eventIdx: boolean
  indirect: boolean
}

/**
 * The device side of one split virtqueue (VirtIO 1.2, section 2.7).
 *
 * While it is not ready, its size and addresses are registers that a transport writes. Once it is
 * ready, chains are popped and pushed in any order; what the driver wrote wrongly throws
 * {@link VirtioError} and leaves the ring where it was.
 */
export class Virtqueue extends QueueRings {
  /** Called when the last chain that was popped has come back. */
  onDrained: (() => void) | undefined = undefined
  readonly #walker: ChainWalker
  #halted = false
  #eventIdx = false
  /** Position of the next chain to look up, and the last `avail.idx` that was read. */
  #lastAvail = 0
  #availIdx = 0
  private usedIdx = 0
  /** `used.idx` when the driver was last considered for an interrupt. */
  #signalled = 0
  /** `used.idx` as the driver sees it. */
  #published = 0
  /** Something else of the used ring was written. */
  #usedDirty = false
  /**
   * Chains by their places, of which there are as many as descriptors, used in turn. From `pushAt` to `popAt` as many
   * as are in flight, which may be others; from there to `lookAt` those that were looked up, which are the next to pop.
   */
  private readonly pool: DescriptorChain[] = []
  private pushAt = 0
  private popAt = 0
  private lookAt = 0
  readonly #chains: DescriptorChain[] = []
  /** Heads that were in flight when the state was saved; they are popped again first. */
  #replay: number[] = []

  constructor(memory: GuestMemory, index: number, maxSize: number) {
    super(memory, index, maxSize)
    this.#walker = new ChainWalker(index, this.pages)
  }

  /** True from `enable` to `reset`. */
  get ready(): boolean {
    return this.enabled
  }

  /** Chains that were popped and have not come back. */
  get inFlight(): number {
    return (this.popAt - this.pushAt) | 0
  }

  /** Starts with empty rings; throws for sizes and places that cannot be. */
  enable(features: QueueFeatures): void {
    if (this.enabled || this.inFlight > 0) return
    this.map()
    this.#start(0, 0, 0)
    this.setFeatures(features)
    this.#halted = false
    this.enabled = true
  }

  /** The positions of a queue with nothing in flight, and no chains, as the size may be another. */
  #start(lastAvail: number, usedIdx: number, signalled: number): void {
    this.pool.length = 0
    this.#chains.length = 0
    this.pushAt = 0
    this.popAt = 0
    this.lookAt = 0
    this.#lastAvail = lastAvail
    this.#availIdx = lastAvail
    this.usedIdx = usedIdx
    this.#published = usedIdx
    this.#signalled = signalled
  }

  /** What the driver accepted, once that is final. */
  setFeatures(features: QueueFeatures): void {
    this.#eventIdx = features.eventIdx
    this.#walker.indirect = features.indirect
  }

  /** The next chain that the driver has made available, or `undefined`. */
  popChain(): DescriptorChain | undefined {
    const at = this.popAt
    if (at === this.lookAt) return this.#look()
    this.popAt = (at + 1) | 0
    return this.pool[at & this.mask]
  }

  /** True when `popChain` would return a chain (or throw). */
  hasChains(): boolean {
    if (!this.enabled || this.#halted) return false
    if (this.mapped !== this.memory.generation) this.map()
    if (this.popAt !== this.lookAt || this.#replay.length > 0) return true
    return this.#lastAvail !== this.#availIdx || this.#refresh()
  }

  /**
   * Gives a chain back with the number of bytes written to its start. The driver sees it at the
   * next `shouldNotify`, which must follow every batch of pushes. After a reset the chain is only
   * free again.
   */
  pushUsed(chain: DescriptorChain, written: number): void {
    // Compared, not converted: as a condition the compiler would prepare for every type there is.
    if (chain.live === true) {
      if (this.mapped !== this.memory.generation) this.map()
      const { used32, usedIdx } = this
      const at = ((usedIdx & this.mask) << 1) + 1
      used32[at] = chain.head
      used32[at + 1] = written
      this.usedIdx = (usedIdx + 1) | 0
      chain.live = false
    } else chain.release()
    // Chains mostly come back in the order of their places, and a store has to be told to the collector.
    const { pool, pushAt } = this
    if (pool[pushAt & this.mask] !== chain) pool[pushAt & this.mask] = chain
    this.pushAt = (pushAt + 1) | 0
    if (this.pushAt === this.popAt && this.onDrained !== undefined) this.onDrained()
  }

  /** Takes a chain back as if it had not been popped: it is the next to pop. */
  unpop(chain: DescriptorChain): void {
    const { live, head } = chain
    this.#forgetLookedUp()
    if (live) chain.abandon()
    this.pushUsed(chain, 0)
    if (live) this.#replay.unshift(head)
  }

  /**
   * Publishes what was pushed since the last call; true when the driver wants an interrupt for it.
   */
  shouldNotify(): boolean {
    if (!this.enabled || this.#halted) return false
    this.#publish()
    const before = this.#signalled
    const now = this.usedIdx
    if (before === now) return false
    this.#signalled = now
    if (!this.#eventIdx) return (Atomics.load(this.avail, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0
    // The store of used.idx was sequentially consistent, so this load cannot move before it.
    const event = Atomics.load(this.avail, 2 + this.size)
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff)
  }

  /** Asks the driver not to kick: a hint, under EVENT_IDX implied by an old `avail_event`. */
  disableNotification(): void {
    if (!this.enabled || this.#halted || this.#eventIdx) return
    Atomics.store(this.used16, 0, VIRTQ_USED_F_NO_NOTIFY)
    this.#usedDirty = true
  }

  /** Asks for kicks again; true when chains came meanwhile, for which there may be no kick. */
  enableNotification(): boolean {
    if (!this.enabled || this.#halted) return false
    if (this.#eventIdx) Atomics.store(this.used16, 2 + 4 * this.size, this.#lastAvail)
    else Atomics.store(this.used16, 0, 0)
    this.#usedDirty = true
    return this.hasChains()
  }

  /** Stops for good: nothing is popped and the rings are left alone until `reset`. */
  halt(): void {
    if (this.enabled && !this.#halted) this.#publish()
    this.#stop()
  }

  #stop(): void {
    this.#halted = true
    this.#forgetLookedUp()
    for (const chain of this.#chains) if (chain.live) chain.abandon()
  }

  /** The registers after power-on. Chains in flight no longer touch anything when they come. */
  reset(): void {
    this.#stop()
    this.enabled = false
    this.setRegisters()
    this.#replay = []
    this.#usedDirty = false
  }

  /** Chains in flight are saved as such: loading pops them again. */
  save(): VirtqueueState {
    if (this.enabled && !this.#halted) this.#publish()
    this.#forgetLookedUp()
    const live = this.#chains.filter((chain) => chain.live)
    live.sort((a, b) => (a.sequence - b.sequence) | 0)
    return {
      size: this.size,
      ready: this.enabled,
      halted: this.#halted,
      address: this.addresses,
      lastAvail: this.#lastAvail & 0xffff,
      usedIdx: this.usedIdx & 0xffff,
      signalled: this.#signalled & 0xffff,
      inFlight: [...live.map((chain) => chain.head), ...this.#replay],
    }
  }

  /** Takes a state for a queue with nothing in flight; the memory must be there already. */
  load(state: VirtqueueState, features: QueueFeatures): void {
    if (this.inFlight > 0) {
      throw new VirtioError('E_STATE', `queue ${this.index} has chains in flight: quiesce first`)
    }
    const s = parseQueueState(this.index, state)
    this.reset()
    this.setRegisters(s.size, s.address)
    if (s.ready && !s.halted) this.map()
    this.setFeatures(features)
    this.enabled = s.ready
    this.#halted = s.halted
    this.#start(s.lastAvail, s.usedIdx, s.signalled)
    this.#replay = s.inFlight
  }

  /** Reads `avail.idx`; true when there is more than before. */
  #refresh(): boolean {
    const idx = Atomics.load(this.avail, 1)
    const more = (idx - this.#lastAvail) & 0xffff
    if (more === 0) return false
    if (more > this.size) throw availIndexFault(this.index, this.size, idx, more)
    this.#availIdx = (this.#lastAvail + more) | 0
    return true
  }

  /**
   * `popChain` when nothing is looked up: looks up all chains that are available, up to the first that is not usual. What
   * was read of that one is not used: `#take` reads, and judges, it anew.
   *
   * In one loop, because the compiler then finds out only once where everything is; and three descriptors, as a request
   * of a block device has, with everything in its place, because a call takes as long as following them.
   */
  #look(): DescriptorChain | undefined {
    if (!this.enabled || this.#halted) return undefined
    if (this.mapped !== this.memory.generation) this.map()
    if (this.#replay.length > 0) return this.#popReplayed()
    let at = this.#lastAvail
    // A cheap look may miss a chain that has just come, as any look may; one that it sees is seen again in order.
    if (at === this.#availIdx && (this.avail[1] === (at & 0xffff) || !this.#refresh())) {
      return undefined
    }
    const { avail, desc, mask, pool } = this
    const first = this.lookAt
    const free = (this.pushAt + mask + 1 - first) | 0
    const more = (this.#availIdx - at) | 0
    const end = (first + (more < free ? more : free)) | 0
    const made = pool.length
    let place = first
    let head = avail[2 + (at & mask)]!
    while (place !== end && (place & mask) < made && head <= mask) {
      const chain = pool[place & mask]!
      const a = head << 2
      const lengthA = desc[a + 2]!
      const wordA = desc[a + 3]!
      const b = (wordA >>> 14) & NEXT_BITS
      if (b >>> 2 > mask) break
      const lengthB = desc[b + 2]!
      const wordB = desc[b + 3]!
      const c = (wordB >>> 14) & NEXT_BITS
      if (c >>> 2 > mask) break
      const lengthC = desc[c + 2]!
      const highA = desc[a + 1]!
      const highB = desc[b + 1]!
      const highC = desc[c + 1]!
      // The first is device-readable and the last device-writable; all are usual.
      const odd =
        ((wordA ^ DESC_NEXT) | ((wordB | DESC_WRITE) ^ MIDDLE) | (desc[c + 3]! ^ DESC_WRITE)) & 7
      const wild = (highA | highB | highC) >>> 20
      const long = ((lengthA - 1) | (lengthB - 1) | (lengthC - 1)) >>> USUAL_SHIFT
      if ((odd | wild | long) !== 0) break
      const { gpas, lengths } = chain
      gpas[0] = highA * FOUR_GIB + desc[a]!
      gpas[1] = highB * FOUR_GIB + desc[b]!
      gpas[2] = highC * FOUR_GIB + desc[c]!
      lengths[0] = lengthA
      lengths[1] = lengthB
      lengths[2] = lengthC
      chain.count = 3
      if ((wordB & DESC_WRITE) === 0) {
        chain.readableCount = 2
        chain.readableBytes = lengthA + lengthB
        chain.writableBytes = lengthC
      } else {
        chain.readableCount = 1
        chain.readableBytes = lengthA
        chain.writableBytes = lengthB + lengthC
      }
      chain.head = head
      chain.sequence = place
      chain.live = true
      place = (place + 1) | 0
      at = (at + 1) | 0
      head = avail[2 + (at & mask)]!
    }
    this.#lastAvail = at
    this.lookAt = place
    if (place !== end) this.#lookFurther((end - place) | 0)
    if (this.lookAt === first) return this.#take(head)
    this.popAt = (first + 1) | 0
    return pool[first & mask]
  }

  /** Looks up at most `limit` more chains, usual ones of any kind. */
  #lookFurther(limit: number): void {
    const { avail, mask, pool } = this
    let at = this.#lastAvail
    let place = this.lookAt
    for (let left = limit; left > 0; left--) {
      const chain = pool[place & mask] ?? this.#addChain(place & mask)
      const head = avail[2 + (at & mask)]!
      if (!this.#walker.walkUsual(chain, this.desc, mask + 1, head)) break
      chain.head = head
      chain.sequence = place
      chain.live = true
      at = (at + 1) | 0
      place = (place + 1) | 0
    }
    this.#lastAvail = at
    this.lookAt = place
  }

  #popReplayed(): DescriptorChain {
    const chain = this.#take(this.#replay[0]!)
    this.#replay.shift()
    // This one was not in the ring.
    this.#lastAvail = (this.#lastAvail - 1) | 0
    return chain
  }

  /** The chain at `head`, in flight. When it is a bad one this throws and changes nothing. */
  #take(head: number): DescriptorChain {
    const { inFlight, mask, popAt } = this
    if (inFlight > mask) throw inFlightFault(this.index, this.size)
    const chain = this.pool[popAt & mask] ?? this.#addChain(popAt & mask)
    this.#walker.walk(chain, this.desc, this.size, head)
    chain.head = head
    chain.sequence = popAt
    chain.live = true
    this.#lastAvail = (this.#lastAvail + 1) | 0
    this.lookAt = (popAt + 1) | 0
    this.popAt = this.lookAt
    return chain
  }

  #addChain(place: number): DescriptorChain {
    const chain = new DescriptorChain(this.memory, this.pages)
    this.#chains.push(chain)
    this.pool[place] = chain
    return chain
  }

  /** Leaves in the ring what was not popped. */
  #forgetLookedUp(): void {
    const { lookAt, popAt } = this
    for (let at = popAt; at !== lookAt; at = (at + 1) | 0) this.pool[at & this.mask]!.live = false
    this.lookAt = popAt
    this.#lastAvail = (this.#lastAvail - (lookAt - popAt)) | 0
    this.#availIdx = this.#lastAvail
  }

  #publish(): void {
    if (this.usedIdx === this.#published && !this.#usedDirty) return
    this.#published = this.usedIdx
    this.#usedDirty = false
    // The driver must see the elements before the index.
    Atomics.store(this.used16, 1, this.usedIdx)
    this.memory.markWritten(this.usedGpa, usedBytes(this.size))
  }
}
