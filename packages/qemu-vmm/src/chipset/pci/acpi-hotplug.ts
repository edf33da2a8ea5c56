import type { IoHandler, Stateful } from '../../device.ts'
import { list, parseState, u32 } from '../../machine/state.ts'
import { PCI_SLOTS } from './bus.ts'
import type { PciBus } from './bus.ts'
import type { SlotHotplug } from './hotplug.ts'

/** Ports of the registers, by board, and the general-purpose event that says to look at them. */
export const PIIX4_PCI_HOTPLUG_PORT = 0xae00
export const ICH9_PCI_HOTPLUG_PORT = 0x0cc0
export const PCI_HOTPLUG_PORTS = 0x18
export const PCI_HOTPLUG_GPE = 1

/** Registers (QEMU's docs/specs/acpi_pci_hotplug): 32 bits each, a bit for each slot. */
const UP = 0x00
const DOWN = 0x04
const EJECT = 0x08
const REMOVABLE = 0x0c
const SELECT = 0x10
/** Written with the bit of a slot, it reads once as the index of the device there, 0 for none. */
const INDEX = 0x14
/** Buses that could be selected. */
const BUSES = 256
const NOTHING_FIXED = 0xffff_ffff

interface AcpiHotplugState {
  select: number
  index: number
  /** By the numbers of the buses. */
  up: number[]
  down: number[]
}

/** A bus as tables describe it, and those behind bridges on it. Plain data. */
export interface AcpiHotplugTree {
  /** What the guest selects it by; absent for a bus that cannot be changed. */
  number?: number
  /** Slots that are empty or have only what can be taken out, a bit each. */
  slots: number
  bridges: readonly AcpiHotplugBridge[]
}

export interface AcpiHotplugBridge {
  slot: number
  functionNumber: number
  behind: AcpiHotplugTree
}

/** One bus: which of its slots have been filled, and which are to be emptied. */
class HotplugBus implements SlotHotplug {
  // Asking again is allowed: the first time nobody may have listened.
  readonly patienceNs = 0
  readonly hasIndices = true
  readonly bus: PciBus
  readonly #raise: () => void
  readonly #filled: () => void
  up = 0
  down = 0

  constructor(bus: PciBus, raise: () => void, filled: () => void) {
    this.bus = bus
    this.#raise = raise
    this.#filled = filled
  }

  checkPlug(): void {}

  plugged(slot: number): void {
    this.#filled()
    this.up = (this.up | (1 << slot)) >>> 0
    this.#raise()
  }

  requestUnplug(slot: number): boolean {
    this.down = (this.down | (1 << slot)) >>> 0
    this.#raise()
    return false
  }

  /** Slots that are empty, or have only what can be taken out. */
  get removable(): number {
    let mask = NOTHING_FIXED
    for (const { slot, fn } of this.bus.functions()) if (!fn.removable) mask &= ~(1 << slot)
    return mask >>> 0
  }
}

/**
 * Hot-plug of PCI buses through ACPI: methods of the DSDT select a bus, read which slots have been filled
 * and which are to be emptied, and eject what the guest has let go of.
 */
export class AcpiPciHotplug implements IoHandler, Stateful<AcpiHotplugState> {
  readonly #root: PciBus
  readonly #raise: () => void
  readonly #known: HotplugBus[] = []
  /** In the order of their numbers. */
  #buses: HotplugBus[] = []
  #select = 0
  #index = 0
  /** The guest lets go of all that is in a slot. */
  onEject: (bus: PciBus, slot: number) => void = () => {}

  /** `raise` raises the event. */
  constructor(root: PciBus, raise: () => void) {
    this.#root = root
    this.#raise = raise
  }

