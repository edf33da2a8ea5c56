import type { IrqLine, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import type { Mapping } from '../../machine/address-space.ts'
import { PciFunction } from '../pci/function.ts'
import { CHIP_CONFIG_BYTES, ChipConfig } from './chip-config.ts'
import { PM_BLOCK_BYTES } from './pm-block.ts'
import type { Ich9PmBlock } from './pm-block.ts'

/** Registers (ICH9 data sheet, 13.1). */
const FIRST_OWN = 0x40
export const ICH9_PMBASE = 0x40
export const ICH9_ACPI_CONTROL = 0x44
/** Route registers of the inputs A to D, and E to H. */
export const ICH9_PIRQ_ROUTE = 0x60
export const ICH9_PIRQ_ROUTE_UPPER = 0x68
const POWER_CONTROL_1 = 0xa0
const SMI_LOCK = 0x10
export const ICH9_RCBA = 0xf0

export const PMBASE_MASK = 0xff80
const ACPI_ENABLED = 0x80
const SCI_SELECT = 0x07
/** By the select field; the ones between are reserved. */
const SCI_GSIS = [9, 10, 11, undefined, 20, 21] as const
const RCBA_ENABLED = 1
const RCBA_MASK = -CHIP_CONFIG_BYTES
const ROUTE_OFF = 0x80
const ISA_IRQS = 16
const PIRQS = 8
/** The I/O APIC has an input of its own for each PIRQ. */
const FIRST_PIRQ_GSI = 16

/** The LPC bridge of the ICH9 at 1f.0: interrupt routes, power management, chip configuration. */
export class Ich9Lpc implements Stateful {
  readonly fn: PciFunction
  readonly chipConfig: ChipConfig = new ChipConfig()
  /** What the power management block drives. */
  readonly sci: IrqLine
  readonly #space: Bus
  readonly #pm: () => Ich9PmBlock
  readonly #lines: readonly IrqLine[]
  readonly #levels: boolean[] = Array.from({ length: PIRQS }, () => false)
  #sciLevel = false
  #pmBase: number | undefined
  #pmMapping: Mapping | undefined
  #configBase: number | undefined
  #configMapping: Mapping | undefined

  /** `lines` are sources of GSIs 0..23 that belong to the router. `pm` is asked when it is mapped. */
  constructor(
    space: Bus,
    lines: readonly IrqLine[],
    pm: () => Ich9PmBlock,
    hasSmm: boolean = false,
  ) {
    this.#space = space
    this.#lines = lines
    this.#pm = pm
    const drive = (level: boolean): void => {
      this.#sciLevel = level
      this.#update()
    }
    this.sci = {
      set: drive,
      pulse() {
        drive(true)
        drive(false)
      },
    }
    this.fn = new PciFunction('ich9-lpc', space, {
      vendor: 0x8086,
      device: 0x2918,
      revision: 0x02,
      classCode: 0x060100,
      multifunction: true,
    })
    const { config } = this.fn
    for (let at = FIRST_OWN; at <= 0xff; at++) config.allowWrites(at, 1, 0xff)
    config.set(ICH9_PMBASE, 4, 1)
    config.allowWrites(ICH9_PMBASE, 4, PMBASE_MASK)
    for (const at of [ICH9_PIRQ_ROUTE, ICH9_PIRQ_ROUTE_UPPER]) {
      config.set(at, 4, 0x8080_8080)
      config.allowWrites(at, 4, 0x8f8f_8f8f)
    }
    config.allowWrites(POWER_CONTROL_1, 2, hasSmm ? 0xffff : 0xffff & ~SMI_LOCK)
    config.allowWrites(ICH9_RCBA, 4, (RCBA_MASK | RCBA_ENABLED) >>> 0)
    config.seal()
    this.fn.onConfigWrite = () => {
      // Until reset: it is the lock that is locked, too.
      if (this.isSmiLocked) config.allowWrites(POWER_CONTROL_1, 2, 0xffff & ~SMI_LOCK)
      else if (hasSmm) config.allowWrites(POWER_CONTROL_1, 2, 0xffff)
      this.#remap()
      this.#update()
    }
  }

  /** Firmware has locked the bit that enables all SMIs. */
  get isSmiLocked(): boolean {
    return (this.fn.config.data[POWER_CONTROL_1]! & SMI_LOCK) !== 0
  }

  /** The OR of all pins on a PIRQ, 0..7. */
  setPirq(pirq: number, level: boolean): void {
    this.#levels[pirq] = level
    this.#update()
  }

  /** The interrupt, of the two controllers of old, that a PIRQ is routed to. */
  route(pirq: number): number {
    const register = pirq < 4 ? ICH9_PIRQ_ROUTE + pirq : ICH9_PIRQ_ROUTE_UPPER + pirq - 4
    return this.fn.config.data[register]!
  }

  reset(): void {
    this.chipConfig.reset()
  }

  save(): unknown {
    return this.chipConfig.save()
  }

  load(state: unknown): void {
    this.chipConfig.load(state as ReturnType<ChipConfig['save']>)
    this.#update()
  }

  #update(): void {
    let high = 0
    for (const [pirq, level] of this.#levels.entries()) {
      if (!level) continue
      high |= 1 << (FIRST_PIRQ_GSI + pirq)
      const route = this.route(pirq)
      if ((route & ROUTE_OFF) === 0) high |= 1 << (route & (ISA_IRQS - 1))
    }
    if (this.#sciLevel) high |= 1 << this.#sciGsi
    for (const [gsi, line] of this.#lines.entries()) line.set(((high >> gsi) & 1) === 1)
  }

  get #sciGsi(): number {
    return SCI_GSIS[this.fn.config.data[ICH9_ACPI_CONTROL]! & SCI_SELECT] ?? 9
  }

  #remap(): void {
    const { config } = this.fn
    const base = config.get32(ICH9_PMBASE) & PMBASE_MASK
    const isOn = (config.data[ICH9_ACPI_CONTROL]! & ACPI_ENABLED) !== 0 && base !== 0
    this.#mapPm(isOn ? base : undefined)
    const rcba = config.get32(ICH9_RCBA)
    this.#mapConfig((rcba & RCBA_ENABLED) === 0 ? undefined : (rcba & RCBA_MASK) >>> 0)
  }

  #mapPm(base: number | undefined): void {
    if (base === this.#pmBase) return
    this.#pmMapping?.unmap()
    this.#pmBase = base
    this.#pmMapping =
      base === undefined
        ? undefined
        : this.#space.pio.map({
            name: 'ich9-pm',
            base,
            len: PM_BLOCK_BYTES,
            priority: -1,
            mayOverlap: true,
            handler: this.#pm(),
          })
  }

  #mapConfig(base: number | undefined): void {
    if (base === this.#configBase) return
    this.#configMapping?.unmap()
    this.#configBase = base
    this.#configMapping =
      base === undefined
        ? undefined
        : this.#space.mmio.map({
            name: 'chip-config',
            base,
            len: CHIP_CONFIG_BYTES,
            priority: -1,
            mayOverlap: true,
            handler: this.chipConfig,
          })
  }
}
