import type { GuestMemory, MemoryPiece } from './api/memory.ts'
import { KvmError, native } from './errors.ts'
import { MemFlag } from './generated/abi.ts'
import { GuestRamImpl } from './guest-ram.ts'
import type { NativeMemory } from './native/addon.ts'
import { addon } from './native/loader.ts'

/** A memslot, or the part of one that lies in one segment of its RAM. */
interface Piece {
  readonly gpa: number
  readonly end: number
  readonly ram: GuestRamImpl
  /** Offset in the segment. */
  readonly start: number
  readonly segment: number
  readonly readOnly: boolean
  /** The segment's bytes, made at the first use. */
  bytes: Uint8Array | undefined
  /** What is told of it, made at the first use. */
  shown: MemoryPiece | undefined
}

/** Numbers per memslot in what the addon tells. */
const slotNumbers = 6

/** Below this a loop over bytes is faster than a call of the addon. */
const shortBytes = 32

/** Guest physical memory in this isolate. */
export class GuestMemoryImpl implements GuestMemory {
  readonly #native: NativeMemory
  readonly #words: ArrayBuffer
  readonly #generation: Int32Array
  readonly #rams: Map<number, GuestRamImpl> = new Map()
  #seen = -1
  #pieces: Piece[] = []
  #last: Piece | undefined

  constructor(from: NativeMemory) {
    this.#native = from
    this.#words = from.generation()
    this.#generation = new Int32Array(this.#words)
  }

  get generation(): number {
    // Queues ask at every access; an atomic load would cost as much as all the rest of it.
    return this.#generation[0] ?? -1
  }

  /** Uses the ArrayBuffers of this object instead of making others. */
  adopt(ram: GuestRamImpl): void {
    this.#rams.set(ram.key, ram)
  }

  read(gpa: number, dst: Uint8Array): void {
    if (dst.length > shortBytes) {
      native(() => this.#native.read(gpa, dst))
      return
    }
    const piece = this.#find(gpa)
    if (piece === undefined || gpa + dst.length > piece.end) {
      native(() => this.#native.read(gpa, dst))
      return
    }
    const bytes = bytesOf(piece)
    const from = gpa - piece.gpa + piece.start
    for (let i = 0; i < dst.length; i++) dst[i] = bytes[from + i] ?? 0
  }

  write(gpa: number, src: Uint8Array): void {
    native(() => this.#native.write(gpa, src))
  }

  view(gpa: number, len: number): DataView {
    const piece = this.#whole(gpa, len)
    return new DataView(bytesOf(piece).buffer, gpa - piece.gpa + piece.start, len)
  }

  window(gpa: number, len: number): ArrayBuffer {
    const piece = this.#whole(gpa, len)
    const offset = piece.segment * piece.ram.segmentBytes + piece.start
    return piece.ram.window(offset + gpa - piece.gpa, len)
  }

  piece(gpa: number): MemoryPiece {
    const piece = this.#whole(gpa, 1)
    const { start } = piece
    const end = start + piece.end - piece.gpa
    const { gpa: first, readOnly } = piece
    piece.shown ??= { gpa: first, bytes: bytesOf(piece).subarray(start, end), readOnly }
    return piece.shown
  }

  markWritten(gpa: number, len: number): void {
    native(() => this.#native.markWritten(gpa, len))
  }

  discard(gpa: number, len: number): void {
    native(() => this.#native.discard(gpa, len))
  }

  markAllWritten(gpas: Float64Array, lens: Uint32Array, first: number, end: number): void {
    native(() => this.#native.markAllWritten(gpas, lens, first, end))
  }

  contains(gpa: number, len: number): boolean {
    if (!Number.isSafeInteger(gpa) || !Number.isSafeInteger(gpa + len) || gpa < 0 || len < 0) {
      return false
    }
    let at = gpa
    while (at < gpa + len) {
      const piece = this.#find(at)
      if (piece === undefined) return false
      at = piece.end
    }
    return true
  }

  isWritable(gpa: number, len: number): boolean {
    let piece = this.#find(gpa)
    if (!(len >= 0)) return false
    for (; piece !== undefined && !piece.readOnly; piece = this.#find(piece.end)) {
      if (gpa + len <= piece.end) return true
    }
    return false
  }

  /** Detaches every ArrayBuffer of this isolate. */
  detach(): void {
    for (const ram of this.#rams.values()) ram.detach()
    this.#rams.clear()
    this.#pieces = []
    this.#last = undefined
    if (this.#words.byteLength > 0) addon().detachBuffer(this.#words)
  }

  #whole(gpa: number, len: number): Piece {
    const piece = this.#find(gpa)
    if (piece !== undefined && len >= 0 && gpa + len <= piece.end) return piece
    const hex = `${len} bytes at 0x${gpa.toString(16)}`
    if (this.contains(gpa, len)) {
      throw new KvmError('EFAULT', `${hex} are in several memslots or segments: use read or write`)
    }
    throw new KvmError('EFAULT', `${hex} are not all in guest RAM`)
  }

  #find(gpa: number): Piece | undefined {
    if (this.#generation.length === 0) throw new KvmError('EBADF', 'the VM was closed')
    if (Atomics.load(this.#generation, 0) !== this.#seen) this.#reload()
    const last = this.#last
    if (last !== undefined && gpa >= last.gpa && gpa < last.end) return last
    const pieces = this.#pieces
    let [low, high] = [0, pieces.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((pieces[middle]?.end ?? 0) > gpa) high = middle
      else low = middle + 1
    }
    const found = pieces[low]
    if (found === undefined || !(gpa >= found.gpa)) return undefined
    this.#last = found
    return found
  }

  #reload(): void {
    // The number is read first: a table that is newer than it is only loaded once more.
    this.#seen = Atomics.load(this.#generation, 0)
    const used = new Set<number>()
    const numbers = this.#native.slots()
    this.#pieces = []
    for (let at = 0; at < numbers.length; at += slotNumbers) {
      const [slot = 0, gpa = 0, size = 0, offset = 0, key = 0, flags = 0] = numbers.subarray(at)
      used.add(key)
      let ram = this.#rams.get(key)
      if (ram === undefined) {
        ram = new GuestRamImpl(native(() => this.#native.slotRam(slot)))
        this.#rams.set(key, ram)
      }
      this.#pieces.push(...split(gpa, size, offset, ram, (flags & MemFlag.Readonly) !== 0))
    }
    this.#last = undefined
    // RAM that no slot shows any more would be kept alive by the map.
    for (const key of this.#rams.keys()) if (!used.has(key)) this.#rams.delete(key)
  }
}

function split(
  gpa: number,
  size: number,
  offset: number,
  ram: GuestRamImpl,
  readOnly: boolean,
): Piece[] {
  const pieces: Piece[] = []
  for (let done = 0; done < size;) {
    const at = offset + done
    const segment = Math.floor(at / ram.segmentBytes)
    const len = Math.min(size - done, (segment + 1) * ram.segmentBytes - at)
    const start = at - segment * ram.segmentBytes
    const [from, end] = [gpa + done, gpa + done + len]
    const made = { bytes: undefined, shown: undefined }
    pieces.push({ gpa: from, end, ram, start, segment, readOnly, ...made })
    done += len
  }
  return pieces
}

function bytesOf(piece: Piece): Uint8Array {
  piece.bytes ??= new Uint8Array(piece.ram.segment(piece.segment))
  return piece.bytes
}
