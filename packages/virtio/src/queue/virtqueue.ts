import {
  VIRTQUEUE_MAX_SIZE,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
} from '../constants.ts'
import { VirtioError } from '../errors.ts'
import type { GuestMemory } from '../memory.ts'
import { DescriptorChain } from './chain.ts'
import { availIndexFault, inFlightFault } from './faults.ts'
import { DESC_BYTES, type QueueLayout, availBytes, checkLayout, usedBytes } from './layout.ts'
import { GuestPages } from './pages.ts'
import { type VirtqueueState, parseQueueState } from './queue-state.ts'
import { ChainWalker, walkThree } from './walker.ts'

const FOUR_GIB = 2 ** 32
/** Far more than can be in flight, and a small integer for the compiler. */
const SEQUENCE_MASK = 0x3fff_ffff

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
export class Virtqueue {
  readonly index: number
  /** Descriptors at most; a power of two. */
  readonly maxSize: number
  /** Called when the last chain that was popped has come back. */
  onDrained: (() => void) | undefined = undefined
  readonly #memory: GuestMemory
  readonly #pages: GuestPages
  readonly #walker: ChainWalker
  /** Low and high words of the addresses of descriptor table, available and used ring. */
  readonly #address: Uint32Array = new Uint32Array(6)
  #size: number
  #ready = false
  #halted = false
  #eventIdx = false
  #generation = 0
  #desc: Uint32Array = new Uint32Array(0)
  #avail: Uint16Array = new Uint16Array(0)
  #used16: Uint16Array = new Uint16Array(0)
  #used32: Uint32Array = new Uint32Array(0)
  #usedGpa = 0
  #mask = 0
  /** Position of the next chain to pop, and the last `avail.idx` that was read. */
  #lastAvail = 0
  #availIdx = 0
  #usedIdx = 0
  /** `used.idx` when the driver was last considered for an interrupt. */
  #signalled = 0
  #usedDirty = false
  #inFlight = 0
  #sequence = 0
  /** All chains, at most `size`, and a stack of them: `#pool[#inFlight]` and all above are free. */
  readonly #chains: DescriptorChain[] = []
  readonly #pool: DescriptorChain[] = []
  /** Heads that were in flight when the state was saved; they are popped again first. */
  #replay: number[] = []

  constructor(memory: GuestMemory, index: number, maxSize: number) {
    if (!(maxSize >= 1 && maxSize <= VIRTQUEUE_MAX_SIZE) || (maxSize & (maxSize - 1)) !== 0) {
      throw new VirtioError(
        'E_CONFIG',
        `queue ${index} cannot have ${maxSize} descriptors: use a power of two up to 1024`,
        { fields: { queue: index, maxSize } },
      )
    }
    this.#memory = memory
    this.#pages = new GuestPages(memory)
    this.#walker = new ChainWalker(index, this.#pages)
    this.index = index
    this.maxSize = maxSize
    this.#size = maxSize
  }

  /** Descriptors that the driver uses. */
  get size(): number {
    return this.#size
  }

