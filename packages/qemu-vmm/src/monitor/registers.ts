import type { CpuInfo } from '../machine/config.ts'

// Offsets in `kvm_sregs`; a segment takes 24 bytes, a table register 16.
const SEGMENTS = { CS: 0, DS: 24, ES: 48, FS: 72, GS: 96, SS: 120, TR: 144, LDT: 168 } as const
const GDT = 192
const IDT = 208
const CR0 = 224
const CR2 = 232
const CR3 = 240
const CR4 = 248
const EFER = 264

// Offsets in `kvm_fpu`; the eight 16-byte stack registers come first.
const FCW = 128
const FSW = 130
const FTW = 132
const XMM = 152
const MXCSR = 408

// Offsets in `kvm_vcpu_events`.
const SHADOW = 11
const SMM = 24

const EFER_LMA = 1n << 10n
const GPRS = 'RAX RBX RCX RDX RSI RDI RBP RSP R8 R9 R10 R11 R12 R13 R14 R15'.split(' ')
/** Where `kvm_regs` keeps them: RSP stands before RBP there. */
const GPR_INDEX = [0, 1, 2, 3, 4, 5, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
const RIP = 16
const RFLAGS = 17

const SYSTEM_TYPES_32 = [
  'Reserved TSS16-avl LDT TSS16-busy CallGate16 TaskGate IntGate16 TrapGate16',
  'Reserved TSS32-avl Reserved TSS32-busy CallGate32 Reserved IntGate32 TrapGate32',
]
  .join(' ')
  .split(' ')
const SYSTEM_TYPES_64 = [
  '<hiword> Reserved LDT Reserved Reserved Reserved Reserved Reserved',
  'Reserved TSS64-avl Reserved TSS64-busy CallGate64 Reserved IntGate64 TrapGate64',
]
  .join(' ')
  .split(' ')

interface Segment {
  selector: number
  base: bigint
  limit: number
  type: number
  present: boolean
  dpl: number
  big: boolean
  system: boolean
  long: boolean
  /** The second word of the descriptor without base and limit. */
  flags: number
}

/** What says how addresses are translated. */
export interface ControlRegisters {
  cr0: bigint
  cr3: bigint
  cr4: bigint
  efer: bigint
}

export function controlRegisters({ sregs }: Pick<CpuInfo, 'sregs'>): ControlRegisters {
  const view = new DataView(sregs.buffer, sregs.byteOffset, sregs.byteLength)
  const [cr0, cr3, cr4, efer] = [CR0, CR3, CR4, EFER].map((at) => view.getBigUint64(at, true))
  return { cr0: cr0!, cr3: cr3!, cr4: cr4!, efer: efer! }
}

/** Registers in the layout of QEMU's `info registers`. */
export function formatRegisters(cpu: CpuInfo): string {
  const sregs = new DataView(cpu.sregs.buffer, cpu.sregs.byteOffset, cpu.sregs.byteLength)
  const cs = segment(sregs, SEGMENTS.CS)
  const lma = (sregs.getBigUint64(EFER, true) & EFER_LMA) !== 0n
  const lines = [
    ...generalLines(cpu, lma && cs.long, segment(sregs, SEGMENTS.SS).dpl),
    ...segmentLines(sregs, lma),
    controlLine(sregs, lma),
    ...debugLines(cpu.debugRegs),
    `EFER=${hex(sregs.getBigUint64(EFER, true), 16)}`,
    ...fpuLines(cpu.fpu, lma && cs.long ? 16 : 8),
  ]
  return lines.map((line) => `${line}\n`).join('')
}

function generalLines({ regs, halted, events }: CpuInfo, wide: boolean, cpl: number): string[] {
  const digits = wide ? 16 : 8
  const names = wide ? GPRS : GPRS.slice(0, 8).map((name) => `E${name.slice(1)}`)
  const values = names.map((name, i) => {
    const value = regs[GPR_INDEX[i] ?? 0] ?? 0n
    return `${name.padEnd(3)}=${hex(value, digits)}`
  })
  const flags = regs[RFLAGS] ?? 0n
  return [
    ...inLines(values, 4),
    `${wide ? 'RIP' : 'EIP'}=${hex(regs[RIP] ?? 0n, digits)} ` +
      `${wide ? 'RFL' : 'EFL'}=${hex(flags, 8)} [${flagLetters(flags)}] ` +
      // The A20 gate is always open.
      `CPL=${cpl} II=${events[SHADOW] ?? 0} A20=1 SMM=${events[SMM] ?? 0} HLT=${halted ? 1 : 0}`,
  ]
}

function flagLetters(flags: bigint): string {
  return 'D10 O11 S7 Z6 A4 P2 C0'
    .split(' ')
    .map((item) => ((flags >> BigInt(item.slice(1))) & 1n ? item.charAt(0) : '-'))
    .join('')
}

function segmentLines(sregs: DataView, lma: boolean): string[] {
  const pe = (sregs.getBigUint64(CR0, true) & 1n) !== 0n
  const baseDigits = lma ? 16 : 8
  const lines = (['ES', 'CS', 'SS', 'DS', 'FS', 'GS', 'LDT', 'TR'] as const).map((name) => {
    const s = segment(sregs, SEGMENTS[name])
    const head =
      `${name.padEnd(3)}=${hex(s.selector, 4)} ${hex(s.base, baseDigits)} ` +
      `${hex(s.limit, 8)} ${hex(s.flags, 8)}`
    return pe && s.present ? `${head} DPL=${s.dpl} ${describe(s, lma)}` : head
  })
  for (const [name, at] of [
    ['GDT', GDT],
    ['IDT', IDT],
  ] as const) {
    const base = hex(sregs.getBigUint64(at, true), baseDigits)
    lines.push(`${name}=     ${base} ${hex(sregs.getUint16(at + 8, true), 8)}`)
  }
  return lines
}

function describe(s: Segment, lma: boolean): string {
  if (s.system) return (lma ? SYSTEM_TYPES_64 : SYSTEM_TYPES_32)[s.type] ?? ''
  const bit = (mask: number, letter: string): string => (s.type & mask ? letter : '-')
  if (s.type & 8) {
    const size = s.long ? 'CS64' : s.big ? 'CS32' : 'CS16'
    return `${size} [${bit(4, 'C')}${bit(2, 'R')}${bit(1, 'A')}]`
  }
  return `${s.big || lma ? 'DS  ' : 'DS16'} [${bit(4, 'E')}${bit(2, 'W')}${bit(1, 'A')}]`
}

function controlLine(sregs: DataView, lma: boolean): string {
  const cr = (at: number, digits: number): string => hex(sregs.getBigUint64(at, true), digits)
  const wide = lma ? 16 : 8
  return `CR0=${cr(CR0, 8)} CR2=${cr(CR2, wide)} CR3=${cr(CR3, wide)} CR4=${cr(CR4, 8)}`
}

function debugLines(dr: BigUint64Array): string[] {
  const word = (i: number): string => hex(dr[i] ?? 0n, 16)
  return [
    `${[0, 1, 2, 3].map((i) => `DR${i}=${word(i)} `).join('')}`,
    `DR6=${word(4)} DR7=${word(5)}`,
  ]
}

function fpuLines(area: Uint8Array, xmmCount: number): string[] {
  const fpu = new DataView(area.buffer, area.byteOffset, area.byteLength)
  const fsw = fpu.getUint16(FSW, true)
  const top = (fsw >> 11) & 7
  const registers = Array.from({ length: 8 }, (_, i) => {
    // `kvm_fpu` counts from the top of the stack, this listing from register 0.
    const at = ((i - top) & 7) * 16
    const exponent = hex(fpu.getUint16(at + 8, true), 4)
    return `FPR${i}=${hex(fpu.getBigUint64(at, true), 16)} ${exponent}`
  })
  const vectors = Array.from({ length: xmmCount }, (_, i) => {
    const at = XMM + i * 16
    const high = hex(fpu.getBigUint64(at + 8, true), 16)
    return `XMM${String(i).padStart(2, '0')}=${high} ${hex(fpu.getBigUint64(at, true), 16)}`
  })
  return [
    `FCW=${hex(fpu.getUint16(FCW, true), 4)} FSW=${hex(fsw, 4)} [ST=${top}] ` +
      `FTW=${hex(fpu.getUint8(FTW), 2)} MXCSR=${hex(fpu.getUint32(MXCSR, true), 8)}`,
    ...inLines(registers, 2),
    ...inLines(vectors, 2),
  ]
}

function segment(sregs: DataView, at: number): Segment {
  const byte = (offset: number): number => sregs.getUint8(at + offset)
  const type = byte(14)
  const present = byte(15) !== 0
  const dpl = byte(16)
  const big = byte(17) !== 0
  const system = byte(18) === 0
  const long = byte(19) !== 0
  const usable = byte(22) === 0
  const flags =
    (type << 8) |
    (Number(!system) << 12) |
    (dpl << 13) |
    (Number(present) << 15) |
    (byte(21) << 20) |
    (Number(long) << 21) |
    (Number(big) << 22) |
    (byte(20) << 23)
  return {
    selector: sregs.getUint16(at + 12, true),
    base: sregs.getBigUint64(at, true),
    limit: sregs.getUint32(at + 8, true),
    type,
    present: present && usable,
    dpl,
    big,
    system,
    long,
    flags: usable ? flags >>> 0 : 0,
  }
}

function inLines(texts: readonly string[], perLine: number): string[] {
  const lines: string[] = []
  for (let i = 0; i < texts.length; i += perLine) lines.push(texts.slice(i, i + perLine).join(' '))
  return lines
}

function hex(value: bigint | number, digits: number): string {
  return BigInt.asUintN(digits * 4, BigInt(value))
    .toString(16)
    .padStart(digits, '0')
}
