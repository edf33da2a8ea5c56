import { flag, parseState, u32 } from '../../machine/state.ts'
import type { PciFunction } from '../pci/function.ts'
import { Msi } from '../pci/msi.ts'
import { Msix, type SendMessage } from '../pci/msix.ts'
import { type RegisterFile, count } from '../e1000/register-map.ts'
import { CAUSE_LSC, CAUSE_MDAC, CAUSE_RXO, ICR, ICS, IMS } from '../e1000/registers.ts'
import { EXPRESS_AT, MSIX_AT, MSI_AT } from './capabilities.ts'
import {
  ASSERTED,
  CAUSE_ACK,
  CAUSE_MNG,
  CAUSE_OTHER,
  CAUSE_RXQ0,
  CAUSE_RXQ1,
  CAUSE_SRPD,
  CAUSE_TXQ0,
  CAUSE_TXQ1,
  CTRL_EXT,
  CTRL_EXT_EIAME,
  CTRL_EXT_IAME,
  CTRL_EXT_PBA_CLR,
  EIAC,
  IAC,
  IAM,
  IMS_WRITABLE,
  IVAR,
  PBACLR,
} from './registers.ts'

const MSIX_BAR = 3
const VECTORS = 5
/** What the cause "other" stands for. */
const OTHERS = CAUSE_LSC | CAUSE_RXO | CAUSE_MDAC | CAUSE_SRPD | CAUSE_ACK | CAUSE_MNG
/** The causes that have vectors, in the order of their fields of 4 bits in IVAR. */
const WITH_VECTORS = [CAUSE_RXQ0, CAUSE_RXQ1, CAUSE_TXQ0, CAUSE_TXQ1, CAUSE_OTHER] as const
const VALID = 8

interface SavedInterrupts {
  msix: unknown
  message: boolean
  /** Causes of which the guest has been told. */
  told: number
}

/**
 * Causes, their mask, and the three ways to say them: pin, message, and vectors (Intel 82574 data sheet, 7.4). Nothing is
 * delayed: ITR and EITR hold what they are given, and there is one interrupt for all frames that come or go together.
 */
export class Interrupts {
  readonly #registers: RegisterFile
  readonly #fn: PciFunction
  readonly #msi: Msi
  readonly #msix: Msix
  #told = 0

