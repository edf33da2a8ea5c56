import { SLP_TYP_S3, SLP_TYP_S5 } from '../../chipset/acpi-pm.ts'
import type { AcpiHotplugTree } from '../../chipset/pci/acpi-hotplug.ts'
import type { ConfigWindowPlace } from '../../chipset/pci/mch.ts'
import type { BoardKind } from '../machine-type.ts'
import type { CpuTopology } from '../topology.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { cpuDevices, cpuHotplugEvent } from './cpu-hotplug.ts'
import { hotplugEvent } from './pci-hotplug.ts'
import { i440fxRoot } from './dsdt-i440fx.ts'
import { interruptMode, q35Root } from './dsdt-q35.ts'
import { timerBlock } from './isa-devices.ts'
import type { IsaConfig } from './isa-devices.ts'
import type { HpetPlace } from './tables.ts'

/** What of the machine the table describes. */
export interface DsdtConfig extends IsaConfig {
  board: BoardKind
  topology: CpuTopology
  pciHoleStart: number
  /** The window for PCI memory above 4 GiB. */
  pciHole64?: { start: number; end: number }
  /** Whether there is suspend to RAM, as there is by default. */
  suspend?: boolean
  /** The timer block, where there is one. */
  hpet?: HpetPlace
  /** Where configuration space is in memory. */
  configWindow?: ConfigWindowPlace
  /** Slots that ACPI fills and empties while the machine runs; absent where it does that to none. */
  hotplug?: AcpiHotplugTree
}

/** The last table that was made, and of what. */
let last: { key: string; body: Uint8Array } | undefined

/**
 * The body of the DSDT: PCI root with its interrupt routing, ISA devices, CPUs, soft-off. A machine at its start needs the
 * same one for its firmware and for a kernel that is loaded without, and to make it takes as long as much of the rest.
 *
 * @returns bytes that nobody may change
 */
export function createDsdt(config: DsdtConfig): Uint8Array {
  const key = JSON.stringify(config)
  if (last?.key !== key) last = { key, body: encode(config) }
  return last.body
}

function encode(config: DsdtConfig): Uint8Array {
  const isQ35 = config.board === 'q35'
  return Uint8Array.from([
    ...(config.suspend === false ? [] : sleepState('\\_S3', SLP_TYP_S3)),
    ...sleepState('\\_S5', SLP_TYP_S5),
    ...(isQ35 ? interruptMode() : []),
    ...aml.scope(
      '\\_SB',
      ...(isQ35 ? q35Root(config) : i440fxRoot(config)),
      ...(config.hpet === undefined ? [] : [timerBlock(config.hpet.base)]),
      cpuDevices(config.topology),
    ),
    ...(config.hotplug === undefined ? [] : hotplugEvent()),
    ...cpuHotplugEvent(),
  ])
}

function sleepState(name: string, type: number): Aml {
  return aml.name(name, aml.pkg(aml.int(type), aml.int(type), aml.int(0), aml.int(0)))
}
