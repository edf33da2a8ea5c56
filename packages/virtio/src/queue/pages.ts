import { VirtioError, hex } from '../errors.ts'
import type { GuestMemory } from '../memory.ts'

export const PAGE_BYTES = 4096
const SLOTS = 64
/** Longer copies are cheaper through a view than byte by byte. */
const SHORT_BYTES = 64

/**
 * Copies from and to guest RAM. Small accesses, such as request headers, status bytes and indirect
 * tables, go through views of whole pages that are kept, so that they allocate nothing.
 */
export class GuestPages {
  readonly #memory: GuestMemory
  #generation = -1
  /** First address of the page in each slot. */
  readonly #tags: Float64Array = new Float64Array(SLOTS).fill(-1)
  readonly #views: Uint8Array[] = []
  readonly #words: Uint32Array[] = []

  constructor(memory: GuestMemory) {
    this.#memory = memory
    for (let slot = 0; slot < SLOTS; slot++) {
      this.#views.push(new Uint8Array(0))
      this.#words.push(new Uint32Array(0))
    }
  }

  /** Copies `length` bytes at `gpa` to `target[at]`. */
  read(gpa: number, target: Uint8Array, at: number, length: number): void {
    const start = gpa & (PAGE_BYTES - 1)
    if (length <= SHORT_BYTES && start + length <= PAGE_BYTES) {
      const page = this.#page(gpa)
      for (let i = 0; i < length; i++) target[at + i] = page[start + i]!
      return
    }
    const whole = this.#wholePiece(gpa, length)
    if (whole !== undefined) {
      const from = gpa - whole.gpa
      target.set(whole.bytes.subarray(from, from + length), at)
      return
    }
    let to = at
    for (const piece of this.#memory.pieces(gpa, length)) {
      target.set(piece, to)
      to += piece.length
    }
  }

  /**
   * The page that has all of `[gpa, gpa + length)`, as words. `undefined` when no one page has, not in whole
   * words, or outside RAM.
   */
  words(gpa: number, length: number): Uint32Array | undefined {
    const start = gpa & (PAGE_BYTES - 1)
    if ((start & 3) !== 0 || start + length > PAGE_BYTES) return undefined
    if (!this.#has(gpa)) {
      try {
        this.#slot(gpa)
      } catch {
        return undefined
      }
    }
    const words = this.#words[(gpa >>> 12) & (SLOTS - 1)]!
    return words.length === 0 ? undefined : words
  }

  /** Copies `length` bytes of `source[at]` to `gpa` and reports them as written. */
  write(gpa: number, source: Uint8Array, at: number, length: number): void {
    this.checkWritable(gpa, length)
    const start = gpa & (PAGE_BYTES - 1)
    if (length <= SHORT_BYTES && start + length <= PAGE_BYTES) {
      const page = this.#page(gpa)
      for (let i = 0; i < length; i++) page[start + i] = source[at + i]!
    } else if (!this.#writeWhole(gpa, source, at, length)) {
      let from = at
      for (const piece of this.#memory.pieces(gpa, length)) {
        piece.set(source.subarray(from, from + piece.length))
        from += piece.length
      }
    }
    this.#memory.markWritten(gpa, length)
  }

  /** Writes what is all in one piece of RAM, with one view instead of a list of them. */
  #writeWhole(gpa: number, source: Uint8Array, at: number, length: number): boolean {
    const whole = this.#wholePiece(gpa, length)
    whole?.bytes.set(source.subarray(at, at + length), gpa - whole.gpa)
    return whole !== undefined
  }

  /** The piece of RAM that has all of a range, where memory tells its pieces. */
  #wholePiece(
    gpa: number,
    length: number,
  ): { readonly gpa: number; readonly bytes: Uint8Array } | undefined {
    const piece = this.#memory.piece?.(gpa)
    if (piece === undefined || gpa - piece.gpa + length > piece.bytes.length) return undefined
    return piece
  }

  /** Throws `E_GUEST_ADDRESS` where a device must not write. */
  checkWritable(gpa: number, length: number): void {
    if (this.#memory.isWritable?.(gpa, length) === false) {
      throw new VirtioError(
        'E_GUEST_ADDRESS',
        `${length} bytes at ${hex(gpa)} are not writable for a device`,
        { fields: { gpa, length } },
      )
    }
  }

  #page(gpa: number): Uint8Array {
    return this.#views[this.#slot(gpa)]!
  }

  #has(gpa: number): boolean {
    const base = gpa - (gpa & (PAGE_BYTES - 1))
    return (
      this.#generation === this.#memory.generation &&
      this.#tags[(gpa >>> 12) & (SLOTS - 1)] === base
    )
  }

  /** Where the views of the page at `gpa` are. */
  #slot(gpa: number): number {
    if (this.#generation !== this.#memory.generation) {
      this.#generation = this.#memory.generation
      this.#tags.fill(-1)
    }
    const base = gpa - (gpa & (PAGE_BYTES - 1))
    const slot = (gpa >>> 12) & (SLOTS - 1)
    if (this.#tags[slot] !== base) this.#load(slot, base)
    return slot
  }

  #load(slot: number, base: number): void {
    const view = this.#memory.pieces(base, PAGE_BYTES)[0]!
    const { buffer, byteOffset } = view
    const whole = byteOffset % 4 === 0
    this.#views[slot] = view
    this.#words[slot] = whole
      ? new Uint32Array(buffer, byteOffset, PAGE_BYTES / 4)
      : new Uint32Array(0)
    this.#tags[slot] = base
  }
}
