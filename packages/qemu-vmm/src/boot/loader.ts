import type { Entropy } from '../device.ts'
import type { MemoryMap } from '../machine/memory-map.ts'
import type { ImageTarget } from './image.ts'

/** Where a kernel is loaded to, and what it is told. */
export interface BootTarget {
  memory: ImageTarget
  map: MemoryMap
  /** Address of the ACPI root pointer. */
  rsdpGpa: number
  entropy: Entropy
  /** There is a screen in text mode 3. */
  hasTextScreen: boolean
}

/** CPU state at the first instruction. Segments are flat; interrupts are off. */
export interface BootEntry {
  /**
   * `long`: 64-bit mode with the page tables of {@link writePageTables}; `protected`: 32 bits,
   * paging off.
   */
  mode: 'long' | 'protected'
  rip: number
  /** General registers that the boot protocol defines; the others are 0. */
  regs: Partial<Record<'rax' | 'rbx' | 'rsi' | 'rsp', number>>
  /** Selectors of the flat segments, with the descriptor table at `gdtGpa`. */
  codeSelector: number
  dataSelector: number
  gdtGpa: number
  gdtBytes: number
  /** Page tables for `long`. */
  pageTableGpa?: number
}

/** A recognised kernel, ready to be loaded; again after each reset. */
export interface BootImage {
  /** What it is, for messages. */
  readonly kind: 'bzImage' | 'pvh' | 'multiboot'
  load(target: BootTarget): BootEntry
  close(): void
}

/** Low memory that loaders use. Everything lies below 0x90000, in conventional RAM. */
export const GDT_GPA = 0x500
export const PAGE_TABLES_GPA = 0x1000
export const BOOT_INFO_GPA = 0x1_0000
export const COMMAND_LINE_GPA = 0x2_0000
export const COMMAND_LINE_MAX = 0x1_0000
export const BOOT_DATA_GPA = 0x3_0000
/** A few words of stack for protocols that promise one. */
export const STACK_TOP_GPA = 0x8_0000
