import type { Bus } from '../../machine/bus.ts'
import type { Mapping } from '../../machine/address-space.ts'
import type { IoHandler } from '../../device.ts'
import {
  AT_BASE_LOCKED,
  AT_BASE_QUERY,
  AT_BASE_THERE,
  D_LCK,
  ESMRAM_DEFAULT,
  ESMRAM_WRITABLE,
  SMRAM_DEFAULT,
  SMRAM_WRITABLE,
} from '../smm.ts'
import { lockSmram, smramView } from '../smm.ts'
import type { SmmControl } from '../smm.ts'
import { PciFunction } from './function.ts'
import { PAM_AREAS, PAM_COUNT, pamModes } from './pam.ts'
import type { ShadowControl } from './pam.ts'

/** Registers (Q35 data sheet, 5.1); what has no behaviour here is memory. */
const FIRST_OWN = 0x40
const LAST_OWN = 0xff
const EXTENDED_TSEG = 0x50
const PCIEXBAR = 0x60
const MCH_PAM_FIRST = 0x90
const SMBASE_SMRAM = 0x9c
const SMRAM = 0x9d
const ESMRAM = 0x9e
const EXTENDED_TSEG_MIB = 16
const PAM_ALL_RAM = 0x33

const PCIEXBAR_DEFAULT = 0xb000_0000
const ENABLE = 1
const LENGTH_SHIFT = 1
const MIB = 1 << 20
/** By the length field; 64 MiB are the least. */
const LENGTHS = [256 * MIB, 128 * MIB, 64 * MIB] as const

/** Where configuration space is in memory. */
export interface ConfigWindowPlace {
  base: number
  size: number
}

/** The memory controller hub (82Q35) at 00.0: what is below 1 MiB, and where configuration space is. */
export class Mch {
  readonly fn: PciFunction
  readonly #space: Bus
  readonly #shadow: ShadowControl | undefined
  readonly #modes: Uint8Array = new Uint8Array(PAM_AREAS.length)
  #place: ConfigWindowPlace | undefined
  #mapping: Mapping | undefined
  /** The register of the RAM around the first SMBASE before a write. */
  #base = 0
  /** What answers in the window. */
  configWindow: IoHandler | undefined

  /**
   * Without `shadow` the registers can be set and read back, and nothing more. With `hasBaseRam` the mode can
   * have the RAM around the first SMBASE to itself.
   */
  constructor(space: Bus, shadow?: ShadowControl, smm?: SmmControl, hasBaseRam: boolean = false) {
    this.#space = space
    this.#shadow = shadow
    this.fn = new PciFunction('mch', space, {
      vendor: 0x8086,
      device: 0x29c0,
      classCode: 0x060000,
    })
    const { config } = this.fn
    for (let at = FIRST_OWN; at <= LAST_OWN; at++) config.allowWrites(at, 1, 0xff)
    config.set(EXTENDED_TSEG, 2, EXTENDED_TSEG_MIB)
    config.set(PCIEXBAR, 4, PCIEXBAR_DEFAULT)
    const hasBase = hasBaseRam && smm !== undefined
    config.allowWrites(SMBASE_SMRAM, 4, hasBase ? AT_BASE_QUERY : 0)
    config.set(SMRAM, 1, SMRAM_DEFAULT)
    config.set(ESMRAM, 1, ESMRAM_DEFAULT)
    config.allowWrites(SMRAM, 1, SMRAM_WRITABLE)
    if (smm !== undefined) config.allowWrites(ESMRAM, 1, ESMRAM_WRITABLE)
    config.keepOverReset(MCH_PAM_FIRST, PAM_COUNT)
    config.seal()
    this.fn.onConfigWrite = (offset, size) => {
      const touches = (at: number, length: number): boolean =>
        offset < at + length && offset + size > at
      if (touches(MCH_PAM_FIRST, PAM_COUNT)) this.#showMemory()
      if (touches(PCIEXBAR, 8)) this.#moveWindow()
      // Firmware asks for the size with ones.
      if (config.get16(EXTENDED_TSEG) === 0xffff) config.set(EXTENDED_TSEG, 2, EXTENDED_TSEG_MIB)
      // A reset and a saved state bring all registers, and nothing that a guest has asked for.
      if (hasBase && touches(SMBASE_SMRAM, 1)) this.#baseRam(size < config.size)
      if (smm !== undefined && touches(SMBASE_SMRAM, 3)) {
        const smram = lockSmram(config, SMRAM)
        config.allowWrites(ESMRAM, 1, (smram & D_LCK) === 0 ? ESMRAM_WRITABLE : 0)
        const atBase = config.data[SMBASE_SMRAM]
        smm.show(smramView(smram, config.data[ESMRAM], EXTENDED_TSEG_MIB, atBase))
      }
    }
  }

  /** Where configuration space is in memory, if anywhere. */
  get place(): ConfigWindowPlace | undefined {
    return this.#place
  }

  /** What firmware does: RAM everywhere below 1 MiB, and configuration space in memory. */
  setUp(): void {
    this.#setAll(PAM_ALL_RAM)
    this.fn.configWrite(PCIEXBAR, 4, PCIEXBAR_DEFAULT | ENABLE)
  }

  /** What the reset of PCI does: the BIOS is seen as after power-on. */
  hideRam(): void {
    this.#setAll(0)
  }

  /**
   * The firmware asks with ones whether it can have that RAM, is told so, and locks it until reset. Before it has
   * asked nothing else can be written.
   */
  #baseRam(isWritten: boolean): void {
    const { config } = this.fn
    const value = config.data[SMBASE_SMRAM]!
    const next = !isWritten
      ? value & (AT_BASE_THERE | AT_BASE_LOCKED)
      : value === AT_BASE_QUERY
        ? AT_BASE_THERE
        : this.#base === 0
          ? 0
          : value & AT_BASE_LOCKED || value
    this.#base = next
    config.set(SMBASE_SMRAM, 1, next)
    const writable = next === 0 ? 0xff : next === AT_BASE_THERE ? AT_BASE_LOCKED : 0
    config.allowWrites(SMBASE_SMRAM, 1, writable)
  }

  #setAll(pam: number): void {
    for (let i = 0; i < PAM_COUNT; i++) this.fn.configWrite(MCH_PAM_FIRST + i, 1, pam)
  }

  #showMemory(): void {
    pamModes(this.fn.config.data, this.#modes, MCH_PAM_FIRST)
    this.#shadow?.show(this.#modes)
  }

  #moveWindow(): void {
    const next = this.#programmed()
    if (next?.base === this.#place?.base && next?.size === this.#place?.size) return
    this.#mapping?.unmap()
    this.#place = next
    this.#mapping =
      next === undefined
        ? undefined
        : this.#space.mmio.map({
            name: 'pci-config',
            base: next.base,
            len: next.size,
            priority: -2,
            mayOverlap: true,
            handler: {
              read: (offset, size) => this.configWindow?.read(offset, size) ?? 0xffffffff,
              write: (offset, size, value) => this.configWindow?.write(offset, size, value),
            },
          })
  }

  #programmed(): ConfigWindowPlace | undefined {
    const low = this.fn.config.get32(PCIEXBAR)
    const size = LENGTHS[(low >> LENGTH_SHIFT) & 3]
    if ((low & ENABLE) === 0 || size === undefined) return undefined
    // 36 bits, whatever is written.
    const high = this.fn.config.get32(PCIEXBAR + 4) & 0x0f
    const base = high * 0x1_0000_0000 + ((low & -size) >>> 0)
    return { base, size }
  }
}
