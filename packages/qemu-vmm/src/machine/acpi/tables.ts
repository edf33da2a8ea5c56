import type { AcpiPmKind } from '../../chipset/acpi-pm.ts'
import type { ConfigWindowPlace } from '../../chipset/pci/mch.ts'
import { apicId } from '../topology.ts'
import type { CpuTopology } from '../topology.ts'

/** Where fixed hardware registers are. */
export const SMI_COMMAND_PORT = 0xb2
export const RESET_PORT = 0xcf9
const RESET_VALUE = 0x0f
const SCI_GSI = 9
const CENTURY_CMOS = 0x32

const IOAPIC_ADDRESS = 0xfec0_0000
const LAPIC_ADDRESS = 0xfee0_0000
/** ISA interrupts that PCI links may use: level-triggered, active high. */
const LEVEL_IRQS = [5, 9, 10, 11] as const
const ISO_LEVEL_HIGH = 0x000d

// Identification as QEMU's tables have it, which guests use to recognise the platform.
const OEM_ID = 'BOCHS '
const OEM_TABLE_ID = 'BXPC    '
const CREATOR_ID = 'BXPC'

/** A table under construction. Offsets are those of the specification. */
export class Table {
  readonly bytes: Uint8Array
  readonly #view: DataView

  constructor(length: number) {
    this.bytes = new Uint8Array(length)
    this.#view = new DataView(this.bytes.buffer)
  }

  u8(at: number, value: number): this {
    this.#view.setUint8(at, value)
    return this
  }

  u16(at: number, value: number): this {
    this.#view.setUint16(at, value, true)
    return this
  }

  u32(at: number, value: number): this {
    this.#view.setUint32(at, value, true)
    return this
  }

  u64(at: number, value: number): this {
    return this.u32(at, value % 0x1_0000_0000).u32(at + 4, Math.floor(value / 0x1_0000_0000))
  }

  text(at: number, value: string): this {
    for (let i = 0; i < value.length; i++) this.bytes[at + i] = value.charCodeAt(i)
    return this
  }

  /** Makes the bytes from `start` to `end` add up to 0 modulo 256 through the byte at `at`. */
  checksum(at: number, start = 0, end: number = this.bytes.length): this {
    this.bytes[at] = 0
    let sum = 0
    for (let i = start; i < end; i++) sum += this.bytes[i]!
    this.bytes[at] = -sum & 0xff
    return this
  }
}

/** The header that all tables but the control structure have (ACPI 6.5, 5.2.6). */
export const HEADER_BYTES = 36
/** The checksum of a table with the standard header. */
export const CHECKSUM_AT = 9

interface Pointer {
  at: number
  size: 4 | 8
}

/** The fields that hold addresses of tables. The pointers to absent tables are zero, and left out. */
export const POINTERS: {
  readonly fadt: readonly Pointer[]
  readonly rsdp: readonly Pointer[]
  rsdt(tables: number): Pointer[]
  xsdt(tables: number): Pointer[]
} = {
  fadt: [
    { at: 36, size: 4 },
    { at: 40, size: 4 },
    { at: 140, size: 8 },
  ],
  rsdp: [
    { at: 16, size: 4 },
    { at: 24, size: 8 },
  ],
  rsdt: (tables) =>
    Array.from({ length: tables }, (_, i) => ({ at: HEADER_BYTES + 4 * i, size: 4 })),
  xsdt: (tables) =>
    Array.from({ length: tables }, (_, i) => ({ at: HEADER_BYTES + 8 * i, size: 8 })),
}

/** Whom a table names as its maker: 6 and 8 bytes. */
export interface TableOem {
  readonly id: string
  readonly tableId: string
}

const OEM: TableOem = { id: OEM_ID, tableId: OEM_TABLE_ID }

/** A description table with the standard header; `fill` writes the body before the checksum. */
function sdt(
  signature: string,
  revision: number,
  length: number,
  fill: (table: Table) => void,
  { id, tableId }: TableOem = OEM,
): Uint8Array {
  const table = new Table(length)
  table
    .text(0, signature)
    .u32(4, length)
    .u8(8, revision)
    .text(10, id)
    .text(16, tableId)
    .u32(24, 1)
    .text(28, CREATOR_ID)
    .u32(32, 1)
  fill(table)
  return table.checksum(CHECKSUM_AT).bytes
}

/** Wraps AML as a DSDT. Revision 1: integers are 32 bits wide. */
export function dsdt(body: Uint8Array): Uint8Array {
  return sdt('DSDT', 1, HEADER_BYTES + body.length, (t) => t.bytes.set(body, HEADER_BYTES))
}

/** The control structure that firmware and OS share. It has no checksum. */
export function facs(): Uint8Array {
  return new Table(64).text(0, 'FACS').u32(4, 64).bytes
}

const FADT_BYTES = 244
const FADT_WBINVD = 1 << 0
const FADT_PROC_C1 = 1 << 2
const FADT_SLEEP_BUTTON_ABSENT = 1 << 5
const FADT_RESET_REGISTER = 1 << 10
const BOOT_ARCH_LEGACY = 1 << 0
const BOOT_ARCH_8042 = 1 << 1
const BOOT_ARCH_NO_VGA = 1 << 2
const LATENCY_NONE = 0x0fff

/** What the fixed description table says about a machine. */
export interface FadtConfig {
  pmKind: AcpiPmKind
  /** Port of the power management registers, where firmware has put them. */
  pmPort: number
  /** Port of the general-purpose events. */
  gpe0Port: number
  /** There is a display adapter: guests may look for VGA. */
  hasDisplay?: boolean
  /** Who is to be named as its maker. */
  oem?: TableOem | undefined
}

