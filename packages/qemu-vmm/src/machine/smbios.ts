import { Table } from './acpi/tables.ts'
import type { CpuTopology } from './topology.ts'

const MIB = 1 << 20
const MANUFACTURER = 'QEMU'
/** Firmware that serves the same boots carries this date; guests compare its year with cut-offs. */
const FIRMWARE_DATE = '04/01/2014'
const HANDLE_SYSTEM = 0x0100
const HANDLE_CHASSIS = 0x0300
const HANDLE_PROCESSOR = 0x0400
const HANDLE_ARRAY = 0x1000
const HANDLE_MODULE = 0x1100
const HANDLE_MAPPING = 0x1300

/** Facts about the machine that SMBIOS shows. */
export interface SmbiosConfig {
  machine: string
  /** Product name of the system. */
  product: string
  uuid: string
  memoryBytes: number
  topology: CpuTopology
}

interface Structure {
  type: number
  handle: number
  length: number
  strings: string[]
  fill(table: Table): void
}

/**
 * SMBIOS 2.8 (DSP0134): the 31-byte entry point and the structure table it points to.
 * @param tableGpa where the caller will put the structure table.
 * @param options `describesFirmware`: with structure 0, which real firmware makes for itself
 */
export function createSmbios(
  config: SmbiosConfig,
  tableGpa: number,
  { describesFirmware = true }: { describesFirmware?: boolean } = {},
): { entryPoint: Uint8Array; table: Uint8Array } {
  const structures = describe(config).filter(({ type }) => type !== 0 || describesFirmware)
  const encoded = structures.map(encode)
  const table = Uint8Array.from(encoded.flatMap((bytes) => [...bytes]))
  const entryPoint = new Table(31)
    .text(0, '_SM_')
    .u8(5, 31)
    .u8(6, 2)
    .u8(7, 8)
    .u16(8, Math.max(...encoded.map((bytes) => bytes.length)))
    .text(16, '_DMI_')
    .u16(22, table.length)
    .u32(24, tableGpa)
    .u16(28, structures.length)
    .u8(30, 0x28)
    .checksum(21, 16, 31)
    .checksum(4)
  return { entryPoint: entryPoint.bytes, table }
}

function encode(structure: Structure): Uint8Array {
  const strings = structure.strings.length === 0 ? '\0\0' : `${structure.strings.join('\0')}\0\0`
  const table = new Table(structure.length + strings.length)
  table.u8(0, structure.type).u8(1, structure.length).u16(2, structure.handle)
  structure.fill(table)
  return table.text(structure.length, strings).bytes
}

function describe(config: SmbiosConfig): Structure[] {
  return [
    {
      type: 0,
      handle: 0,
      length: 24,
      strings: ['qemu-vmm', config.machine, FIRMWARE_DATE],
      fill(t) {
        t.u8(4, 1).u8(5, 2).u16(6, 0xf000).u8(8, 3)
        // Characteristics are not supported; the second extension byte says virtual machine.
        t.u64(10, 0x08).u8(19, 0x1c).u8(20, 1).u8(21, 0).u8(22, 0xff).u8(23, 0xff)
      },
    },
    {
      type: 1,
      handle: HANDLE_SYSTEM,
      length: 27,
      strings: [MANUFACTURER, config.product, config.machine],
      fill(t) {
        t.u8(4, 1).u8(5, 2).u8(6, 3)
        t.bytes.set(uuidBytes(config.uuid), 8)
        t.u8(24, 6)
      },
    },
    {
      type: 3,
      handle: HANDLE_CHASSIS,
      length: 22,
      strings: [MANUFACTURER, config.machine],
      fill(t) {
        t.u8(4, 1).u8(5, 1).u8(6, 2).u8(9, 3).u8(10, 3).u8(11, 3).u8(12, 2)
      },
    },
    ...Array.from({ length: populatedSockets(config.topology) }, (_, i) => processor(config, i)),
    {
      type: 16,
      handle: HANDLE_ARRAY,
      length: 23,
      strings: [],
      fill(t) {
        const kib = Math.ceil(config.memoryBytes / 1024)
        const large = kib >= 0x8000_0000
        t.u8(4, 1)
          .u8(5, 3)
          .u8(6, 6)
          .u32(7, large ? 0x8000_0000 : kib)
        t.u16(11, 0xfffe)
          .u16(13, 1)
          .u64(15, large ? config.memoryBytes : 0)
      },
    },
    memoryModule(config),
    {
      type: 19,
      handle: HANDLE_MAPPING,
      length: 31,
      strings: [],
      fill(t) {
        const lastKib = Math.ceil(config.memoryBytes / 1024) - 1
        const large = lastKib > 0xffff_fffe
        t.u32(4, large ? 0xffff_ffff : 0).u32(8, large ? 0xffff_ffff : lastKib)
        t.u16(12, HANDLE_ARRAY).u8(14, 1)
        t.u64(15, 0).u64(23, large ? config.memoryBytes - 1 : 0)
      },
    },
    { type: 32, handle: 0x2000, length: 11, strings: [], fill() {} },
    { type: 127, handle: 0x7f00, length: 4, strings: [], fill() {} },
  ]
}

/** Processors fill the sockets one after the other. */
function populatedSockets({ cpus, dies, cores, threads }: CpuTopology): number {
  return Math.ceil(cpus / (dies * cores * threads))
}

/** One socket: the counts saturate at 255, from where the 16-bit ones count on. */
function processor(config: SmbiosConfig, index: number): Structure {
  const { dies, cores, threads } = config.topology
  const coreCount = dies * cores
  const threadCount = coreCount * threads
  return {
    type: 4,
    handle: HANDLE_PROCESSOR + index,
    length: 42,
    strings: [`CPU ${index}`, MANUFACTURER, config.machine],
    fill(t) {
      t.u8(4, 1).u8(5, 3).u8(6, 1).u8(7, 2).u8(16, 3)
      // Populated and enabled; upgrade "other"; no cache handles.
      t.u8(24, 0x41).u8(25, 1).u16(26, 0xffff).u16(28, 0xffff).u16(30, 0xffff)
      t.u8(35, Math.min(coreCount, 255)).u8(36, Math.min(coreCount, 255))
      t.u8(37, Math.min(threadCount, 255)).u16(38, 0x02).u16(40, 0x01)
    },
  }
}

function memoryModule(config: SmbiosConfig): Structure {
  return {
    type: 17,
    handle: HANDLE_MODULE,
    length: 40,
    strings: ['DIMM 0', MANUFACTURER],
    fill(t) {
      const mib = Math.ceil(config.memoryBytes / MIB)
      const large = mib >= 0x7fff
      t.u16(4, HANDLE_ARRAY).u16(6, 0xfffe).u16(8, 0xffff).u16(10, 0xffff)
      t.u16(12, large ? 0x7fff : mib)
        .u8(14, 9)
        .u8(16, 1)
        .u8(18, 7)
        .u16(19, 2)
      t.u8(23, 2).u32(28, large ? mib : 0)
    },
  }
}

const UUID = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/i

/** Whether text is a UUID in its usual form. */
export function isUuid(text: string): boolean {
  return UUID.test(text)
}

/** What a machine without a UUID shows: "not present" (DSP0134, 7.2.1). */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000'

/** SMBIOS stores the first three fields little-endian (DSP0134, 7.2.1). */
export function uuidBytes(text: string): Uint8Array {
  const hex = Buffer.from(text.replaceAll('-', ''), 'hex')
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
  return Uint8Array.from(order, (at) => hex[at] ?? 0)
}
