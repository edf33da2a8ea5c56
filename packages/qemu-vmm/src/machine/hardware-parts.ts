import type { BootImage } from '../boot/loader.ts'
import { openBootImage } from '../boot/open.ts'
import { runsFirmware } from './runs-firmware.ts'
import type { OstReport } from '../chipset/acpi-cpu-hotplug.ts'
import type { Entropy } from '../device.ts'
import { Netdevs } from '../net/netdevs.ts'
import { ObjectRegistry } from '../objects/registry.ts'
import { assembleVm } from './assemble.ts'
import type { VmHandles } from './assemble.ts'
import type { MachineConfig } from './config.ts'
import type { CpuPlaces } from './cpu-places.ts'
import type { DeletedDevice } from './device-tree.ts'
import type { MemoryMap } from './memory-map.ts'
import type { BoardActions } from './pc.ts'
import type { RunLoopActions } from './run-loop.ts'

/** What the hardware asks of the machine around it. */
export interface HardwareRequests extends Omit<RunLoopActions, 'nowMs' | 'ioevent'>, BoardActions {
  /** The guest's kernel has died, and another one takes over to dump it. */
  crashLoaded(): void
  /** A custom device ends the machine with this status. */
  exit(code: number): void
  /** A device that was plugged in is gone. */
  deleted(device: DeletedDevice): void
  /** The guest has said what it made of an event of a processor. */
  ost(report: OstReport): void
  /** Bytes that the guest has left itself. */
  balloonChanged(actual: number): void
}

/** What hardware opens before it has a board. */
export interface OpenParts {
  /** The kernel; without one the firmware runs. */
  boot: BootImage | undefined
  networks: Netdevs
  objects: ObjectRegistry
  handles: VmHandles
}

/** Opens all of it. Throws what one of them throws; the others are closed then. */
export function openParts(
  config: MachineConfig,
  map: MemoryMap,
  places: CpuPlaces,
  entropy: Entropy,
  log: (message: string) => void,
): OpenParts {
  const { kernel } = config
  const boot =
    kernel === undefined || runsFirmware(config) ? undefined : openBootImage({ ...config, kernel })
  const networks = new Netdevs({ entropy, log })
  let objects: ObjectRegistry | undefined
  try {
    for (const netdev of config.netdevs ?? []) networks.add(netdev)
    objects = new ObjectRegistry(config.objects ?? [], entropy, networks)
    return { boot, networks, objects, handles: assembleVm(config, map, places, log) }
  } catch (error) {
    objects?.close()
    networks.close()
    boot?.close()
    throw error
  }
}
