import { VirtioError, hex } from '../errors.ts'
import type { GuestMemory } from '../memory.ts'

/** A piece of RAM or ROM. */
export interface FakeRegion {
  gpa: number
  /** A multiple of 4096. */
  bytes: number
  /** Devices may only read it. */
  readOnly?: boolean
  /** What it has, of that many bytes; zeroes of its own otherwise. */
  data?: Uint8Array<ArrayBuffer>
}

/** Guest memory of a test: pieces with holes between them, and a list of what was written. */
export class FakeMemory implements GuestMemory {
  readonly #regions: readonly (FakeRegion & { data: Uint8Array<ArrayBuffer> })[]
  generation = 0
  /** Every range that a device reported as written. */
  readonly written: { gpa: number; length: number }[] = []
  /** Turn off where millions of reports would pile up. */
  record = true

  constructor(regions: readonly FakeRegion[] = [{ gpa: 0, bytes: 1 << 20 }]) {
    this.#regions = regions.map((region) => ({
      ...region,
      data: region.data ?? new Uint8Array(region.bytes),
    }))
  }

  pieces(gpa: number, length: number): Uint8Array[] {
    const pieces: Uint8Array[] = []
    let at = gpa
    while (at < gpa + length) {
      const region = this.#find(at)
      if (region === undefined) throw this.#outside(gpa, length)
      const end = Math.min(gpa + length, region.gpa + region.bytes)
      pieces.push(region.data.subarray(at - region.gpa, end - region.gpa))
      at = end
    }
    return pieces
  }

  window(gpa: number, length: number): { buffer: ArrayBuffer; byteOffset: number } {
    const region = this.#find(gpa)
    if (region === undefined || gpa + length > region.gpa + region.bytes) {
      throw this.#outside(gpa, length)
    }
    return { buffer: region.data.buffer, byteOffset: gpa - region.gpa }
  }

  piece(gpa: number): { gpa: number; bytes: Uint8Array } {
    const region = this.#find(gpa)
    if (region === undefined) throw this.#outside(gpa, 1)
    return { gpa: region.gpa, bytes: region.data }
  }

  markWritten(gpa: number, length: number): void {
    if (this.record) this.written.push({ gpa, length })
  }

  isWritable(gpa: number, length: number): boolean {
    return !this.#regions.some(
      (region) => region.readOnly && gpa < region.gpa + region.bytes && region.gpa < gpa + length,
    )
  }

  /** The driver's own access: a view in one piece. */
  view(gpa: number, length: number): DataView<ArrayBuffer> {
    const { buffer, byteOffset } = this.window(gpa, length)
    return new DataView(buffer, byteOffset, length)
  }

  read(gpa: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    let at = 0
    for (const piece of this.pieces(gpa, length)) {
      bytes.set(piece, at)
      at += piece.length
    }
    return bytes
  }

  write(gpa: number, bytes: Uint8Array): void {
    let at = 0
    for (const piece of this.pieces(gpa, bytes.length)) {
      piece.set(bytes.subarray(at, at + piece.length))
      at += piece.length
    }
  }

  /** All of memory, to compare before and after. */
  snapshot(): Uint8Array[] {
    return this.#regions.map(({ data }) => data.slice())
  }

  #find(gpa: number): (FakeRegion & { data: Uint8Array<ArrayBuffer> }) | undefined {
    return this.#regions.find((region) => gpa >= region.gpa && gpa < region.gpa + region.bytes)
  }

  #outside(gpa: number, length: number): VirtioError {
    return new VirtioError('E_GUEST_ADDRESS', `${length} bytes at ${hex(gpa)} are not in RAM`)
  }
}
