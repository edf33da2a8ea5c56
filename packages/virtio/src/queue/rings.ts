import { VIRTQUEUE_MAX_SIZE } from '../constants.ts'
import { VirtioError } from '../errors.ts'
import type { GuestMemory } from '../memory.ts'
import { DESC_BYTES, type QueueLayout, availBytes, checkLayout, usedBytes } from './layout.ts'
import { GuestPages } from './pages.ts'

const FOUR_GIB = 2 ** 32

/**
 * Where a split virtqueue is: the registers that a transport writes while it is not ready, and views of the rings.
 *
 * What is needed for every chain is private for TypeScript only: a `#name` takes twice the bytecode, and by its amount
 * the compiler decides what to put into the place of a call.
 */
export class QueueRings {
  readonly index: number
  /** Descriptors at most; a power of two. */
  readonly maxSize: number
  protected readonly memory: GuestMemory
  protected readonly pages: GuestPages
  /** True from `enable` to `reset`. */
  protected enabled = false
  /** The generation of the memory in which the views were made. */
  protected mapped = 0
  protected desc: Uint32Array = new Uint32Array(0)
  protected avail: Uint16Array = new Uint16Array(0)
  protected used16: Uint16Array = new Uint16Array(0)
  protected used32: Uint32Array = new Uint32Array(0)
  protected usedGpa = 0
  protected mask = 0
  /** Low and high words of the addresses of descriptor table, available and used ring. */
  readonly #address: Uint32Array = new Uint32Array(6)
  #size: number

  constructor(memory: GuestMemory, index: number, maxSize: number) {
    if (!(maxSize >= 1 && maxSize <= VIRTQUEUE_MAX_SIZE) || (maxSize & (maxSize - 1)) !== 0) {
      throw new VirtioError(
        'E_CONFIG',
        `queue ${index} cannot have ${maxSize} descriptors: use a power of two up to 1024`,
        { fields: { queue: index, maxSize } },
      )
    }
    this.memory = memory
    this.pages = new GuestPages(memory)
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
    if (!this.enabled) this.#size = value & 0xffff
  }

  /** A half of an address register: word 0/1 descriptor table, 2/3 available, 4/5 used ring. */
  addressWord(word: number): number {
    return this.#address[word] ?? 0
  }

  /** Does nothing while the queue is ready. */
  setAddressWord(word: number, value: number): void {
    if (!this.enabled) this.#address[word] = value
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

  /** The six words of the addresses. */
  protected get addresses(): number[] {
    return [...this.#address]
  }

  /** The registers of a queue that is not ready, by default those after power-on. */
  protected setRegisters(size: number = this.maxSize, addresses?: readonly number[]): void {
    this.#size = size
    this.#address.fill(0)
    if (addresses !== undefined) this.#address.set(addresses)
  }

  /** Makes the views of the rings; throws for sizes and places that cannot be. */
  protected map(): void {
    const { layout } = this
    checkLayout(this.index, layout, this.maxSize)
    const { size, descGpa, availGpa, usedGpa } = layout
    // Read first: if slots change meanwhile, the rings are only mapped once more.
    const { generation } = this.memory
    this.pages.checkWritable(usedGpa, usedBytes(size))
    const desc = this.memory.window(descGpa, DESC_BYTES * size)
    const avail = this.memory.window(availGpa, availBytes(size))
    const used = this.memory.window(usedGpa, usedBytes(size))
    this.desc = new Uint32Array(desc.buffer, desc.byteOffset, 4 * size)
    this.avail = new Uint16Array(avail.buffer, avail.byteOffset, 3 + size)
    this.used16 = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size)
    this.used32 = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * size)
    this.usedGpa = usedGpa
    this.mask = size - 1
    this.mapped = generation
  }
}