  /**
   * Takes over a bus, the root or one behind a bridge, before the machine runs. `filled` is called when a
   * device has come to it.
   */
  manage(bus: PciBus, filled: () => void = () => {}): void {
    const added = new HotplugBus(bus, this.#raise, filled)
    bus.hotplug = added
    this.#known.push(added)
  }

  /** The bus and those behind its bridges; which have numbers is decided by what has been plugged in. */
  describe(bus: PciBus = this.#root): AcpiHotplugTree {
    this.#number()
    const number = this.#buses.findIndex((one) => one.bus === bus)
    const slots = bus.slots === PCI_SLOTS ? NOTHING_FIXED : 2 ** bus.slots - 1
    const bridges = [...bus.functions()].filter(({ fn }) => fn.secondary !== undefined)
    return {
      ...(number < 0 ? {} : { number }),
      slots: number < 0 ? 0 : (this.#buses[number]!.removable & slots) >>> 0,
      bridges: bridges.map(({ slot, functionNumber, fn }) => ({
        slot,
        functionNumber,
        behind: this.describe(fn.secondary!.bus),
      })),
    }
  }

  /** A guest that begins anew holds on to nothing: what was to be taken out is. */
  reset(): void {
    this.#number()
    for (const [number, { down }] of this.#buses.entries()) {
      for (let slot = 0; slot < PCI_SLOTS; slot++) {
        if (((down >>> slot) & 1) === 1) this.#eject(number, slot)
      }
    }
    this.#select = 0
    this.#index = 0
  }

  save(): AcpiHotplugState {
    this.#number()
    return {
      select: this.#select,
      index: this.#index,
      up: this.#buses.map(({ up }) => up),
      down: this.#buses.map(({ down }) => down),
    }
  }

  load(state: AcpiHotplugState): void {
    this.#number()
    const masks = list(u32, this.#buses.length)
    const { select, index, up, down } = parseState<AcpiHotplugState>('pci-hotplug', state, {
      select: u32,
      index: u32,
      up: masks,
      down: masks,
    })
    this.#select = select
    this.#index = index
    for (const [number, bus] of this.#buses.entries()) {
      bus.up = up[number] ?? 0
      bus.down = down[number] ?? 0
    }
  }

  read(offset: number, size: number): number {
    if (size !== 4 || this.#select >= BUSES) return 0
    const bus = this.#buses[this.#select]
    switch (offset) {
      case UP: {
        // Each arrival is told once.
        const up = bus?.up ?? 0
        if (bus !== undefined) bus.up = 0
        return up
      }
      case DOWN:
        return bus?.down ?? 0
      case REMOVABLE:
        return bus?.removable ?? NOTHING_FIXED
      case SELECT:
        return this.#select
      case INDEX: {
        const index = this.#index
        this.#index = 0
        return index
      }
      default:
        return 0
    }
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4) return
    if (offset === INDEX) this.#index = value === 0 ? 0 : this.#indexOf(lowestBit(value))
    if (offset === SELECT) this.#select = value >>> 0
    // The lowest bit says which slot: one at a time.
    if (offset === EJECT && value !== 0) this.#eject(this.#select, lowestBit(value))
  }

  /** Of what is in a slot of the bus that is selected. */
  #indexOf(slot: number): number {
    const functions = [...(this.#buses[this.#select]?.bus.functions() ?? [])]
    return functions.find((one) => one.slot === slot)?.fn.acpiIndex ?? 0
  }

  #eject(number: number, slot: number): void {
    const bus = this.#buses[number]
    if (bus === undefined) return
    const bit = ~(1 << slot)
    bus.up = (bus.up & bit) >>> 0
    bus.down = (bus.down & bit) >>> 0
    this.onEject(bus.bus, slot)
  }

  /** Numbers are QEMU's: a bus before those behind it, and of those the one that was made last first. */
  #number(): void {
    if (this.#buses.length !== this.#known.length) this.#buses = [...this.#below(this.#root)]
  }

  *#below(bus: PciBus): Iterable<HotplugBus> {
    const own = this.#known.find((one) => one.bus === bus)
    if (own !== undefined) yield own
    const behind = new Set(
      Array.from(bus.functions(), ({ fn }) => fn.secondary?.bus).filter((b) => b !== undefined),
    )
    for (const one of this.#known.toReversed()) if (behind.has(one.bus)) yield* this.#below(one.bus)
  }
}

function lowestBit(value: number): number {
  return 31 - Math.clz32(value & -value)
}
