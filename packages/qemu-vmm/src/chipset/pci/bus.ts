import { VmmError } from '../../errors.ts'
import type { PciFunction, PciFunctionState, PciWindows } from './function.ts'
import type { SlotHotplug } from './hotplug.ts'
import { checkShares } from './slot-sharing.ts'

export const PCI_SLOTS = 32
export const PCI_FUNCTIONS = 8

/** The functions of a bus by address, `slot.function`. */
export type PciBusState = Record<string, PciFunctionState>

/** Where the interrupt pins of a bus go. */
export interface PciRouting {
  /** The input that a pin (1 = INTA .. 4 = INTD) of a slot is wired to. */
  line(slot: number, pin: number): number
  /** Takes the OR of the pins that are wired to an input. */
  drive(line: number, level: boolean): void
}

/** Where a bus is when it is not the first. */
export interface PciPlace {
  /** How many slots it has; a port of PCI Express has one. */
  slots?: number
  /** Its slots are those of PCI Express. */
  express?: boolean
  /** What the bridge passes on; everything by default. */
  windows?: PciWindows
  /** Whether what is on it has power; always by default. */
  powered?: () => boolean
}

/** One PCI bus: its slots, the functions in them, and the wires of their interrupt pins. */
export class PciBus {
  readonly slots: number
  readonly express: boolean
  /** How guests learn of changes while the machine runs; absent where there can be none. */
  hotplug: SlotHotplug | undefined
  readonly #powered: () => boolean
  readonly #functions: (PciFunction | undefined)[] = Array.from({
    length: PCI_SLOTS * PCI_FUNCTIONS,
  })
  readonly #routing: PciRouting
  readonly #windows: PciWindows | undefined
  readonly #counts: number[] = []

  constructor(routing: PciRouting, place: PciPlace = {}) {
    const { slots = PCI_SLOTS, express = false, windows, powered = () => true } = place
    this.#routing = routing
    this.#powered = powered
    this.slots = slots
    this.express = express
    this.#windows = windows
  }

  /** Plugs a function in; without a slot the first free one is used. */
  add(fn: PciFunction, slot?: number, functionNumber = 0): { slot: number } {
    const at = slot ?? this.#freeSlot(fn.name)
    if (at >= this.slots) {
      throw new VmmError(
        'E_CONFIG',
        `PCI slot ${at} is not on this bus, which has ${this.slots}; give ${fn.name} another`,
        { fields: { device: fn.name, slot: at, limit: this.slots - 1 } },
      )
    }
    const index = at * PCI_FUNCTIONS + functionNumber
    const other = this.#functions[index]
    if (other !== undefined) {
      throw new VmmError(
        'E_CONFIG',
        `PCI: slot ${at} function ${functionNumber} not available for ${fn.name}, in use by ` +
          `${other.name}; give it another addr`,
        { fields: { device: fn.name, owner: other.name, slot: at } },
      )
    }
    checkShares(this, fn, at, functionNumber)
    this.#functions[index] = fn
    fn.windows = this.#windows
    const pin = fn.interruptPin
    if (pin > 0) {
      const drive = this.#wire(at)
      let high = false
      fn.onInterrupt = (level) => {
        if (level === high) return
        high = level
        drive(pin, level)
      }
    }
    // The pins of what is behind a bridge are wired to those of its slot, turned by their own slot.
    if (fn.secondary !== undefined) {
      const wires = [1, 2, 3, 4].map(() => this.#wire(at))
      fn.secondary.onPin = (turned, level) => wires[turned]!(turned + 1, level)
    }
    return { slot: at }
  }

  /** Takes a function out; its pin goes low, and it decodes nothing any more. */
  remove(slot: number, functionNumber: number): void {
    const index = slot * PCI_FUNCTIONS + functionNumber
    const fn = this.#functions[index]
    if (fn === undefined) return
    fn.reset()
    fn.onInterrupt = () => {}
    this.#functions[index] = undefined
  }

  /** The input that a pin (1 = INTA .. 4 = INTD) of a slot is wired to. */
  lineOfPin(slot: number, pin: number): number {
    return this.#routing.line(slot, pin)
  }

  /** The same for the pin that a function has, if it has one. */
  lineOf(slot: number, fn: PciFunction): number | undefined {
    return fn.interruptPin > 0 ? this.#routing.line(slot, fn.interruptPin) : undefined
  }

  /** The function at an address. */
  function(slot: number, functionNumber: number): PciFunction | undefined {
    return this.#functions[slot * PCI_FUNCTIONS + functionNumber]
  }

  /**
   * The same as guests find it: with power, and others than function 0 only beside that, which comes last
   * when they are plugged in.
   */
  visible(slot: number, functionNumber: number): PciFunction | undefined {
    const fn = this.function(slot, functionNumber)
    if (fn === undefined || !this.#powered()) return undefined
    return functionNumber === 0 || this.function(slot, 0) !== undefined ? fn : undefined
  }

  /** All functions of this bus with their addresses. */
  *functions(): Iterable<{ slot: number; functionNumber: number; fn: PciFunction }> {
    for (const [index, fn] of this.#functions.entries()) {
      if (fn !== undefined) yield { slot: index >> 3, functionNumber: index & 7, fn }
    }
  }

  /** The same and what is behind its bridges. */
  *allFunctions(): Iterable<PciFunction> {
    for (const { fn } of this.functions()) {
      yield fn
      if (fn.secondary !== undefined) yield* fn.secondary.bus.allFunctions()
    }
  }

  resetFunctions(): void {
    for (const { fn } of this.functions()) fn.reset()
  }

  /** The bridge that owns this bus has other windows. */
  remap(): void {
    for (const { fn } of this.functions()) {
      fn.remap()
      fn.secondary?.bus.remap()
    }
  }

  saveFunctions(): PciBusState {
    const functions: PciBusState = {}
    for (const { slot, functionNumber, fn } of this.functions()) {
      functions[`${slot}.${functionNumber}`] = fn.save()
    }
    return functions
  }

  loadFunctions(state: PciBusState | undefined): void {
    for (const { slot, functionNumber, fn } of this.functions()) {
      const saved = state?.[`${slot}.${functionNumber}`]
      if (saved === undefined) {
        throw new VmmError(
          'E_STATE',
          `the saved state has no PCI function ${slot}.${functionNumber} (${fn.name})`,
          { fields: { device: fn.name } },
        )
      }
      fn.load(saved)
    }
  }

  /** A source that goes low where it went high, whatever has become of the routes meanwhile. */
  #wire(slot: number): (pin: number, level: boolean) => void {
    let line = 0
    return (pin, level) => {
      if (level) line = this.#routing.line(slot, pin)
      this.#change(line, level)
    }
  }

  #change(line: number, level: boolean): void {
    const before = this.#counts[line] ?? 0
    const after = before + (level ? 1 : -1)
    this.#counts[line] = after
    if (before === 0 || after === 0) this.#routing.drive(line, level)
  }

  #freeSlot(name: string): number {
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#functions[slot * PCI_FUNCTIONS] === undefined) return slot
    }
    throw new VmmError(
      'E_CONFIG',
      `PCI: no slot/function available for ${name}, all ${this.slots} in use`,
      { fields: { device: name } },
    )
  }
}
