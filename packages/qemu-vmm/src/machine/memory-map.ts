import { VmmError, formatBytes } from '../errors.ts'
import type { BoardKind } from './machine-type.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB
const PAGE = 4096

/** How much RAM is below 4 GiB. */
interface LowRam {
  /** Start of what is no RAM in any case: configuration space, PCI memory, ROM, APICs. */
  limit: number
  /** Where low RAM ends when there is more of it: whole gigabytes, so that large pages map it. */
  aligned: number
  /** From this much on the rest is above 4 GiB. */
  splitAt: number
  /** Bytes of the window for PCI memory above 4 GiB. */
  hole64: number
}

const LOW_RAM: Readonly<Record<BoardKind, LowRam>> = {
  i440fx: { limit: 0xe000_0000, aligned: 3 * GIB, splitAt: 0xe000_0000, hole64: 2 * GIB },
  // Configuration space is at 0xb0000000.
  q35: { limit: 0xb000_0000, aligned: 2 * GIB, splitAt: 0xb000_0000, hole64: 32 * GIB },
}
/** Where RAM goes on that is not below 4 GiB. */
export const HIGH_RAM_START: number = 4 * GIB
/** From each of these to 4 GiB is a power of two, which one memory type register can cover. */
const PCI_HOLE_STARTS = [2 * GIB, 3 * GIB, 0xe000_0000] as const
/** No x86 CPU model here has more than 40 bits of guest-physical addresses. */
const ADDRESS_END = 1024 * GIB
const RAM_LIMIT = 1024 * GIB - GIB

/** Video memory and its legacy window: never RAM. */
export const VGA_HOLE_START = 0xa_0000
export const VGA_HOLE_END = 0xc_0000
/** Extended BIOS data area: where conventional memory ends. */
export const EBDA_START = 0x9_fc00
/** The BIOS segment, where ACPI and SMBIOS tables are. */
export const TABLES_START = 0xf_0000
export const TABLES_END = 0x10_0000
export const HIGH_MEMORY_START = 0x10_0000

/** Address range types (ACPI 6.5, table 15.4). */
export const E820_RAM = 1
export const E820_RESERVED = 2

/** One entry of the memory map that a guest is given. */
export interface E820Entry {
  addr: number
  size: number
  type: number
}

/** A memslot of the machine: RAM bytes from `offset` appear at `gpa`. */
export interface RamSlot {
  gpa: number
  offset: number
  size: number
}

/** How RAM is laid out in guest-physical addresses. */
export interface MemoryMap {
  readonly memoryBytes: number
  /** End of the RAM below 4 GiB. */
  readonly lowRamEnd: number
  /** Bytes of RAM from 4 GiB up. */
  readonly highRamBytes: number
  /** The RAM that is always there. Between 768 KiB and 1 MiB the host bridge decides. */
  readonly slots: readonly RamSlot[]
  readonly e820: readonly E820Entry[]
  /** Start of the window for PCI memory below 4 GiB. */
  readonly pciHoleStart: number
  /** The window for PCI memory above 4 GiB, where there is room for it. */
  readonly pciHole64: { start: number; end: number } | undefined
}

/**
 * Lays out `memoryBytes` of RAM as QEMU's boards do: `pc` below 3.5 GiB in one piece, else 3 GiB below
 * the PCI hole and the rest from 4 GiB up; `q35` below 2.75 GiB in one piece, else 2 GiB below. Throws
 * `E_MEMORY_SIZE` with the limits.
 */
export function createMemoryMap(memoryBytes: number, board: BoardKind = 'i440fx'): MemoryMap {
  checkSize(memoryBytes)
  const { limit, aligned, splitAt, hole64 } = LOW_RAM[board]
  const lowRamEnd = memoryBytes < splitAt ? memoryBytes : aligned
  const highRamBytes = memoryBytes - lowRamEnd
  const slots: RamSlot[] = [
    { gpa: 0, offset: 0, size: VGA_HOLE_START },
    { gpa: HIGH_MEMORY_START, offset: HIGH_MEMORY_START, size: lowRamEnd - HIGH_MEMORY_START },
  ]
  const e820: E820Entry[] = [
    { addr: 0, size: EBDA_START, type: E820_RAM },
    { addr: EBDA_START, size: VGA_HOLE_START - EBDA_START, type: E820_RESERVED },
    { addr: TABLES_START, size: TABLES_END - TABLES_START, type: E820_RESERVED },
    { addr: HIGH_MEMORY_START, size: lowRamEnd - HIGH_MEMORY_START, type: E820_RAM },
  ]
  if (highRamBytes > 0) {
    slots.push({ gpa: HIGH_RAM_START, offset: lowRamEnd, size: highRamBytes })
    e820.push({ addr: HIGH_RAM_START, size: highRamBytes, type: E820_RAM })
  }
  const pciHoleStart = PCI_HOLE_STARTS.find((start) => start >= lowRamEnd) ?? limit
  const start = Math.ceil((HIGH_RAM_START + highRamBytes) / GIB) * GIB
  const end = start + hole64
  const pciHole64 = end <= ADDRESS_END ? { start, end } : undefined
  return { memoryBytes, lowRamEnd, highRamBytes, slots, e820, pciHoleStart, pciHole64 }
}

function checkSize(memoryBytes: number): void {
  const problem =
    !Number.isSafeInteger(memoryBytes) || memoryBytes < 2 * MIB
      ? `is too small; a PC needs at least ${formatBytes(2 * MIB)}`
      : memoryBytes > RAM_LIMIT
        ? `is more than the ${formatBytes(RAM_LIMIT)} that guest addresses reach`
        : memoryBytes % PAGE !== 0
          ? `is not a multiple of ${PAGE}`
          : undefined
  if (problem !== undefined) {
    const size = Number.isSafeInteger(memoryBytes) ? formatBytes(memoryBytes) : `${memoryBytes}`
    throw new VmmError('E_MEMORY_SIZE', `guest memory of ${size} ${problem}`, {
      fields: { memory: memoryBytes },
    })
  }
}

/** Whether a whole range is RAM that a loader may fill below 4 GiB. */
export function isLowRam(map: MemoryMap, gpa: number, size: number): boolean {
  if (gpa < 0 || size < 0) return false
  const end = gpa + size
  return end <= EBDA_START || (gpa >= HIGH_MEMORY_START && end <= map.lowRamEnd)
}
