import type { BootEntry } from '../boot/loader.ts'

// struct kvm_sregs: eight segments of 24 bytes, two descriptor tables of 16, control registers.
const SEGMENT_BYTES = 24
const SEGMENTS = { cs: 0, ds: 1, es: 2, fs: 3, gs: 4, ss: 5, tr: 6, ldt: 7 } as const
const GDT = 192
const IDT = 208
const CR0 = 224
const CR3 = 240
const CR4 = 248
const EFER = 264

const TYPE_CODE = 0x0b
const TYPE_DATA = 0x03
const TYPE_BUSY_TSS = 0x0b
const CR0_PE = 1n
const CR0_ET = 1n << 4n
const CR0_PG = 1n << 31n
const CR4_PAE = 1n << 5n
const EFER_LME = 1n << 8n
const EFER_LMA = 1n << 10n
const RFLAGS_FIXED = 2n
const FLAT_LIMIT = 0xffff_ffff

/** Indices in the block of general registers (`struct kvm_regs`). */
const REGS = { rax: 0, rbx: 1, rsi: 4, rsp: 6, rip: 16, rflags: 17 } as const
const REG_COUNT = 18

/** General registers for a boot entry. */
export function entryRegs(entry: BootEntry): BigUint64Array {
  const regs = new BigUint64Array(REG_COUNT)
  for (const name of ['rax', 'rbx', 'rsi', 'rsp'] as const) {
    regs[REGS[name]] = BigInt(entry.regs[name] ?? 0)
  }
  regs[REGS.rip] = BigInt(entry.rip)
  regs[REGS.rflags] = RFLAGS_FIXED
  return regs
}

/** Segment and control registers for a boot entry, on top of those after reset. */
export function entrySregs(afterReset: Uint8Array, entry: BootEntry): Uint8Array {
  const sregs = afterReset.slice()
  const view = new DataView(sregs.buffer)
  const isLong = entry.mode === 'long'
  segment(view, SEGMENTS.cs, entry.codeSelector, TYPE_CODE, isLong ? 'long' : 'flat')
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) {
    segment(view, SEGMENTS[name], entry.dataSelector, TYPE_DATA, 'flat')
  }
  segment(view, SEGMENTS.tr, 0, TYPE_BUSY_TSS, 'system')
  view.setBigUint64(GDT, BigInt(entry.gdtGpa), true)
  view.setUint16(GDT + 8, entry.gdtBytes - 1, true)
  view.setBigUint64(IDT, 0n, true)
  view.setUint16(IDT + 8, 0, true)
  view.setBigUint64(CR0, CR0_PE | CR0_ET | (isLong ? CR0_PG : 0n), true)
  view.setBigUint64(CR3, BigInt(entry.pageTableGpa ?? 0), true)
  view.setBigUint64(CR4, isLong ? CR4_PAE : 0n, true)
  view.setBigUint64(EFER, isLong ? EFER_LME | EFER_LMA : 0n, true)
  return sregs
}

/** General registers at a waking vector (ACPI 6.5, 16.3.3). */
export function wakeRegs(vector: number): BigUint64Array {
  const regs = new BigUint64Array(REG_COUNT)
  regs[REGS.rip] = BigInt(vector & 0x0f)
  regs[REGS.rflags] = RFLAGS_FIXED
  return regs
}

/** Segment and control registers there: real mode, as after reset but for the code segment. */
export function wakeSregs(afterReset: Uint8Array, vector: number): Uint8Array {
  const sregs = afterReset.slice()
  const view = new DataView(sregs.buffer)
  const at = SEGMENTS.cs * SEGMENT_BYTES
  view.setBigUint64(at, BigInt(vector & ~0x0f), true)
  view.setUint16(at + 12, vector >>> 4, true)
  return sregs
}

function segment(
  view: DataView,
  index: number,
  selector: number,
  type: number,
  kind: 'flat' | 'long' | 'system',
): void {
  const at = index * SEGMENT_BYTES
  const isSystem = kind === 'system'
  view.setBigUint64(at, 0n, true)
  view.setUint32(at + 8, isSystem ? 0x67 : FLAT_LIMIT, true)
  view.setUint16(at + 12, selector, true)
  view.setUint8(at + 14, type)
  view.setUint8(at + 15, 1)
  view.setUint8(at + 16, 0)
  view.setUint8(at + 17, kind === 'flat' ? 1 : 0)
  view.setUint8(at + 18, isSystem ? 0 : 1)
  view.setUint8(at + 19, kind === 'long' ? 1 : 0)
  view.setUint8(at + 20, isSystem ? 0 : 1)
  view.setUint8(at + 21, 0)
  view.setUint8(at + 22, 0)
}
