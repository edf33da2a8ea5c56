import { badImage, truncatedImage } from './image.ts'
import type { ImageFile } from './image.ts'

const HEADER_32_BYTES = 52
const HEADER_64_BYTES = 64
const CLASS_64 = 2
const LITTLE_ENDIAN = 1
const MACHINE_386 = 3
const MACHINE_X86_64 = 62
const SEGMENT_32_BYTES = 32
const SEGMENT_64_BYTES = 56
/** Program headers are few; a hostile count must not make us read the whole file. */
const MAX_SEGMENTS = 256
const MAX_NOTE_BYTES = 1 << 20

export const PT_LOAD = 1
export const PT_NOTE = 4

/** A program header (System V ABI, chapter 5), without what loading does not need. */
export interface ElfSegment {
  type: number
  offset: number
  /** Physical address. */
  gpa: number
  fileBytes: number
  memoryBytes: number
}

/** An x86 ELF executable. */
export interface Elf {
  is64: boolean
  entry: number
  segments: ElfSegment[]
}

/** A note of a PT_NOTE segment. */
export interface ElfNote {
  name: string
  type: number
  data: Uint8Array
}

/** Whether a file starts like an ELF file. */
export function isElf(head: DataView): boolean {
  return head.byteLength >= HEADER_32_BYTES && head.getUint32(0, false) === 0x7f45_4c46
}

/** Reads headers and program headers. Throws when they are damaged or not for x86. */
export function parseElf(image: ImageFile): Elf {
  const what = 'kernel'
  const head = image.read(0, HEADER_64_BYTES)
  const view = new DataView(head.buffer)
  const is64 = head[4] === CLASS_64
  if (head.length < (is64 ? HEADER_64_BYTES : HEADER_32_BYTES)) {
    throw truncatedImage(image, what, HEADER_64_BYTES)
  }
  const machine = view.getUint16(18, true)
  if (head[5] !== LITTLE_ENDIAN || (machine !== MACHINE_386 && machine !== MACHINE_X86_64)) {
    throw badImage(image, what, `is an ELF file for another machine (e_machine ${machine})`)
  }
  const tableAt = is64 ? number64(view, 32) : view.getUint32(28, true)
  const entryBytes = view.getUint16(is64 ? 54 : 42, true)
  const count = view.getUint16(is64 ? 56 : 44, true)
  const least = is64 ? SEGMENT_64_BYTES : SEGMENT_32_BYTES
  if (count === 0 || count > MAX_SEGMENTS || entryBytes < least) {
    throw badImage(image, what, `has ${count} program headers of ${entryBytes} bytes`)
  }
  if (tableAt + count * entryBytes > image.size) {
    throw truncatedImage(image, what, tableAt + count * entryBytes)
  }
  const table = new DataView(image.read(tableAt, count * entryBytes).buffer)
  const segments = Array.from({ length: count }, (_, i) => segment(table, i * entryBytes, is64))
  for (const { type, offset, fileBytes, memoryBytes } of segments) {
    if (type !== PT_LOAD && type !== PT_NOTE) continue
    if (offset + fileBytes > image.size) throw truncatedImage(image, what, offset + fileBytes)
    if (type === PT_LOAD && fileBytes > memoryBytes) {
      throw badImage(image, what, 'has a segment with more bytes in the file than in memory')
    }
  }
  return { is64, entry: is64 ? number64(view, 24) : view.getUint32(24, true), segments }
}

/** All notes of a file; parsing stops at the first damaged one of a segment. */
export function* elfNotes(image: ImageFile, elf: Elf): Iterable<ElfNote> {
  for (const { type, offset, fileBytes } of elf.segments) {
    if (type !== PT_NOTE || fileBytes > MAX_NOTE_BYTES) continue
    const bytes = image.read(offset, fileBytes)
    const view = new DataView(bytes.buffer)
    for (let at = 0; at + 12 <= bytes.length;) {
      const nameBytes = view.getUint32(at, true)
      const dataBytes = view.getUint32(at + 4, true)
      const dataAt = at + 12 + align4(nameBytes)
      if (dataAt + dataBytes > bytes.length) break
      const name = String.fromCharCode(
        ...bytes.subarray(at + 12, at + 12 + Math.min(nameBytes, 64)),
      )
      yield {
        name: name.replace(/\0.*$/s, ''),
        type: view.getUint32(at + 8, true),
        data: bytes.subarray(dataAt, dataAt + dataBytes),
      }
      at = dataAt + align4(dataBytes)
    }
  }
}

function segment(view: DataView, at: number, is64: boolean): ElfSegment {
  const type = view.getUint32(at, true)
  if (is64) {
    return {
      type,
      offset: number64(view, at + 8),
      gpa: number64(view, at + 24),
      fileBytes: number64(view, at + 32),
      memoryBytes: number64(view, at + 40),
    }
  }
  return {
    type,
    offset: view.getUint32(at + 4, true),
    gpa: view.getUint32(at + 12, true),
    fileBytes: view.getUint32(at + 16, true),
    memoryBytes: view.getUint32(at + 20, true),
  }
}

/**
 * Values beyond 2^53 lose low bits, which no check here depends on: they are out of range anyway.
 */
function number64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true)
}

function align4(value: number): number {
  return Math.ceil(value / 4) * 4
}
