import type { CpuidEntry } from 'kvm-core'

import { firmwareKernel } from '../boot/firmware-kernel.ts'
import { FW_CFG_ITEM, FW_CFG_PORT, FW_CFG_PORTS, FwCfg, little } from '../chipset/fw-cfg.ts'
import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import { HPET_BASE } from '../chipset/hpet/hpet.ts'
import type { GuestMemory, Stateful } from '../device.ts'
import type { BootIndex } from './boot-index.ts'
import { bootFiles } from './boot-options.ts'
import type { MachineConfig } from './config.ts'
import type { CpuPlaces } from './cpu-places.ts'
import { ACPI_FILES, acpiFiles, firmwareFiles, rebuilt } from './firmware-files.ts'
import { tableConfig } from './firmware-tables.ts'
import type { TableConfig } from './firmware-tables.ts'
import { E820_RAM } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import { startsKernelByFirmware } from './runs-firmware.ts'
import { NIL_UUID, uuidBytes } from './uuid.ts'

const E820_BYTES = 20
const GIB4 = 0x1_0000_0000
/** In the middle of the window for PCI memory, where it is described in two parts. */
const WIDEST_WINDOW = { base: 0xe000_0000, size: 0x1000_0000 } as const

/** What of the machine firmware and guests are told. */
export interface FwCfgParts {
  config: MachineConfig
  map: MemoryMap
  places: CpuPlaces
  /** What processors say of themselves. */
  cpuid: readonly CpuidEntry[]
  bootIndex: BootIndex
  /** ROMs that the BIOS runs beside those in BARs. */
  optionRoms: readonly FwCfgFile[]
}

/** Creates the firmware configuration device with what it tells about the machine. */
export function mapFwCfg(board: PcBoard, memory: GuestMemory, parts: FwCfgParts): Stateful {
  const { config, map, places, cpuid, bootIndex, optionRoms } = parts
  const boot = config.boot ?? {}
  const commandLine = Buffer.from(`${config.append ?? ''}\0`)
  const maxCpus = places.apicIds.at(-1)! + 1
  const items = new Map<number, Uint8Array>([
    [FW_CFG_ITEM.uuid, uuidBytes(config.uuid ?? NIL_UUID)],
    [FW_CFG_ITEM.ramSize, little(map.memoryBytes, 8)],
    [FW_CFG_ITEM.noGraphic, little(config.machine?.options?.graphics === true ? 0 : 1, 2)],
    [FW_CFG_ITEM.cpus, little(places.present.length, 2)],
    [FW_CFG_ITEM.numa, numa(maxCpus)],
    [FW_CFG_ITEM.bootMenu, little(boot.menu === true ? 1 : 0, 2)],
    // As on QEMU a bound for APIC ids, which is more than the CPUs where ids have gaps.
    [FW_CFG_ITEM.maxCpus, little(maxCpus, 2)],
    [FW_CFG_ITEM.commandLineSize, little(commandLine.length, 4)],
    [FW_CFG_ITEM.commandLine, commandLine],
    [FW_CFG_ITEM.irq0Override, little(1, 4)],
    [FW_CFG_ITEM.hpet, timerBlocks(board)],
    ...kernelItems(config, map),
  ])
  const facts = { board, config, map, places, cpuid }
  const tables = (): TableConfig => tableConfig(facts)
  // What firmware sets up decides about some: these are as long as they can become.
  const most = board.kind === 'q35' ? { ...tables(), configWindow: WIDEST_WINDOW } : tables()
  const acpi = most.hasAcpi === false ? [] : acpiFiles(most)
  const files = [
    { name: 'etc/e820', data: e820(map) },
    { name: 'bootorder', data: bootIndex.file(boot.strict === true) },
    // No disk has a geometry of its own.
    { name: 'bios-geometry', data: new Uint8Array(0) },
    ...bootFiles(boot),
    ...optionRoms,
    ...acpi,
    ...firmwareFiles(tables()),
    ...board.chipset.fwCfgFiles,
    ...(config.fwCfg ?? []),
  ]
  const device = new FwCfg(memory, items, files, {
    names: acpi.length === 0 ? [] : ACPI_FILES,
    build: () => rebuilt(acpi, acpiFiles(tables())),
  })
  board.bus.pio.map({ name: 'fw-cfg', base: FW_CFG_PORT, len: FW_CFG_PORTS, handler: device })
  board.onCpuCount = (count) => device.setItem(FW_CFG_ITEM.cpus, little(count, 2))
  return device
}

function kernelItems(config: MachineConfig, map: MemoryMap): Map<number, Uint8Array> {
  const { kernel } = config
  if (kernel === undefined || !startsKernelByFirmware(config)) return new Map()
  return firmwareKernel({ ...config, kernel }, map)
}

const TIMER_BLOCKS = 8
const TIMER_BLOCK_BYTES = 15

/** The number of timer blocks, then for each one: identification, address, least ticks, protection. */
function timerBlocks({ hpet }: PcBoard): Uint8Array {
  const table = new Uint8Array(1 + TIMER_BLOCKS * TIMER_BLOCK_BYTES)
  if (hpet === undefined) return table
  table[0] = 1
  table.set(little(hpet.id, 4), 1)
  table.set(little(HPET_BASE, 8), 5)
  return table
}

/** The number of nodes, for each APIC id its node, for each node its memory: there are none. */
function numa(maxCpus: number): Uint8Array {
  return new Uint8Array(8 * (1 + maxCpus))
}

/** Address, size and type of RAM: what lies in it firmware decides. */
function e820({ lowRamEnd, highRamBytes }: MemoryMap): Uint8Array {
  const ranges = [
    { addr: 0, size: lowRamEnd },
    { addr: GIB4, size: highRamBytes },
  ].filter(({ size }) => size > 0)
  const table = new DataView(new ArrayBuffer(ranges.length * E820_BYTES))
  for (const [i, { addr, size }] of ranges.entries()) {
    table.setBigUint64(i * E820_BYTES, BigInt(addr), true)
    table.setBigUint64(i * E820_BYTES + 8, BigInt(size), true)
    table.setUint32(i * E820_BYTES + 16, E820_RAM, true)
  }
  return new Uint8Array(table.buffer)
}
