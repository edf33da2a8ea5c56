import type { CpuidEntry } from 'kvm-core'

import { HPET_BASE } from '../chipset/hpet/hpet.ts'
import { PCI_CLASS_DEVICE } from '../chipset/pci/config-space.ts'
import { VmmError } from '../errors.ts'
import { createDsdt } from './acpi/dsdt.ts'
import type { DsdtConfig } from './acpi/dsdt.ts'
import { dsdt, facs, fadt, hpet, madt, mcfg, rsdp, rsdt, xsdt } from './acpi/tables.ts'
import type { FadtConfig, MadtConfig } from './acpi/tables.ts'
import { licenceOem } from './acpi/user-tables.ts'
import type { CpuPlaces } from './cpu-places.ts'
import { BIOS_STUBS_GPA } from './firmware-chips.ts'
import type { MachineConfig } from './config.ts'
import { highWindow } from './pci-hole.ts'
import { machineKind } from './machine-type.ts'
import { HIGH_RAM_START, TABLES_END, TABLES_START } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import { createSmbios } from './smbios/create.ts'
import { NIL_UUID } from './uuid.ts'
import type { SmbiosConfig } from './smbios/config.ts'

/** Bytes that firmware would have left in memory. */
export interface FirmwareTables {
  /** 0 on a machine without ACPI. */
  rsdpGpa: number
  /** Where the table is that has the waking vector; 0 without ACPI. */
  facsGpa: number
  /** Everything, ready to be written at `gpa`. */
  gpa: number
  bytes: Uint8Array
}

const CLASS_DISPLAY = 0x03
const CPUID_SIGNATURE = 1

/** Tables that are passed on as they are. */
export interface UserTables {
  /** Whether there is ACPI at all, as by default. */
  hasAcpi?: boolean
  acpiTables?: readonly Uint8Array[]
}

/** Everything that tables are made from. */
export type TableConfig = DsdtConfig & FadtConfig & SmbiosConfig & MadtConfig & UserTables

/** What the tables say about a machine. */
export function tableConfig(parts: {
  board: PcBoard
  config: MachineConfig
  map: MemoryMap
  places: CpuPlaces
  /** What processors say of themselves. */
  cpuid: readonly CpuidEntry[]
}): TableConfig {
  const { board, config, map, places, cpuid } = parts
  const { chipset } = board
  const kind = machineKind(config.machine)
  const configWindow = chipset.configWindow()
  const pciHole64 = highWindow(board.pci, map.pciHole64)
  const signature = cpuid.find((leaf) => leaf.function === CPUID_SIGNATURE)
  const hotplug = chipset.acpiHotplug?.describe()
  return {
    board: kind.board,
    pmKind: chipset.pmKind,
    ...chipset.pmPorts(),
    ...(configWindow === undefined ? {} : { configWindow }),
    ...(hotplug === undefined ? {} : { hotplug }),
    ...(board.hpet === undefined ? {} : { hpet: { id: board.hpet.id, base: HPET_BASE } }),
    topology: places.topology,
    presentCpus: places.present,
    pciHoleStart: map.pciHoleStart,
    ...(pciHole64 === undefined ? {} : { pciHole64 }),
    hasDisplay: hasDisplay(board),
    isaDevices: board.isaDevices,
    suspend: config.machine?.options?.suspend ?? true,
    machine: kind.name,
    product: kind.product,
    uuid: config.uuid ?? NIL_UUID,
    memoryBytes: map.memoryBytes,
    ram: ramOf(map),
    ...(signature === undefined ? {} : { cpuId: signature }),
    smbios: config.smbios ?? [],
    hasAcpi: config.machine?.options?.acpi ?? true,
    acpiTables: config.acpiTables ?? [],
    oem: licenceOem(config.acpiTables ?? []),
  }
}

/** All RAM, with what is covered below 1 MiB. */
export function ramOf({ lowRamEnd, highRamBytes }: MemoryMap): { gpa: number; size: number }[] {
  const low = { gpa: 0, size: lowRamEnd }
  return highRamBytes === 0 ? [low] : [low, { gpa: HIGH_RAM_START, size: highRamBytes }]
}

/** Whether a function of the PCI bus is of the class of display adapters. */
function hasDisplay(board: PcBoard): boolean {
  return [...board.pci.functions()].some(
    ({ fn }) => fn.config.data[PCI_CLASS_DEVICE + 1] === CLASS_DISPLAY,
  )
}

/** ACPI and SMBIOS tables laid out in the BIOS segment, where guests that are not told look. */
export function createFirmwareTables(config: TableConfig): FirmwareTables {
  const bytes = new Uint8Array(TABLES_END - TABLES_START)
  let next = TABLES_START
  const place = (table: Uint8Array, alignment = 16): number => {
    const gpa = Math.ceil(next / alignment) * alignment
    if (gpa + table.length > BIOS_STUBS_GPA) {
      throw new VmmError(
        'E_CONFIG',
        `the firmware tables need more than ${BIOS_STUBS_GPA - TABLES_START} bytes; ` +
          'use fewer CPUs, devices or tables',
      )
    }
    bytes.set(table, gpa - TABLES_START)
    next = gpa + table.length
    return gpa
  }
  // Pointers go backwards: what is pointed to is placed first. Entry points come first in memory
  // so that a scan finds them soon; their contents follow when the addresses are known.
  const entryPointGpa = place(new Uint8Array(31))
  const acpi =
    config.hasAcpi === false ? { rsdpGpa: 0, facsGpa: 0 } : placeAcpi(config, place, bytes)
  const tableGpa = Math.ceil(next / 16) * 16
  const smbios = createSmbios(config, tableGpa)
  place(smbios.table)
  bytes.set(smbios.entryPoint, entryPointGpa - TABLES_START)
  return { ...acpi, gpa: TABLES_START, bytes: bytes.slice(0, next - TABLES_START) }
}

/** Places the ACPI tables in `bytes`, which begin at {@link TABLES_START}. */
function placeAcpi(
  config: TableConfig,
  place: (table: Uint8Array, alignment?: number) => number,
  bytes: Uint8Array,
): Pick<FirmwareTables, 'rsdpGpa' | 'facsGpa'> {
  const rsdpGpa = place(new Uint8Array(36))
  const facsGpa = place(facs(), 64)
  const dsdtGpa = place(dsdt(createDsdt(config)))
  const tables = [place(fadt(facsGpa, dsdtGpa, config)), place(madt(config))]
  if (config.hpet !== undefined) tables.push(place(hpet(config.hpet)))
  if (config.configWindow !== undefined) tables.push(place(mcfg(config.configWindow)))
  for (const table of config.acpiTables ?? []) tables.push(place(table))
  const rsdtGpa = place(rsdt(tables, config.oem))
  const xsdtGpa = place(xsdt(tables, config.oem))
  bytes.set(rsdp(rsdtGpa, xsdtGpa), rsdpGpa - TABLES_START)
  return { rsdpGpa, facsGpa }
}