/** The fixed description table, revision 3: the first with a reset register. */
export function fadt(facsGpa: number, dsdtGpa: number, config: FadtConfig): Uint8Array {
  const { pmKind, pmPort, gpe0Port, hasDisplay = false, oem } = config
  const flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLEEP_BUTTON_ABSENT | FADT_RESET_REGISTER
  const fill = (t: Table): void => {
    t.u32(36, facsGpa).u32(40, dsdtGpa)
    t.u8(44, 1).u16(46, SCI_GSI)
    t.u32(48, SMI_COMMAND_PORT).u8(52, pmKind.enable).u8(53, pmKind.disable)
    t.u32(56, pmPort)
      .u32(64, pmPort + 4)
      .u32(76, pmPort + 8)
    t.u32(80, gpe0Port)
    t.u8(88, 4)
      .u8(89, 2)
      .u8(91, 4)
      .u8(92, 2 * pmKind.gpeBytes)
    t.u16(96, LATENCY_NONE).u16(98, LATENCY_NONE)
    t.u8(108, CENTURY_CMOS)
    t.u16(109, BOOT_ARCH_LEGACY | BOOT_ARCH_8042 | (hasDisplay ? 0 : BOOT_ARCH_NO_VGA))
    t.u32(112, flags)
    ioAddress(t, 116, RESET_PORT, 8)
    t.u8(128, RESET_VALUE)
    // The 64-bit pointer to the control structure stays 0: only one of the two may be set.
    t.u64(140, dsdtGpa)
    ioAddress(t, 148, pmPort, 32)
    ioAddress(t, 172, pmPort + 4, 16)
    ioAddress(t, 208, pmPort + 8, 32)
    ioAddress(t, 220, gpe0Port, 16 * pmKind.gpeBytes)
  }
  return sdt('FACP', 3, FADT_BYTES, fill, oem)
}

/** A generic address structure in port space, without an access size: the width says it. */
function ioAddress(table: Table, at: number, port: number, bits: number): void {
  table
    .u8(at, 1)
    .u8(at + 1, bits)
    .u64(at + 4, port)
}

/** What the table of interrupt controllers says of processors. */
export interface MadtConfig {
  topology: CpuTopology
  /** Places with a processor; by default as many as there are at the start. */
  presentCpus?: readonly number[]
}

/**
 * The interrupt controllers: one local APIC for each place of a CPU, enabled where there is one,
 * one IOAPIC, the ISA overrides, NMI on LINT1.
 */
export function madt({ topology, presentCpus }: MadtConfig): Uint8Array {
  const entries: number[][] = []
  const u16 = (v: number): number[] => [v & 0xff, v >> 8]
  const u32 = (v: number): number[] => [...u16(v & 0xffff), ...u16(v >>> 16)]
  for (let index = 0; index < topology.maxcpus; index++) {
    const isPresent = presentCpus?.includes(index) ?? index < topology.cpus
    const enabled = isPresent ? 1 : 0
    entries.push([0, 8, index, apicId(topology, index), ...u32(enabled)])
  }
  entries.push([1, 12, 0, 0, ...u32(IOAPIC_ADDRESS), ...u32(0)])
  entries.push([2, 10, 0, 0, ...u32(2), ...u16(0)])
  for (const irq of LEVEL_IRQS) entries.push([2, 10, 0, irq, ...u32(irq), ...u16(ISO_LEVEL_HIGH)])
  entries.push([4, 6, 0xff, ...u16(0), 1])
  const body = entries.flat()
  return sdt('APIC', 1, HEADER_BYTES + 8 + body.length, (t) => {
    t.u32(36, LAPIC_ADDRESS).u32(40, 1)
    t.bytes.set(body, 44)
  })
}

/** What the tables say about the timer block. */
export interface HpetPlace {
  id: number
  base: number
}

const MCFG_BYTES = HEADER_BYTES + 8 + 16
const MIB_SHIFT = 20

/** Where configuration space is in memory: segment 0, as many buses as fit. */
export function mcfg({ base, size }: ConfigWindowPlace): Uint8Array {
  return sdt('MCFG', 1, MCFG_BYTES, (t) => {
    t.u64(44, base).u8(55, (size >> MIB_SHIFT) - 1)
  })
}

const HPET_TABLE_BYTES = HEADER_BYTES + 20

/** Where the timer block is, and what its identification register says (IA-PC HPET 1.0a, 3.2.4). */
export function hpet({ id, base }: HpetPlace): Uint8Array {
  return sdt('HPET', 1, HPET_TABLE_BYTES, (t) => {
    t.u32(36, id).u64(44, base)
  })
}

/** The root table with 32-bit pointers. */
export function rsdt(tables: readonly number[], oem?: TableOem): Uint8Array {
  const fill = (t: Table): void => {
    for (const [i, gpa] of tables.entries()) t.u32(HEADER_BYTES + 4 * i, gpa)
  }
  return sdt('RSDT', 1, HEADER_BYTES + 4 * tables.length, fill, oem)
}

/** The root table with 64-bit pointers. */
export function xsdt(tables: readonly number[], oem?: TableOem): Uint8Array {
  const fill = (t: Table): void => {
    for (const [i, gpa] of tables.entries()) t.u64(HEADER_BYTES + 8 * i, gpa)
  }
  return sdt('XSDT', 1, HEADER_BYTES + 8 * tables.length, fill, oem)
}

/** The root pointer, revision 2, with both root tables. */
export function rsdp(rsdtGpa: number, xsdtGpa: number): Uint8Array {
  const table = new Table(36)
    .text(0, 'RSD PTR ')
    .text(9, OEM_ID)
    .u8(15, 2)
    .u32(16, rsdtGpa)
    .u32(20, 36)
    .u64(24, xsdtGpa)
  return table.checksum(8, 0, 20).checksum(32).bytes
}
