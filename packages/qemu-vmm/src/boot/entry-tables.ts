import { GDT_GPA, PAGE_TABLES_GPA } from './loader.ts'
import type { ImageTarget } from './image.ts'

/** Selectors that the Linux boot protocol prescribes. */
export const BOOT_CS = 0x10
export const BOOT_DS = 0x18

const PAGE_BYTES = 4096
const ENTRIES = 512
const LARGE_PAGE_BYTES = 2 << 20
const GIGABYTES = 4
const PRESENT_WRITABLE = 0x03
const LARGE = 0x80

/** A code segment in 64-bit mode, flat. */
const CODE_64 = 0x00af_9b00_0000_ffffn
/** A code segment in 32-bit mode, base 0, limit 4 GiB. */
const CODE_32 = 0x00cf_9b00_0000_ffffn
const DATA = 0x00cf_9300_0000_ffffn

/** Writes a descriptor table with flat code at 0x10 and data at 0x18; returns its size. */
export function writeGdt(memory: ImageTarget, mode: 'long' | 'protected'): number {
  const entries = BigUint64Array.of(0n, 0n, mode === 'long' ? CODE_64 : CODE_32, DATA)
  memory.write(GDT_GPA, new Uint8Array(entries.buffer))
  return entries.byteLength
}

/** Writes page tables that map the first 4 GiB to themselves with 2 MiB pages. */
export function writePageTables(memory: ImageTarget): number {
  const tables = new DataView(new ArrayBuffer((2 + GIGABYTES) * PAGE_BYTES))
  const set = (at: number, address: number, flags: number): void => {
    tables.setUint32(at, address + flags, true)
  }
  set(0, PAGE_TABLES_GPA + PAGE_BYTES, PRESENT_WRITABLE)
  for (let i = 0; i < GIGABYTES; i++) {
    set(PAGE_BYTES + i * 8, PAGE_TABLES_GPA + (2 + i) * PAGE_BYTES, PRESENT_WRITABLE)
  }
  for (let i = 0; i < GIGABYTES * ENTRIES; i++) {
    set(2 * PAGE_BYTES + i * 8, i * LARGE_PAGE_BYTES, PRESENT_WRITABLE | LARGE)
  }
  memory.write(PAGE_TABLES_GPA, new Uint8Array(tables.buffer))
  return PAGE_TABLES_GPA
}
