import type { GuestMemory, MemoryParts } from '../memory.ts'

const FIRST_CAPACITY = 16
const PART_NUMBERS = 3

/** Ranges of guest memory as parts of the buffers that RAM consists of. */
export class PartList implements MemoryParts {
  readonly buffers: Uint8Array[] = []
  parts: Uint32Array = new Uint32Array(FIRST_CAPACITY * PART_NUMBERS)
  count = 0
  length = 0
  readonly #memory: GuestMemory
  /** First address of each buffer. */
  readonly #gpas: number[] = []
  /** Whether a device may write all of each. */
  readonly #free: boolean[] = []
  #generation = -1
  /** The buffer that was found last. */
  #last = 0

  constructor(memory: GuestMemory) {
    this.#memory = memory
  }

  /** False where the memory does not tell its pieces. */
  get possible(): boolean {
    return this.#memory.piece !== undefined
  }

  /** Begins anew. */
  clear(): void {
    this.count = 0
    this.length = 0
    if (this.#generation === this.#memory.generation) return
    this.#generation = this.#memory.generation
    this.buffers.length = 0
    this.#gpas.length = 0
    this.#free.length = 0
    this.#last = 0
  }

  /** Appends a range. Throws when it is not in RAM. */
  add(gpa: number, length: number): void {
    for (let done = 0; done < length;) {
      const buffer = this.#find(gpa + done)
      const from = gpa + done - this.#gpas[buffer]!
      const here = Math.min(length - done, this.buffers[buffer]!.length - from)
      const at = this.count * PART_NUMBERS
      if (at === this.parts.length) this.#grow()
      this.parts[at] = buffer
      this.parts[at + 1] = from
      this.parts[at + 2] = here
      this.count++
      done += here
    }
    this.length += length
  }

  /**
   * Appends the ranges from `first` on, `length` bytes in all. One loop without calls while they lie in the same writable
   * piece of RAM, as nearly all do: a large request has hundreds. `check` is asked about all others, and throws.
   */
  addAll(
    gpas: Float64Array,
    lengths: Uint32Array,
    first: number,
    length: number,
    check: (gpa: number, length: number) => void,
  ): void {
    let { start, end } = this.#writable()
    let { count, parts } = this
    let left = length
    for (let i = first; left > 0; i++) {
      const gpa = gpas[i]!
      const size = lengths[i]!
      const part = size < left ? size : left
      const at = count * PART_NUMBERS
      if (gpa >= start && gpa + part <= end && at < parts.length) {
        parts[at] = this.#last
        parts[at + 1] = gpa - start
        parts[at + 2] = part
        count++
      } else {
        check(gpa, part)
        this.count = count
        this.add(gpa, part)
        this.length -= part
        ;({ start, end } = this.#writable())
        ;({ count, parts } = this)
      }
      left -= part
    }
    this.count = count
    this.length += length
  }

  /** The addresses of the buffer that was found last, when all of it is known to be writable; otherwise none. */
  #writable(): { start: number; end: number } {
    const bytes = this.buffers[this.#last]
    const start = this.#gpas[this.#last]
    if (bytes === undefined || start === undefined || !this.#free[this.#last]) {
      return { start: 0, end: 0 }
    }
    return { start, end: start + bytes.length }
  }

  /** Which buffer an address is in. */
  #find(gpa: number): number {
    if (this.#holds(this.#last, gpa)) return this.#last
    for (let i = 0; i < this.buffers.length; i++) {
      if (this.#holds(i, gpa)) return (this.#last = i)
    }
    const piece = this.#memory.piece!(gpa)
    this.#gpas.push(piece.gpa)
    this.#free.push(piece.readOnly === false)
    this.#last = this.buffers.push(piece.bytes) - 1
    return this.#last
  }

  #holds(buffer: number, gpa: number): boolean {
    if (buffer === this.buffers.length) return false
    const from = gpa - this.#gpas[buffer]!
    return from >= 0 && from < this.buffers[buffer]!.length
  }

  #grow(): void {
    const parts = new Uint32Array(this.parts.length * 2)
    parts.set(this.parts)
    this.parts = parts
  }
}
