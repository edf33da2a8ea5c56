import type { GuestMemory, MemoryPiece } from 'kvm-core'

/** Guest memory of a test: RAM from 0 on, and nothing else. */
export class FlatRam implements GuestMemory {
  readonly generation = 0
  readonly bytes: Uint8Array
  /** What was reported as written. */
  readonly written: { gpa: number; len: number }[] = []
  /** Where ROM begins, up to the end. */
  romAt: number

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
    this.romAt = size
  }

  read(gpa: number, dst: Uint8Array): void {
    this.#check(gpa, dst.length)
    dst.set(this.bytes.subarray(gpa, gpa + dst.length))
  }

  write(gpa: number, src: Uint8Array): void {
    this.#check(gpa, src.length)
    this.bytes.set(src, gpa)
  }

  discard(gpa: number, len: number): void {
    this.#check(gpa, len)
    this.bytes.fill(0, gpa, gpa + len)
  }

  view(gpa: number, len: number): DataView {
    this.#check(gpa, len)
    return new DataView(this.bytes.buffer, gpa, len)
  }

  window(gpa: number, len: number): ArrayBuffer {
    this.#check(gpa, len)
    return this.bytes.buffer.slice(gpa, gpa + len) as ArrayBuffer
  }

  piece(gpa: number): MemoryPiece {
    this.#check(gpa, 1)
    // Two pieces, so that ranges cross from one into the other, and ROM.
    const ends = [this.bytes.length / 2, this.romAt, this.bytes.length].toSorted((a, b) => a - b)
    const end = ends.find((end) => gpa < end)!
    const start = ends.findLast((end) => end <= gpa) ?? 0
    return { gpa: start, bytes: this.bytes.subarray(start, end), readOnly: gpa >= this.romAt }
  }

  markWritten(gpa: number, len: number): void {
    this.#check(gpa, len)
    this.written.push({ gpa, len })
  }

  markAllWritten(gpas: Float64Array, lens: Uint32Array, first: number, end: number): void {
    for (let i = first; i < end; i++) this.markWritten(gpas[i]!, lens[i]!)
  }

  contains(gpa: number, len: number): boolean {
    return gpa >= 0 && len >= 0 && gpa + len <= this.bytes.length
  }

  isWritable(gpa: number, len: number): boolean {
    return this.contains(gpa, len) && gpa + len <= this.romAt
  }

  #check(gpa: number, len: number): void {
    if (!this.contains(gpa, len)) throw new Error(`${len} bytes at ${gpa} are not RAM`)
  }
}
