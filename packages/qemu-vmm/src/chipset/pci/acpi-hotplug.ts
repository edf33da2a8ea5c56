import type { IoHandler, Stateful } from '../../device.ts'
import { parseState, u32 } from '../../machine/state.ts'
import { PCI_SLOTS } from './bus.ts'
import type { PciBus } from './bus.ts'
import type { SlotHotplug } from './hotplug.ts'

/** Ports of the registers, and the general-purpose event that says to look at them. */
export const PCI_HOTPLUG_PORT = 0xae00
export const PCI_HOTPLUG_PORTS = 0x18
export const PCI_HOTPLUG_GPE = 1

/** Registers (QEMU's docs/specs/acpi_pci_hotplug): 32 bits each, a bit for each slot. */
const UP = 0x00
const DOWN = 0x04
const EJECT = 0x08
const REMOVABLE = 0x0c
const SELECT = 0x10
/** Buses that could be selected; this machine has one. */
const BUSES = 256

interface AcpiHotplugState {
  up: number
  down: number
  select: number
}

/**
 * Hot-plug of a conventional PCI bus through ACPI: methods of the DSDT read which slots have been
 * filled and which are to be emptied, and eject what the guest has let go of.
 */
export class AcpiPciHotplug implements IoHandler, Stateful<AcpiHotplugState>, SlotHotplug {
  readonly patienceNs = 0
  readonly #bus: PciBus
  readonly #raise: () => void
  #up = 0
  #down = 0
  #select = 0
  /** The guest lets go of all that is in a slot. */
  onEject: (slot: number) => void = () => {}

  /** `raise` raises the event. */
  constructor(bus: PciBus, raise: () => void) {
    this.#bus = bus
    this.#raise = raise
  }

  checkPlug(): void {}

  plugged(slot: number): void {
    this.#up = (this.#up | (1 << slot)) >>> 0
    this.#raise()
  }

  requestUnplug(slot: number): boolean {
    this.#down = (this.#down | (1 << slot)) >>> 0
    this.#raise()
    return false
  }

  /** Slots that are empty, or have only what can be taken out. */
  get removable(): number {
    let mask = 0xffff_ffff
    for (const { slot, fn } of this.#bus.functions()) {
      if (!fn.removable) mask &= ~(1 << slot)
    }
    return mask >>> 0
  }

  /** A guest that begins anew holds on to nothing: what was to be taken out is. */
  reset(): void {
    for (let slot = 0; slot < PCI_SLOTS; slot++) {
      if (((this.#down >>> slot) & 1) === 1) this.#eject(slot)
    }
    this.#down = 0
    this.#select = 0
  }

  save(): AcpiHotplugState {
    return { up: this.#up, down: this.#down, select: this.#select }
  }

  load(state: AcpiHotplugState): void {
    const { up, down, select } = parseState<AcpiHotplugState>('pci-hotplug', state, {
      up: u32,
      down: u32,
      select: u32,
    })
    this.#up = up
    this.#down = down
    this.#select = select
  }

  read(offset: number, size: number): number {
    if (size !== 4 || this.#select >= BUSES) return 0
    const isHere = this.#select === 0
    switch (offset) {
      case UP: {
        // Each arrival is told once.
        const up = isHere ? this.#up : 0
        if (isHere) this.#up = 0
        return up
      }
      case DOWN:
        return isHere ? this.#down : 0
      case REMOVABLE:
        return isHere ? this.removable : 0xffff_ffff
      case SELECT:
        return this.#select
      default:
        return 0
    }
  }

  write(offset: number, size: number, value: number): void {
    if (size !== 4) return
    if (offset === SELECT) this.#select = value >>> 0
    // The lowest bit says which slot: one at a time.
    if (offset === EJECT && this.#select === 0 && value !== 0) {
      this.#eject(31 - Math.clz32(value & -value))
    }
  }

  #eject(slot: number): void {
    const bit = ~(1 << slot)
    this.#up = (this.#up & bit) >>> 0
    this.#down = (this.#down & bit) >>> 0
    this.onEject(slot)
  }
}
