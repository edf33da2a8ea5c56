import { FW_CFG_ITEM, FW_CFG_PORT, FW_CFG_PORTS, FwCfg, little } from '../chipset/fw-cfg.ts'
import type { GuestMemory, Stateful } from '../device.ts'
import type { Bus } from './bus.ts'
import type { MachineConfig } from './config.ts'
import type { MemoryMap } from './memory-map.ts'
import { NIL_UUID, uuidBytes } from './smbios.ts'
import { apicId } from './topology.ts'
import type { CpuTopology } from './topology.ts'

const E820_BYTES = 20

/** Creates the firmware configuration device with what it tells about the machine. */
export function mapFwCfg(
  bus: Bus,
  memory: GuestMemory,
  { config, map, topology }: { config: MachineConfig; map: MemoryMap; topology: CpuTopology },
): Stateful {
  const commandLine = Buffer.from(`${config.append ?? ''}\0`)
  const items = new Map<number, Uint8Array>([
    [FW_CFG_ITEM.uuid, uuidBytes(config.uuid ?? NIL_UUID)],
    [FW_CFG_ITEM.ramSize, little(map.memoryBytes, 8)],
    [FW_CFG_ITEM.noGraphic, little(1, 2)],
    [FW_CFG_ITEM.cpus, little(topology.cpus, 2)],
    [FW_CFG_ITEM.bootMenu, little(0, 2)],
    // As on QEMU a bound for APIC ids, which is more than the CPUs where ids have gaps.
    [FW_CFG_ITEM.maxCpus, little(apicId(topology, topology.maxcpus - 1) + 1, 2)],
    [FW_CFG_ITEM.commandLineSize, little(commandLine.length, 4)],
    [FW_CFG_ITEM.commandLine, commandLine],
    [FW_CFG_ITEM.irq0Override, little(1, 4)],
  ])
  const files = [{ name: 'etc/e820', data: e820(map) }, ...(config.fwCfg ?? [])]
  const device = new FwCfg(memory, items, files)
  bus.pio.map({ name: 'fw-cfg', base: FW_CFG_PORT, len: FW_CFG_PORTS, handler: device })
  return device
}

/** Address, size and type of each entry. */
function e820(map: MemoryMap): Uint8Array {
  const table = new DataView(new ArrayBuffer(map.e820.length * E820_BYTES))
  for (const [i, { addr, size, type }] of map.e820.entries()) {
    table.setBigUint64(i * E820_BYTES, BigInt(addr), true)
    table.setBigUint64(i * E820_BYTES + 8, BigInt(size), true)
    table.setUint32(i * E820_BYTES + 16, type, true)
  }
  return new Uint8Array(table.buffer)
}
