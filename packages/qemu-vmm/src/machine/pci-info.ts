import { bridgeRanges } from '../chipset/pci/bridge-windows.ts'
import type { BridgeRanges } from '../chipset/pci/bridge-windows.ts'
import type { PciBus } from '../chipset/pci/bus.ts'
import {
  PCI_CLASS_DEVICE,
  PCI_DEVICE_ID,
  PCI_INTERRUPT_LINE,
  PCI_PRIMARY_BUS,
  PCI_SECONDARY_BUS,
  PCI_SUBORDINATE_BUS,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from '../chipset/pci/config-space.ts'
import type { PciFunction, PciRegion } from '../chipset/pci/function.ts'

/** A function of PCI as guests find it. Plain data. */
export interface PciFunctionInfo {
  bus: number
  slot: number
  functionNumber: number
  /** Base class and subclass. */
  classCode: number
  vendor: number
  device: number
  /** Absent of a bridge. */
  subsystem?: { vendor: number; device: number }
  /** 1 for INTA; 0 where it has none. */
  interruptPin: number
  /** What firmware has written there. */
  interruptLine: number
  /** Empty where it was given none. */
  id: string
  regions: PciRegion[]
  bridge?: PciBridgeInfo
}

export interface PciBridgeInfo extends BridgeRanges {
  primary: number
  secondary: number
  subordinate: number
  devices: PciFunctionInfo[]
}

/** What is on a bus, and behind its bridges. */
export function pciInfo(
  bus: PciBus,
  number: number,
  idOf: (fn: PciFunction) => string,
): PciFunctionInfo[] {
  return Array.from(bus.functions(), ({ slot, functionNumber, fn }) => {
    const { config } = fn
    const behind = fn.secondary?.bus
    const secondary = config.data[PCI_SECONDARY_BUS]!
    return {
      bus: number,
      slot,
      functionNumber,
      classCode: config.get16(PCI_CLASS_DEVICE),
      vendor: config.get16(PCI_VENDOR_ID),
      device: config.get16(PCI_DEVICE_ID),
      interruptPin: fn.interruptPin,
      interruptLine: config.data[PCI_INTERRUPT_LINE]!,
      id: idOf(fn),
      regions: fn.regions,
      ...(behind === undefined
        ? {
            subsystem: {
              vendor: config.get16(PCI_SUBSYSTEM_VENDOR_ID),
              device: config.get16(PCI_SUBSYSTEM_ID),
            },
          }
        : {
            bridge: {
              primary: config.data[PCI_PRIMARY_BUS]!,
              secondary,
              subordinate: config.data[PCI_SUBORDINATE_BUS]!,
              ...bridgeRanges(config),
              devices: pciInfo(behind, secondary, idOf),
            },
          }),
    }
  })
}
