import { bytes, parseState } from '../../machine/state.ts'

/** MDIC (Intel 8254x manual, 13.4.6). */
const MDIC_DATA = 0xffff
const MDIC_WRITE = 0x0400_0000
const MDIC_READ = 0x0800_0000
const MDIC_READY = 0x1000_0000
const MDIC_INTERRUPT = 0x2000_0000
const MDIC_ERROR = 0x4000_0000
/** The address of the one PHY there is. */
const PHY_ADDRESS = 1
const REGISTERS = 32

/** Registers (IEEE 802.3, clause 22; from 16 on those of the manufacturer). */
const BMCR = 0
const BMSR = 1
const ANLPAR = 5
const BMCR_LOOPBACK = 0x4000
const BMCR_AUTONEGOTIATES = 0x1000
const BMCR_RESTART = 0x0200
/** What clears itself, and what is reserved. */
const BMCR_NOT_KEPT = 0x823f
const BMSR_COMPLETE = 0x20
const BMSR_LINK = 0x04
const ANLPAR_ACKNOWLEDGED = 0x4000

/** What registers hold after power-on: [number, value, can be written]. Others there are not. */
export type PhyRegisters = readonly (readonly [number, number, boolean])[]

/** A kind of chip. */
export interface PhyModel {
  /** Those that are on every page, or on the only one. */
  common: PhyRegisters
  /** Those that are on one page alone, by its number, and the register that chooses the page. */
  pages?: Readonly<Record<number, PhyRegisters>>
  page?: { register: number; mask: number }
  /** A register and its bit that have negotiation begin anew. */
  restart?: { register: number; bit: number }
}

/** Marvell's 88E1000, as it is in the 82540EM: 1000 Mb/s, full duplex, negotiated. */
export const PHY_88E1000: PhyModel = {
  common: [
    [BMCR, 0x1140, true],
    [BMSR, 0x794d, false],
    [2, 0x0141, false],
    [3, 0x0c20, false],
    [4, 0x0de1, true],
    [ANLPAR, 0x01e0, false],
    [6, 0x0000, false],
    [9, 0x0e00, true],
    [10, 0x3c00, false],
    [16, 0x0360, true],
    [17, 0xac00, false],
    [20, 0x0d60, true],
    [21, 0x0000, false],
  ],
}

/** What a write to MDIC leaves in it, and what comes of it. */
export interface MdicResult {
  mdic: number
  interrupt: boolean
  /** Negotiation begins anew. */
  restart: boolean
}

/** Where a register is kept, and whether it can be written. */
interface Place {
  at: number
  value: number
  writable: boolean
}

/** The chip between the card and its cable, behind the register MDIC. */
export class Phy {
  readonly #model: PhyModel
  /** By page times 32, and number; those of all pages are on the first. */
  readonly #places = new Map<number, Place>()
  readonly #registers: Uint16Array<ArrayBuffer>

  constructor(model: PhyModel) {
    this.#model = model
    const pages = Object.entries(model.pages ?? {})
    for (const [page, registers] of [['0', model.common] as const, ...pages]) {
      for (const [number, value, writable] of registers) {
        const at = Number(page) * REGISTERS + number
        this.#places.set(at, { at, value, writable })
      }
    }
    const last = Math.max(0, ...pages.map(([page]) => Number(page)))
    this.#registers = new Uint16Array(REGISTERS * (last + 1))
    this.reset()
  }

  reset(): void {
    this.#registers.fill(0)
    for (const { at, value } of this.#places.values()) this.#registers[at] = value
  }

  /** Frames that are sent come back. */
  get isLoop(): boolean {
    return (this.#registers[BMCR]! & BMCR_LOOPBACK) !== 0
  }

  get negotiates(): boolean {
    return (this.#registers[BMCR]! & BMCR_AUTONEGOTIATES) !== 0
  }

  get hasNegotiated(): boolean {
    return (this.#registers[BMSR]! & BMSR_COMPLETE) !== 0
  }

  linkDown(): void {
    this.#registers[BMSR]! &= ~(BMSR_LINK | BMSR_COMPLETE)
    this.#registers[ANLPAR]! &= ~ANLPAR_ACKNOWLEDGED
  }

  linkUp(): void {
    this.#registers[BMSR]! |= BMSR_LINK
  }

  negotiated(): void {
    this.linkUp()
    this.#registers[BMSR]! |= BMSR_COMPLETE
    this.#registers[ANLPAR]! |= ANLPAR_ACKNOWLEDGED
  }

  /** A write of `value` to MDIC, which holds `before`. It is done at once. */
  access(value: number, before: number): MdicResult {
    const done = (mdic: number, restart = false): MdicResult => ({
      mdic: (mdic | MDIC_READY) >>> 0,
      interrupt: (mdic & MDIC_INTERRUPT) !== 0,
      restart,
    })
    if (((value >>> 21) & 31) !== PHY_ADDRESS) return done(before | MDIC_ERROR)
    const register = (value >>> 16) & 31
    const place = this.#place(register)
    if ((value & MDIC_READ) !== 0) {
      if (place === undefined) return done(value | MDIC_ERROR)
      return done((value & ~MDIC_DATA) | this.#registers[place.at]!)
    }
    if ((value & MDIC_WRITE) === 0) return done(value)
    if (place?.writable !== true) return done(value | MDIC_ERROR)
    const data = value & MDIC_DATA
    this.#registers[place.at] = this.#kept(place.at, data)
    return done(value, this.#restarts(place.at, data))
  }

  save(): { registers: Uint8Array } {
    return { registers: new Uint8Array(this.#registers.slice().buffer) }
  }

  load(state: unknown): void {
    const { registers } = parseState<{ registers: Uint8Array }>('e1000', state, {
      registers: bytes(2 * this.#registers.length),
    })
    const words = new Uint16Array(registers.slice().buffer)
    this.reset()
    for (const { at } of this.#places.values()) this.#registers[at] = this.#kept(at, words[at]!)
  }

  #place(register: number): Place | undefined {
    const { page } = this.#model
    const number = page === undefined ? 0 : this.#registers[page.register]!
    const common = this.#model.common.some(([known]) => known === register)
    return this.#places.get(common ? register : number * REGISTERS + register)
  }

  /** What a register holds of what is written to it. */
  #kept(at: number, data: number): number {
    const { page, restart } = this.#model
    if (at === BMCR) return data & ~BMCR_NOT_KEPT
    if (at === page?.register) return data & page.mask
    return at === restart?.register ? data & ~restart.bit : data
  }

  #restarts(at: number, data: number): boolean {
    const { restart } = this.#model
    if (at === BMCR) return this.negotiates && (data & BMCR_RESTART) !== 0
    return at === restart?.register && (data & restart.bit) !== 0
  }
}
