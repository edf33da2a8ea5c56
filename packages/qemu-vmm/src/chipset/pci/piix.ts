import type { IrqLine } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import type { Mapping } from '../../machine/address-space.ts'
import type { AcpiPm } from '../acpi-pm.ts'
import type { SmbusHost } from '../smbus.ts'
import { PCI_COMMAND, PCI_STATUS } from './config-space.ts'
import { PciFunction } from './function.ts'

/** PIRQ route control registers, A to D. */
export const PIRQ_ROUTE = 0x60
const PIRQ_OFF = 0x80
const ISA_IRQS = 16

/** The PIIX3 ISA bridge at 01.0 with its four programmable interrupt routes. */
export class Piix3 {
  readonly fn: PciFunction
  readonly #levels: [boolean, boolean, boolean, boolean] = [false, false, false, false]
  readonly #lines: readonly IrqLine[]

  /** `lines` are sources of ISA interrupts 0..15 that belong to the router. */
  constructor(bus: Bus, lines: readonly IrqLine[]) {
    this.#lines = lines
    this.fn = new PciFunction('piix3', bus, {
      vendor: 0x8086,
      device: 0x7000,
      classCode: 0x060100,
      multifunction: true,
    })
    const { config } = this.fn
    config.set(PCI_COMMAND, 2, 0x0007)
    config.set(PCI_STATUS, 2, 0x0200)
    // Power-on values of the 82371SB data sheet; routes are off.
    config.set(0x4c, 1, 0x4d)
    config.set(0x4e, 1, 0x03)
    config.set(0x60, 4, 0x80808080)
    config.set(0x69, 1, 0x02)
    config.set(0x70, 1, 0x80)
    config.set(0x76, 2, 0x0c0c)
    config.set(0x78, 1, 0x02)
    config.set(0xa0, 1, 0x08)
    config.allowWrites(0x4c, 4, 0xffffffff)
    config.allowWrites(PIRQ_ROUTE, 4, 0x8f8f8f8f)
    config.allowWrites(0x69, 3, 0xffffff)
    config.allowWrites(0x70, 1, 0xff)
    config.allowWrites(0x76, 4, 0xffffffff)
    config.allowWrites(0xa0, 4, 0xffffffff)
    config.seal()
    this.fn.onConfigWrite = (offset, size) => {
      if (offset < PIRQ_ROUTE + 4 && offset + size > PIRQ_ROUTE) this.#update()
    }
  }

  /** The OR of all pins on a PIRQ. */
  setPirq(pirq: number, level: boolean): void {
    this.#levels[pirq as 0 | 1 | 2 | 3] = level
    this.#update()
  }

  #update(): void {
    let high = 0
    for (const [pirq, level] of this.#levels.entries()) {
      const route = this.fn.config.data[PIRQ_ROUTE + pirq]!
      if (level && (route & PIRQ_OFF) === 0) high |= 1 << (route & 15)
    }
    for (let irq = 0; irq < ISA_IRQS; irq++) this.#lines[irq]?.set(((high >> irq) & 1) === 1)
  }
}

export const PM_BASE = 0x40
/** Device activity B (82371AB data sheet, 7.1.17): its last byte enables SMIs by the command port. */
const DEVICE_ACTIVITY = 0x58
const APMC_EN = 0x02
export const PM_BASE_MASK = 0xffc0
const PM_REGISTERS = 0x80
const PM_ENABLED = 0x01
/** Bytes that decode inside the block: PM1 event, PM1 control, PM timer. */
const PM1_BYTES = 12

const SMB_BASE = 0x90
const SMB_BASE_MASK = 0xfff0
const SMB_CONFIG = 0xd2
const SMB_ENABLED = 0x01
const SMB_IRQ9 = 0x08
/** Bytes that the SMBus block has after its base, which is a multiple of as many. */
const SMB_BYTES = 16

/**
 * The PIIX4 power management function at 01.3; its blocks of ports, for power management and the SMBus,
 * follow their base registers.
 */
export class Piix4Pm {
  readonly fn: PciFunction
  readonly #bus: Bus
  readonly #pm: AcpiPm
  readonly #smbus: SmbusHost
  #base: number | undefined
  #mapping: Mapping | undefined
  #smbBase: number | undefined
  #smbMapping: Mapping | undefined

  /** With `hasSmm` the firmware has to set system management mode up. */
  constructor(bus: Bus, pm: AcpiPm, smbus: SmbusHost, hasSmm: boolean = false) {
    this.#smbus = smbus
    this.#bus = bus
    this.#pm = pm
    this.fn = new PciFunction('piix4-pm', bus, {
      vendor: 0x8086,
      device: 0x7113,
      revision: 0x03,
      classCode: 0x068000,
      interruptPin: 1,
    })
    const { config } = this.fn
    config.set(PCI_STATUS, 2, 0x0280)
    // Where it is set, and there is none, the firmware takes it that the mode is set up.
    config.set(DEVICE_ACTIVITY + 3, 1, hasSmm ? 0 : APMC_EN)
    if (hasSmm) config.allowWrites(DEVICE_ACTIVITY + 3, 1, 0xff)
    config.set(PM_BASE, 4, 0x0000_0001)
    config.allowWrites(PM_BASE, 4, 0x0000_ffc0)
    config.allowWrites(PM_REGISTERS, 1, PM_ENABLED)
    // SeaBIOS sets the same; UEFI firmware relies on it.
    config.set(SMB_BASE, 4, 0xb100 | 1)
    config.allowWrites(SMB_BASE, 4, SMB_BASE_MASK)
    config.set(SMB_CONFIG, 1, SMB_ENABLED | SMB_IRQ9)
    config.allowWrites(SMB_CONFIG, 1, 0x0f)
    config.seal()
    this.fn.onConfigWrite = () => this.remap()
  }

  /** A write to the SMI command port raises an SMI. */
  get isCommandEnabled(): boolean {
    return (this.fn.config.data[DEVICE_ACTIVITY + 3]! & APMC_EN) !== 0
  }

  /** Puts the blocks where the registers say. */
  remap(): void {
    this.#remapSmbus()
    const { config } = this.fn
    const programmed = config.get32(PM_BASE) & PM_BASE_MASK
    const enabled = (config.data[PM_REGISTERS]! & PM_ENABLED) !== 0
    const base = enabled && programmed !== 0 ? programmed : undefined
    if (base === this.#base) return
    this.#mapping?.unmap()
    this.#base = base
    this.#mapping =
      base === undefined
        ? undefined
        : this.#bus.pio.map({
            name: 'acpi-pm',
            base,
            len: PM1_BYTES,
            priority: -1,
            mayOverlap: true,
            handler: this.#pm.pm1,
          })
  }

  #remapSmbus(): void {
    const { config } = this.fn
    const programmed = config.get32(SMB_BASE) & SMB_BASE_MASK
    const enabled = (config.data[SMB_CONFIG]! & SMB_ENABLED) !== 0
    const base = enabled && programmed !== 0 ? programmed : undefined
    if (base === this.#smbBase) return
    this.#smbMapping?.unmap()
    this.#smbBase = base
    const place = { name: 'smbus', len: SMB_BYTES, priority: -1, mayOverlap: true } as const
    this.#smbMapping =
      base === undefined
        ? undefined
        : this.#bus.pio.map({ ...place, base, access: { max: 1 }, handler: this.#smbus })
  }
}
