import type { Device, IoHandler } from '../../device.ts'
import { VmmError } from '../../errors.ts'
import { parseState, u32 } from '../../machine/state.ts'
import type { PciFunction, PciFunctionState } from './function.ts'

const SLOTS = 32
const FUNCTIONS = 8

export interface PciBusState {
  address: number
  functions: Record<string, PciFunctionState>
}

/**
 * PCI bus 0 and its configuration mechanism 1: address at port 0xcf8, data at 0xcfc..0xcff
 * (PCI 3.0, 3.2.2.3.2).
 */
export class PciBus implements Omit<Device<PciBusState>, keyof IoHandler> {
  readonly #functions: (PciFunction | undefined)[] = Array.from({ length: SLOTS * FUNCTIONS })
  readonly #route: (pirq: number, level: boolean) => void
  readonly #pirqCounts = [0, 0, 0, 0]
  #address = 0

  /** `route` takes the OR of the pins that are wired to PIRQ 0..3. */
  constructor(route: (pirq: number, level: boolean) => void) {
    this.#route = route
  }

  /** Plugs a function in; without a slot the first free one from 2 on is used. */
  add(fn: PciFunction, slot?: number, functionNumber = 0): { slot: number } {
    const at = slot ?? this.#freeSlot(fn.name)
    const index = at * FUNCTIONS + functionNumber
    const other = this.#functions[index]
    if (other !== undefined) {
      throw new VmmError(
        'E_CONFIG',
        `PCI address ${at}.${functionNumber} is taken by ${other.name}; give ${fn.name} another`,
        { fields: { device: fn.name, owner: other.name, slot: at } },
      )
    }
    this.#functions[index] = fn
    const pirq = this.pirqOf(at, fn)
    if (pirq !== undefined) {
      let high = false
      fn.onInterrupt = (level) => {
        if (level === high) return
        high = level
        const before = this.#pirqCounts[pirq]!
        const after = before + (level ? 1 : -1)
        this.#pirqCounts[pirq] = after
        if (before === 0 || after === 0) this.#route(pirq, level)
      }
    }
    return { slot: at }
  }

  /** The PIRQ, 0..3, that the pin of a function in this slot is wired to. */
  pirqOf(slot: number, fn: PciFunction): number | undefined {
    // Each slot's INTA goes to another PIRQ, so that single-function cards spread out.
    return fn.interruptPin > 0 ? (slot + fn.interruptPin - 2) & 3 : undefined
  }

  /** The function at an address. */
  function(slot: number, functionNumber: number): PciFunction | undefined {
    return this.#functions[slot * FUNCTIONS + functionNumber]
  }

  /** All functions with their addresses. */
  *functions(): Iterable<{ slot: number; functionNumber: number; fn: PciFunction }> {
    for (const [index, fn] of this.#functions.entries()) {
      if (fn !== undefined) yield { slot: index >> 3, functionNumber: index & 7, fn }
    }
  }

  reset(): void {
    this.#address = 0
    for (const { fn } of this.functions()) fn.reset()
  }

  save(): PciBusState {
    const functions: Record<string, PciFunctionState> = {}
    for (const { slot, functionNumber, fn } of this.functions()) {
      functions[`${slot}.${functionNumber}`] = fn.save()
    }
    return { address: this.#address, functions }
  }

  load(state: PciBusState): void {
    const { address } = parseState<{ address: number }>('pci', state, { address: u32 })
    this.#address = address
    for (const { slot, functionNumber, fn } of this.functions()) {
      const saved = state.functions?.[`${slot}.${functionNumber}`]
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

  /** Port 0xcf8. Only 32-bit accesses reach the register. */
  readonly addressPort: IoHandler = {
    read: (offset, size) => (offset === 0 && size === 4 ? this.#address : 0xffffffff),
    write: (offset, size, value) => {
      if (offset === 0 && size === 4) this.#address = (value & 0x80ff_fffc) >>> 0
    },
  }

  /** Ports 0xcfc..0xcff. */
  readonly dataPort: IoHandler = {
    read: (offset, size) => {
      const fn = this.#selected()
      if (fn === undefined) return 0xffffffff
      return fn.configRead((this.#address & 0xfc) + offset, size)
    },
    write: (offset, size, value) => {
      this.#selected()?.configWrite((this.#address & 0xfc) + offset, size, value)
    },
  }

  #selected(): PciFunction | undefined {
    const address = this.#address
    if ((address & 0x8000_0000) === 0 || ((address >> 16) & 0xff) !== 0) return undefined
    return this.#functions[(address >> 8) & 0xff]
  }

  #freeSlot(name: string): number {
    for (let slot = 2; slot < SLOTS; slot++) {
      if (this.#functions[slot * FUNCTIONS] === undefined) return slot
    }
    throw new VmmError('E_CONFIG', `all ${SLOTS} PCI slots are taken; ${name} does not fit`, {
      fields: { device: name },
    })
  }
}
