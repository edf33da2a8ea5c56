import type { Vcpu, Vm } from '../api.ts'

/** Where `enterProtected` and `enterLong` put their tables: three pages and a GDT below 64 KiB. */
export const TABLES = { gdt: 0x500, pml4: 0x2000, pdpt: 0x3000, pd: 0x4000 } as const

/** Selectors of the GDT that `enterProtected` and `enterLong` install. */
export const SELECTOR = { code16: 0x08, code32: 0x10, data: 0x18, code64: 0x20 } as const

const GDT = [
  0n,
  0x00009b000000ffffn,
  0x00cf9b000000ffffn,
  0x00cf93000000ffffn,
  0x00af9b000000ffffn,
] as const

const SEGMENT_BYTES = 24
/** Order of the segments in `kvm_sregs`. */
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const
const GDT_OFFSET = SEGMENTS.length * SEGMENT_BYTES
const CR0 = GDT_OFFSET + 32
const CR3 = CR0 + 16
const CR4 = CR0 + 24
const EFER = CR0 + 40

interface Flat {
  readonly selector: number
  readonly type: number
  readonly db: number
  readonly l: number
}

function putSegment(view: DataView, index: number, s: Flat): void {
  const at = index * SEGMENT_BYTES
  view.setBigUint64(at, 0n, true)
  view.setUint32(at + 8, 0xffffffff, true)
  view.setUint16(at + 12, s.selector, true)
  // type, present, dpl, db, s, l, g, avl, unusable
  const fields = [s.type, 1, 0, s.db, 1, s.l, 1, 0, 0]
  fields.forEach((value, i) => view.setUint8(at + 14 + i, value))
}

function write(vm: Vm, gpa: number, words: readonly bigint[]): void {
  const bytes = new DataView(new ArrayBuffer(words.length * 8))
  words.forEach((word, i) => bytes.setBigUint64(i * 8, word, true))
  vm.memory.write(gpa, new Uint8Array(bytes.buffer))
}

function flat(vcpu: Vcpu, code: Flat): DataView {
  const sregs = vcpu.getSregs()
  const view = new DataView(sregs.buffer, sregs.byteOffset, sregs.byteLength)
  putSegment(view, 0, code)
  const data: Flat = { selector: SELECTOR.data, type: 3, db: 1, l: 0 }
  for (let i = 1; i <= 5; i++) putSegment(view, i, data)
  view.setBigUint64(GDT_OFFSET, BigInt(TABLES.gdt), true)
  view.setUint16(GDT_OFFSET + 8, GDT.length * 8 - 1, true)
  return view
}

function enter(vcpu: Vcpu, view: DataView, rip: number, rsp: number): void {
  vcpu.setSregs(new Uint8Array(view.buffer, view.byteOffset, view.byteLength))
  const regs = new BigUint64Array(18)
  regs[6] = BigInt(rsp)
  regs[16] = BigInt(rip)
  regs[17] = 2n
  vcpu.setRegs(regs)
}

/** Real mode with all segments at 0, at `rip`. */
export function enterReal(vcpu: Vcpu, rip: number, rsp = 0xf000): void {
  const sregs = vcpu.getSregs()
  const view = new DataView(sregs.buffer, sregs.byteOffset, sregs.byteLength)
  for (let i = 0; i <= 5; i++) {
    view.setBigUint64(i * SEGMENT_BYTES, 0n, true)
    view.setUint16(i * SEGMENT_BYTES + 12, 0, true)
  }
  enter(vcpu, view, rip, rsp)
}

/** 32-bit protected mode, flat segments, no paging. Writes a GDT at `TABLES.gdt`. */
export function enterProtected(vm: Vm, vcpu: Vcpu, rip: number, rsp = 0xf000): void {
  write(vm, TABLES.gdt, GDT)
  const view = flat(vcpu, { selector: SELECTOR.code32, type: 11, db: 1, l: 0 })
  view.setBigUint64(CR0, 0x11n, true)
  enter(vcpu, view, rip, rsp)
}

/**
 * 64-bit mode at CPL 0; the first GiB is mapped to itself with 2 MiB pages. Writes a GDT and page
 * tables at `TABLES`.
 */
export function enterLong(vm: Vm, vcpu: Vcpu, rip: number, rsp = 0xf000): void {
  write(vm, TABLES.gdt, GDT)
  write(vm, TABLES.pml4, [BigInt(TABLES.pdpt) | 3n])
  write(vm, TABLES.pdpt, [BigInt(TABLES.pd) | 3n])
  write(
    vm,
    TABLES.pd,
    Array.from({ length: 512 }, (_, i) => (BigInt(i) << 21n) | 0x83n),
  )
  const view = flat(vcpu, { selector: SELECTOR.code64, type: 11, db: 0, l: 1 })
  view.setBigUint64(CR0, 0x8000_0011n, true)
  view.setBigUint64(CR3, BigInt(TABLES.pml4), true)
  view.setBigUint64(CR4, 0x20n, true)
  view.setBigUint64(EFER, 0x500n, true)
  enter(vcpu, view, rip, rsp)
}