  /** Takes any 16-bit number; `enable` judges it. Does nothing while the queue is ready. */
  set size(value: number) {
    if (!this.#ready) this.#size = value & 0xffff
  }

  /** True from `enable` to `reset`. */
  get ready(): boolean {
    return this.#ready
  }

  /** Chains that were popped and have not come back. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** A half of an address register: word 0/1 descriptor table, 2/3 available, 4/5 used ring. */
  addressWord(word: number): number {
    return this.#address[word] ?? 0
  }

  /** Does nothing while the queue is ready. */
  setAddressWord(word: number, value: number): void {
    if (!this.#ready) this.#address[word] = value
  }

  get layout(): QueueLayout {
    const [d0 = 0, d1 = 0, a0 = 0, a1 = 0, u0 = 0, u1 = 0] = this.#address
    return {
      size: this.#size,
      descGpa: d1 * FOUR_GIB + d0,
      availGpa: a1 * FOUR_GIB + a0,
      usedGpa: u1 * FOUR_GIB + u0,
    }
  }

  /** Starts with empty rings; throws for sizes and places that cannot be. */
  enable(features: QueueFeatures): void {
    if (this.#ready || this.#inFlight > 0) return
    this.#map()
    this.#forgetChains()
    this.setFeatures(features)
    this.#lastAvail = 0
    this.#availIdx = 0
    this.#usedIdx = 0
    this.#signalled = 0
    this.#halted = false
    this.#ready = true
  }

  /** What the driver accepted, once that is final. */
  setFeatures(features: QueueFeatures): void {
    this.#eventIdx = features.eventIdx
    this.#walker.indirect = features.indirect
  }

  /** The next chain that the driver has made available, or `undefined`. */
  popChain(): DescriptorChain | undefined {
    // Whatever is not an available chain in the rings that are mapped makes these two equal.
    if (this.#lastAvail === this.#availIdx || this.#generation !== this.#memory.generation) {
      if (this.#seemsEmpty() || !this.hasChains()) return undefined
      if (this.#replay.length > 0) return this.#popReplayed()
    }
    const at = this.#lastAvail
    const chain = this.#walk(this.#avail[2 + (at & this.#mask)]!)
    this.#lastAvail = (at + 1) & 0xffff
    return chain
  }

  /** True when `popChain` would return a chain (or throw). */
  hasChains(): boolean {
    if (!this.#ready || this.#halted) return false
    if (this.#generation !== this.#memory.generation) this.#map()
    return this.#replay.length > 0 || this.#lastAvail !== this.#availIdx || this.#refresh()
  }

  /**
   * Gives a chain back with the number of bytes written to its start. The driver sees it at the
   * next `shouldNotify`, which must follow every batch of pushes. After a reset the chain is only
   * free again.
   */
  pushUsed(chain: DescriptorChain, written: number): void {
    // Compared, not converted: as a condition the compiler would prepare for every type there is.
    if (chain.live === true) {
      if (this.#generation !== this.#memory.generation) this.#map()
      const at = 1 + ((this.#usedIdx & this.#mask) << 1)
      this.#used32[at] = chain.head
      this.#used32[at + 1] = written
      this.#usedIdx = (this.#usedIdx + 1) & 0xffff
      this.#usedDirty = true
    } else if (!chain.inUse) throw new TypeError('a chain was pushed twice')
    this.#recycle(chain)
  }

  /** Takes a chain back as if it had not been popped: it is the next to pop. */
  unpop(chain: DescriptorChain): void {
    if (!chain.inUse) throw new TypeError('a chain that was pushed cannot be unpopped')
    if (chain.live) {
      this.#replay.unshift(chain.head)
      this.#availIdx = this.#lastAvail
    }
    this.#recycle(chain)
  }

  /**
   * Publishes what was pushed since the last call; true when the driver wants an interrupt for it.
   */
  shouldNotify(): boolean {
    if (!this.#ready || this.#halted) return false
    this.#publish()
    const before = this.#signalled
    const now = this.#usedIdx
    if (before === now) return false
    this.#signalled = now
    if (!this.#eventIdx) return (Atomics.load(this.#avail, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0
    // The store of used.idx was sequentially consistent, so this load cannot move before it.
    const event = Atomics.load(this.#avail, 2 + this.#size)
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff)
  }

  /** Asks the driver not to kick: a hint, under EVENT_IDX implied by an old `avail_event`. */
  disableNotification(): void {
    if (!this.#ready || this.#halted || this.#eventIdx) return
    Atomics.store(this.#used16, 0, VIRTQ_USED_F_NO_NOTIFY)
    this.#usedDirty = true
  }

  /** Asks for kicks again; true when chains came meanwhile, for which there may be no kick. */
  enableNotification(): boolean {
    if (!this.#ready || this.#halted) return false
    if (this.#eventIdx) Atomics.store(this.#used16, 2 + 4 * this.#size, this.#lastAvail)
    else Atomics.store(this.#used16, 0, 0)
    this.#usedDirty = true
    return this.hasChains()
  }

  /** Stops for good: nothing is popped and the rings are left alone until `reset`. */
  halt(): void {
    if (this.#ready && !this.#halted) this.#publish()
    this.#stop()
  }

  #stop(): void {
    this.#halted = true
    this.#availIdx = this.#lastAvail
    for (const chain of this.#chains) if (chain.live) chain.abandon()
  }

  /** The registers after power-on. Chains in flight no longer touch anything when they come. */
  reset(): void {
    this.#stop()
    this.#ready = false
    this.#size = this.maxSize
    this.#address.fill(0)
    this.#replay = []
    this.#usedDirty = false
  }

  /** Chains in flight are saved as such: loading pops them again. */
  save(): VirtqueueState {
    if (this.#ready && !this.#halted) this.#publish()
    const live = this.#chains.filter((chain) => chain.live)
    const age = (chain: DescriptorChain): number =>
      (this.#sequence - chain.sequence) & SEQUENCE_MASK
    live.sort((a, b) => age(b) - age(a))
    return {
      size: this.#size,
      ready: this.#ready,
      halted: this.#halted,
      address: [...this.#address],
      lastAvail: this.#lastAvail,
      usedIdx: this.#usedIdx,
      signalled: this.#signalled,
      inFlight: [...live.map((chain) => chain.head), ...this.#replay],
    }
  }

  /** Takes a state for a queue with nothing in flight; the memory must be there already. */
  load(state: VirtqueueState, features: QueueFeatures): void {
    if (this.#inFlight > 0) {
      throw new VirtioError('E_STATE', `queue ${this.index} has chains in flight: quiesce first`)
    }
    const s = parseQueueState(this.index, state)
    this.reset()
    this.#size = s.size
    this.#forgetChains()
    this.#address.set(s.address)
    if (s.ready && !s.halted) this.#map()
    this.setFeatures(features)
    this.#ready = s.ready
    this.#halted = s.halted
    this.#lastAvail = s.lastAvail
    this.#availIdx = s.lastAvail
    this.#usedIdx = s.usedIdx
    this.#signalled = s.signalled
    this.#replay = s.inFlight
  }

  #recycle(chain: DescriptorChain): void {
    chain.release()
    const left = this.#inFlight - 1
    this.#inFlight = left
    // They mostly come back in the order of the stack, and a store has to be told to the collector.
    if (this.#pool[left] !== chain) this.#pool[left] = chain
    if (left === 0 && this.onDrained !== undefined) this.onDrained()
  }

  /** Reads `avail.idx`; true when there is more than before. */
  #refresh(): boolean {
    const idx = Atomics.load(this.#avail, 1)
    const more = (idx - this.#lastAvail) & 0xffff
    if (more === 0) return false
    if (more > this.#size) throw availIndexFault(this.index, this.#size, idx, more)
    this.#availIdx = idx
    return true
  }

  /**
   * A cheap look at `avail.idx`. It may miss a chain that has just come, as any look may; one that
   * it sees is seen again in order, before anything else of the ring is read.
   */
  #seemsEmpty(): boolean {
    return (
      this.#ready &&
      this.#replay.length === 0 &&
      this.#generation === this.#memory.generation &&
      this.#avail[1] === this.#lastAvail
    )
  }

  #popReplayed(): DescriptorChain {
    const chain = this.#walk(this.#replay[0]!)
    this.#replay.shift()
    return chain
  }

  /** The chain at `head`, in flight. When it is a bad one this throws and changes nothing. */
  #walk(head: number): DescriptorChain {
    const inFlight = this.#inFlight
    if (inFlight === this.#pool.length) this.#addChain()
    const chain = this.#pool[inFlight]!
    chain.head = head
    const three = walkThree(chain, this.#desc, 0, this.#size, head)
    if (!three) this.#walker.walk(chain, this.#desc, this.#size, head)
    chain.sequence = this.#sequence
    chain.live = true
    this.#sequence = (this.#sequence + 1) & SEQUENCE_MASK
    this.#inFlight = inFlight + 1
    return chain
  }

  #addChain(): void {
    if (this.#pool.length === this.#size) throw inFlightFault(this.index, this.#size)
    const chain = new DescriptorChain(this.#memory, this.#pages)
    this.#chains.push(chain)
    this.#pool.push(chain)
  }

  /** For another size; nothing is in flight. */
  #forgetChains(): void {
    this.#chains.length = 0
    this.#pool.length = 0
  }

  #publish(): void {
    if (!this.#usedDirty) return
    this.#usedDirty = false
    // The driver must see the elements before the index.
    Atomics.store(this.#used16, 1, this.#usedIdx)
    this.#memory.markWritten(this.#usedGpa, usedBytes(this.#size))
  }

  /** Makes the typed arrays over the rings. */
  #map(): void {
    const { layout } = this
    checkLayout(this.index, layout, this.maxSize)
    const { size, descGpa, availGpa, usedGpa } = layout
    // Read first: if slots change meanwhile, the rings are only mapped once more.
    const { generation } = this.#memory
    this.#pages.checkWritable(usedGpa, usedBytes(size))
    const desc = this.#memory.window(descGpa, DESC_BYTES * size)
    const avail = this.#memory.window(availGpa, availBytes(size))
    const used = this.#memory.window(usedGpa, usedBytes(size))
    this.#desc = new Uint32Array(desc.buffer, desc.byteOffset, 4 * size)
    this.#avail = new Uint16Array(avail.buffer, avail.byteOffset, 3 + size)
    this.#used16 = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size)
    this.#used32 = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * size)
    this.#usedGpa = usedGpa
    this.#mask = size - 1
    this.#generation = generation
  }
}
