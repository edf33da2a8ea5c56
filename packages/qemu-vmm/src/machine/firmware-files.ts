import { SLP_TYP_S3 } from '../chipset/acpi-pm.ts'
import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import { createDsdt } from './acpi/dsdt.ts'
import type { DsdtConfig } from './acpi/dsdt.ts'
import {
  CHECKSUM_AT,
  POINTERS,
  dsdt,
  facs,
  fadt,
  hpet,
  madt,
  mcfg,
  rsdp,
  rsdt,
  xsdt,
} from './acpi/tables.ts'
import type { TableConfig } from './firmware-tables.ts'
import { createSmbios } from './smbios/create.ts'
import type { SmbiosConfig } from './smbios/config.ts'
import { TableLoader } from './table-loader.ts'

const TABLES_FILE = 'etc/acpi/tables'
const RSDP_FILE = 'etc/acpi/rsdp'
const LOADER_FILE = 'etc/table-loader'
const RSDP_CHECKSUMS = [8, 32] as const
const TABLES_ALIGNMENT = 64
const RSDP_ALIGNMENT = 16
const SLEEP_STATES = 6
const SLEEP_STATE_SUPPORTED = 0x80

/** The files of ACPI tables, which firmware asks for when it has set up the machine. */
export const ACPI_FILES: readonly string[] = [TABLES_FILE, RSDP_FILE, LOADER_FILE]

/** What firmware passes on to the guest beside ACPI tables: SMBIOS structures, sleep states. */
export function firmwareFiles(config: SmbiosConfig & Pick<DsdtConfig, 'suspend'>): FwCfgFile[] {
  return [...smbiosFiles(config), { name: 'etc/system-states', data: states(config) }]
}

/**
 * The tables in one file, in which addresses are offsets until the loader's program has added
 * the file's address to them.
 */
export function acpiFiles(config: TableConfig): FwCfgFile[] {
  const loader = new TableLoader()
  loader.allocate(RSDP_FILE, RSDP_ALIGNMENT, 'fseg')
  loader.allocate(TABLES_FILE, TABLES_ALIGNMENT, 'high')
  const parts: Uint8Array[] = []
  let next = 0
  const place = (table: Uint8Array): number => {
    const at = next
    parts.push(table)
    next += table.length
    return at
  }
  const fixPointers = (at: number, pointers: readonly { at: number; size: 4 | 8 }[]): void => {
    for (const { at: offset, size } of pointers) {
      loader.addPointer(TABLES_FILE, at + offset, size, TABLES_FILE)
    }
  }
  // UEFI firmware takes the sum with what is in the field, which has to be zero.
  const checksum = (at: number, table: Uint8Array): void => {
    table[CHECKSUM_AT] = 0
    loader.addChecksum(TABLES_FILE, at + CHECKSUM_AT, at, table.length)
  }
  // Its contents must be aligned to 64 bytes: it is the first.
  const facsAt = place(facs())
  const dsdtAt = place(dsdt(createDsdt(config)))
  const fadtTable = fadt(facsAt, dsdtAt, config)
  const fadtAt = place(fadtTable)
  fixPointers(fadtAt, POINTERS.fadt)
  checksum(fadtAt, fadtTable)
  const tables = [fadtAt, place(madt(config))]
  if (config.hpet !== undefined) tables.push(place(hpet(config.hpet)))
  if (config.configWindow !== undefined) tables.push(place(mcfg(config.configWindow)))
  for (const table of config.acpiTables ?? []) tables.push(place(table))
  const roots = [rsdt(tables, config.oem), xsdt(tables, config.oem)] as const
  const rootAt = roots.map(place) as [number, number]
  for (const [i, kind] of (['rsdt', 'xsdt'] as const).entries()) {
    fixPointers(rootAt[i]!, POINTERS[kind](tables.length))
    checksum(rootAt[i]!, roots[i]!)
  }
  for (const { at, size } of POINTERS.rsdp) loader.addPointer(RSDP_FILE, at, size, TABLES_FILE)
  const root = rsdp(...rootAt)
  for (const at of RSDP_CHECKSUMS) root[at] = 0
  loader.addChecksum(RSDP_FILE, 8, 0, 20)
  loader.addChecksum(RSDP_FILE, 32, 0, 36)
  return [
    { name: RSDP_FILE, data: root },
    { name: TABLES_FILE, data: Buffer.concat(parts) },
    { name: LOADER_FILE, data: loader.bytes() },
  ]
}

/**
 * The same files with other contents in the same lengths: zeros behind the last table are none, and a
 * command of zeros does nothing.
 */
export function rebuilt(before: readonly FwCfgFile[], now: readonly FwCfgFile[]): FwCfgFile[] {
  return before.map(({ name, data }) => {
    const padded = new Uint8Array(data.length)
    padded.set(now.find((file) => file.name === name)?.data ?? [])
    return { name, data: padded }
  })
}

/** Firmware describes itself, in a structure of its own, and places the table. */
function smbiosFiles(config: SmbiosConfig): FwCfgFile[] {
  const { entryPoint, table } = createSmbios(config, 0, { describesFirmware: false })
  return [
    { name: 'etc/smbios/smbios-anchor', data: entryPoint },
    { name: 'etc/smbios/smbios-tables', data: table },
  ]
}

/** For S0 to S5 the sleep type, and whether there is one: the machine sleeps in S3 and S5. */
function states({ suspend = true }: Pick<DsdtConfig, 'suspend'>): Uint8Array {
  const data = new Uint8Array(SLEEP_STATES)
  data[0] = SLEEP_STATE_SUPPORTED
  data[3] = (suspend ? SLEEP_STATE_SUPPORTED : 0) | SLP_TYP_S3
  data[5] = SLEEP_STATE_SUPPORTED
  return data
}
