import type { Device, IoHandler } from '../../device.ts'
import { parseState, u32 } from '../../machine/state.ts'
import { PciBus } from './bus.ts'
import type { PciBusState, PciPlace, PciRouting } from './bus.ts'
import { PCI_SECONDARY_BUS, PCI_SUBORDINATE_BUS } from './config-space.ts'
import type { PciFunction } from './function.ts'

export interface PciHostState {
  address: number
  functions: PciBusState
}

/**
 * PCI bus 0 with the ways to configuration space: mechanism 1, address at port 0xcf8 and data at
 * 0xcfc..0xcff (PCI 3.0, 3.2.2.3.2), and a window in memory (PCI Express 5.0, 7.2.2).
 */
export class PciHost extends PciBus implements Omit<Device<PciHostState>, keyof IoHandler> {
  #address = 0

  constructor(routing: PciRouting, place: PciPlace = {}) {
    super(routing, place)
  }

  reset(): void {
    this.#address = 0
    this.resetFunctions()
  }

  save(): PciHostState {
    return { address: this.#address, functions: this.saveFunctions() }
  }

  load(state: PciHostState): void {
    const { address } = parseState<{ address: number }>('pci', state, { address: u32 })
    this.#address = address
    this.loadFunctions(state.functions)
  }

  /** Port 0xcf8. Only 32-bit accesses reach the register. */
  readonly addressPort: IoHandler = {
    read: (offset, size) => (offset === 0 && size === 4 ? this.#address : 0xffffffff),
    write: (offset, size, value) => {
      if (offset === 0 && size === 4) this.#address = (value & 0x80ff_fffc) >>> 0
    },
  }

  /** Ports 0xcfc..0xcff. */
  readonly dataPort: IoHandler = {
    read: (offset, size) =>
      this.#selected()?.configRead((this.#address & 0xfc) + offset, size) ?? 0xffffffff,
    write: (offset, size, value) => {
      this.#selected()?.configWrite((this.#address & 0xfc) + offset, size, value)
    },
  }

  /** Memory: 1 MiB for each bus, 4 KiB for each function. */
  readonly memoryWindow: IoHandler = {
    read: (offset, size) =>
      this.#at(offset >>> 20, (offset >> 12) & 0xff)?.configRead(offset & 0xfff, size) ??
      0xffffffff,
    write: (offset, size, value) => {
      this.#at(offset >>> 20, (offset >> 12) & 0xff)?.configWrite(offset & 0xfff, size, value)
    },
  }

  #selected(): PciFunction | undefined {
    const address = this.#address
    if ((address & 0x8000_0000) === 0) return undefined
    return this.#at((address >> 16) & 0xff, (address >> 8) & 0xff)
  }

  #at(busNumber: number, devfn: number): PciFunction | undefined {
    return busBehind(this, busNumber)?.visible(devfn >> 3, devfn & 7)
  }
}

/** The bus that bridges pass this number on to. Bridges behind bridges have no say in others' numbers. */
function busBehind(bus: PciBus, number: number): PciBus | undefined {
  if (number === 0) return bus
  for (const { fn } of bus.functions()) {
    const behind = fn.secondary?.bus
    if (behind === undefined) continue
    const first = fn.config.data[PCI_SECONDARY_BUS]!
    const last = fn.config.data[PCI_SUBORDINATE_BUS]!
    if (first === 0 || number < first || number > last) continue
    if (number === first) return behind
    // One that gives no number twice goes down the tree, which ends.
    const further = busBehind(behind, number)
    if (further !== undefined) return further
  }
  return undefined
}