  /** Adds both kinds of messages to `fn`, and what is between them in the list of capabilities. */
  constructor(
    registers: RegisterFile,
    fn: PciFunction,
    send: SendMessage,
    between: (at: number) => void,
  ) {
    this.#registers = registers
    this.#fn = fn
    this.#msi = new Msi(fn, send, MSI_AT)
    between(EXPRESS_AT)
    this.#msix = new Msix(fn, MSIX_BAR, VECTORS, send, {
      place: MSIX_AT,
      pendingAt: 0x2000,
      barBytes: 0x4000,
    })
  }

  /** Whether queues have vectors of their own. */
  get hasVectors(): boolean {
    return this.#msix.enabled
  }

  raise(causes: number): void {
    this.#registers[ICR >> 2]! |= causes
    this.update()
  }

  /** Reading ICR clears it, but with vectors only when the guest was told of a cause, or is told of none (10.2.4.1). */
  readCauses(): number {
    const registers = this.#registers
    const causes = registers[ICR >> 2]!
    const mask = registers[IMS >> 2]!
    if (!this.hasVectors || mask === 0 || (causes & mask) !== 0) registers[ICR >> 2] = 0
    if (this.#masksItself(causes)) this.#mask(registers[IAM >> 2]!)
    this.update()
    return causes
  }

  clearCauses(value: number): void {
    const registers = this.#registers
    const causes = registers[ICR >> 2]!
    if (this.#masksItself(causes)) this.#mask(registers[IAM >> 2]!)
    // With "other" goes what it stands for.
    const cleared = (value & CAUSE_OTHER) !== 0 ? value | OTHERS : value
    registers[ICR >> 2] = causes & ~cleared
    this.update()
  }

  allow(causes: number): void {
    const registers = this.#registers
    registers[IMS >> 2]! |= causes & IMS_WRITABLE
    if ((registers[CTRL_EXT >> 2]! & CTRL_EXT_PBA_CLR) !== 0 && this.hasVectors) {
      for (const [i, cause] of WITH_VECTORS.entries()) {
        if ((causes & cause) !== 0) this.#msix.clearPending(this.#vector(i))
      }
    }
    this.update()
  }

  forbid(causes: number): void {
    this.#mask(causes)
    this.update()
  }

  /** PBACLR was written. */
  clearPending(): void {
    if (!this.hasVectors) return
    const bits = this.#registers[PBACLR >> 2]!
    for (let vector = 0; vector < VECTORS; vector++) {
      if ((bits & (1 << vector)) !== 0) this.#msix.clearPending(vector)
    }
  }

  /** Says what there is to say, in the way that the guest has chosen. */
  update(): void {
    const registers = this.#registers
    let causes = registers[ICR >> 2]! & ~ASSERTED
    if (this.hasVectors && (causes & OTHERS) !== 0) causes |= CAUSE_OTHER
    registers[ICR >> 2] = causes === 0 ? 0 : causes | ASSERTED
    registers[ICS >> 2] = registers[ICR >> 2]!
    const due = causes & registers[IMS >> 2]!
    const isByPin = !this.hasVectors && !this.#msi.enabled
    if (isByPin && due !== 0 && this.#told === 0) count(registers, IAC)
    this.#fn.setInterrupt(isByPin && due !== 0)
    const fresh = due & ~this.#told
    this.#told = due
    if (fresh === 0 || isByPin) return
    if (this.hasVectors) this.#signalVectors(fresh)
    else this.#msi.trigger()
  }

  /** The guest has chosen another way. */
  configWritten(): void {
    this.#msix.configWritten()
    this.update()
  }

  /** The card's own reset. */
  clear(): void {
    this.#told = 0
    this.update()
  }

  reset(): void {
    this.#msi.reset()
    this.#msix.reset()
    this.clear()
  }

  /** The machine goes on: messages that were held back leave. */
  resume(): void {
    this.#msi.flush()
    this.#msix.flush()
  }

  save(): SavedInterrupts {
    return { msix: this.#msix.save(), message: this.#msi.save(), told: this.#told >>> 0 }
  }

  /** The registers have been loaded before. */
  load(state: unknown): void {
    const { message, told } = parseState<Omit<SavedInterrupts, 'msix'>>('e1000e', state, {
      message: flag,
      told: u32,
    })
    this.#msix.load((state as SavedInterrupts).msix)
    this.#msi.load(message)
    this.#told = told & IMS_WRITABLE
    this.update()
  }

  #signalVectors(causes: number): void {
    const registers = this.#registers
    for (const [i, cause] of WITH_VECTORS.entries()) {
      if ((causes & cause) === 0) continue
      this.#msix.trigger(this.#vector(i))
      const extended = registers[CTRL_EXT >> 2]!
      const cleared = registers[EIAC >> 2]! & cause
      registers[ICR >> 2]! &= ~cleared
      if ((extended & CTRL_EXT_EIAME) !== 0) this.#mask(cause)
      else if ((extended & CTRL_EXT_IAME) === 0) this.#mask(cleared)
      this.#told &= registers[IMS >> 2]! & ~cleared
    }
    if ((registers[ICR >> 2]! & ~ASSERTED) === 0) registers[ICR >> 2] = 0
    registers[ICS >> 2] = registers[ICR >> 2]!
  }

  /** The vector of a cause; -1 for none. */
  #vector(index: number): number {
    const field = (this.#registers[IVAR >> 2]! >>> (4 * index)) & 0x0f
    return (field & VALID) === 0 ? -1 : field & 7
  }

  #masksItself(causes: number): boolean {
    return (causes & ASSERTED) !== 0 && (this.#registers[CTRL_EXT >> 2]! & CTRL_EXT_IAME) !== 0
  }

  #mask(causes: number): void {
    this.#registers[IMS >> 2]! &= ~causes
  }
}
