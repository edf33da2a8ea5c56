import type { GuestMemory } from 'kvm-core'

import type { AcpiCpuHotplug, CpuSlots } from '../chipset/acpi-cpu-hotplug.ts'
import type { AcpiPm, AcpiPmActions, AcpiPmKind } from '../chipset/acpi-pm.ts'
import type { AtaBus } from '../chipset/ide/bus.ts'
import type { PiixIde } from '../chipset/ide/piix-ide.ts'
import type { AcpiPciHotplug } from '../chipset/pci/acpi-hotplug.ts'
import type { PciHost } from '../chipset/pci/host.ts'
import type { ConfigWindowPlace } from '../chipset/pci/mch.ts'
import type { SendMessage } from '../chipset/pci/msix.ts'
import type { ShadowControl } from '../chipset/pci/pam.ts'
import type { PciWindow } from '../chipset/pci/assign.ts'
import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import type { SmmControl } from '../chipset/smm.ts'
import type { Clock, Stateful } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { Bus } from './bus.ts'
import type { IrqLines } from './irq.ts'

/** What a chipset is built from. */
export interface ChipsetParts {
  bus: Bus
  irqs: IrqLines
  clock: Clock
  memory: GuestMemory
  sendMessage: SendMessage
  cpus: CpuSlots
  shadow?: ShadowControl
  /** Absent on a machine without system management mode. */
  smm?: SmmControl
  /** The mode may have the RAM around the first SMBASE to itself (q35). */
  smbaseSmram: boolean
  /** The machine has ACPI: tables, and what they tell of. */
  hasAcpi: boolean
  /** Slots of PCI Express are ACPI's to fill and empty, rather than their ports'. */
  portsByAcpi: boolean
  actions: AcpiPmActions
}

/** Processors come and go by ACPI. */
export function needsAcpi(): VmmError {
  return new VmmError('E_HOTPLUG', 'CPU hotplug is not supported without ACPI; leave out acpi=off')
}

/** A processor comes, or is to go. */
export type CpuChange = 'hotplug' | 'hot-unplug'

/** Host bridge, south bridge, and what is in them: where the two boards differ. */
export interface Chipset {
  readonly pci: PciHost
  /** As `bus=` names the first bus. */
  readonly pciBusName: string
  /** Hot-plug of buses, where ACPI has it: the first, or those behind ports of PCI Express. */
  readonly acpiHotplug?: AcpiPciHotplug
  readonly cpuHotplug: AcpiCpuHotplug
  /** Throws `E_HOTPLUG` where the firmware stands in the way of a change of processors. */
  checkCpuHotplug?(change: CpuChange): void
  readonly pm: AcpiPm
  readonly pmKind: AcpiPmKind
  /** Ports of the power management registers and of general-purpose events, as firmware has put them. */
  pmPorts(): { pmPort: number; gpe0Port: number }
  /** Where disks are plugged in that name no controller. */
  readonly ataBuses: readonly AtaBus[]
  /** The IDE controller whose disks firmware is told of. */
  readonly ide?: PiixIde
  /** What is reset, saved and loaded with the board, beside PCI functions. */
  readonly devices: readonly (readonly [string, Stateful])[]
  /** What firmware is told of it. */
  readonly fwCfgFiles: readonly FwCfgFile[]
  /** Where configuration space is in memory now. */
  configWindow(): ConfigWindowPlace | undefined
  /** Programs what firmware programs before it starts a kernel. `hole` is the window for PCI memory. */
  setUp(hole: PciWindow): void
  /** PCI was reset with the processors: firmware below 1 MiB is what is in the chip. */
  hideRam(): void
  /** The machine goes on: sends what was held back. */
  resume(): void
}

/** The I/O APIC and what is behind it begin here. */
export const PCI_HOLE_END = 0xfec0_0000
export const SCI_GSI = 9
/** Where SeaBIOS and we put the ACPI registers. */
export const PM_BASE_PORT = 0x600
