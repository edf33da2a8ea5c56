import type { Clock, IoHandler, Stateful } from '../../device.ts'
import { parseState, u32 } from '../../machine/state.ts'
import type { AcpiPm } from '../acpi-pm.ts'
import { TCO_BYTES, Tco } from './tco.ts'
import type { TcoState } from './tco.ts'

/** Registers of the power management block (ICH9 data sheet, 13.8.3). */
export const PM_BLOCK_BYTES = 0x80
const PM1_END = 0x0c
export const GPE0 = 0x20
const GPE0_END = 0x30
const SMI_EN = 0x30
const SMI_STS = 0x34
const SMI_END = 0x38
const TCO = 0x60

/** The command port raises an SMI: the firmware takes it that system management mode is set up. */
const APMC_EN = 0x20
const GBL_SMI_EN = 0x01

interface PmBlockState {
  smiEnable: number
  smiStatus: number
  tco: unknown
}

/** What the ICH9 has at its power management base: ACPI registers, SMI registers, a watchdog. */
export class Ich9PmBlock implements Stateful, IoHandler {
  readonly #pm: AcpiPm
  readonly #tco: Tco
  readonly #firstEnable: number
  #smiEnable: number
  #smiStatus = 0
  /** The LPC bridge keeps the bit that enables all SMIs as it is. */
  isSmiLocked: () => boolean = () => false

  /** With `hasSmm` the firmware has to set the mode up. */
  constructor(pm: AcpiPm, clock: Clock, hasSmm: boolean = false) {
    this.#pm = pm
    this.#tco = new Tco(clock)
    this.#firstEnable = hasSmm ? 0 : APMC_EN
    this.#smiEnable = this.#firstEnable
  }

  /** A write to the SMI command port raises an SMI. */
  get isCommandEnabled(): boolean {
    return (this.#smiEnable & APMC_EN) !== 0
  }

  reset(): void {
    this.#smiEnable = this.#firstEnable
    this.#smiStatus = 0
    this.#tco.reset()
  }

  save(): PmBlockState {
    return { smiEnable: this.#smiEnable, smiStatus: this.#smiStatus, tco: this.#tco.save() }
  }

  load(state: PmBlockState): void {
    const { smiEnable, smiStatus } = parseState<Omit<PmBlockState, 'tco'>>('ich9-pm', state, {
      smiEnable: u32,
      smiStatus: u32,
    })
    this.#smiEnable = smiEnable
    this.#smiStatus = smiStatus
    this.#tco.load(state.tco as TcoState)
  }

  read(offset: number, size: number): number {
    if (offset < PM1_END) return this.#pm.pm1.read(offset, size)
    if (offset >= GPE0 && offset < GPE0_END) {
      let value = 0
      for (let i = 0; i < size; i++) value |= this.#pm.gpe0.read(offset - GPE0 + i, 1) << (i * 8)
      return value >>> 0
    }
    if (offset >= SMI_EN && offset < SMI_STS) return this.#smiEnable >>> ((offset - SMI_EN) * 8)
    if (offset >= SMI_STS && offset < SMI_END) return this.#smiStatus >>> ((offset - SMI_STS) * 8)
    if (offset >= TCO && offset < TCO + TCO_BYTES) return this.#tco.read(offset - TCO, size)
    return 0
  }

  write(offset: number, size: number, value: number): void {
    if (offset < PM1_END) this.#pm.pm1.write(offset, size, value)
    else if (offset >= GPE0 && offset < GPE0_END) {
      for (let i = 0; i < size; i++) this.#pm.gpe0.write(offset - GPE0 + i, 1, value >>> (i * 8))
    } else if (offset === SMI_EN && size === 4) {
      const kept = this.isSmiLocked() ? GBL_SMI_EN : 0
      this.#smiEnable = ((value & ~kept) | (this.#smiEnable & kept)) >>> 0
    } else if (offset === SMI_STS && size === 4) this.#smiStatus = (this.#smiStatus & ~value) >>> 0
    else if (offset >= TCO && offset < TCO + TCO_BYTES) this.#tco.write(offset - TCO, size, value)
  }
}
