import type { PciBus } from '../chipset/pci/bus.ts'
import type { PciFunction } from '../chipset/pci/function.ts'

/** Where a device of PCI is. */
export interface PlugPlace {
  /** As `bus=` has it. */
  readonly busName: string
  readonly bus: PciBus
  readonly slot: number
  readonly functionNumber: number
  readonly fn: PciFunction
}

/** What plugging in leaves behind, until the device is taken out again. */
export interface PlugLife {
  /** The machine runs already: its guest is told. */
  readonly isHotplugged: boolean
  /** A function of the device is on a bus. */
  placed(place: PlugPlace): void
  /** The guest has let go of a slot: what is in it and can be taken out is. */
  slotReleased(bus: PciBus, slot: number): void
}
