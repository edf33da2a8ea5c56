import type { Bus } from '../../machine/bus.ts'
import { PCI_COMMAND, PCI_STATUS } from './config-space.ts'
import { PciFunction } from './function.ts'
import { SMRAM_DEFAULT, SMRAM_WRITABLE, lockSmram, smramView } from '../smm.ts'
import type { SmmControl } from '../smm.ts'
import { PAM_AREAS, PAM_COUNT, PAM_FIRST, pamModes } from './pam.ts'
import type { ShadowControl } from './pam.ts'

const SMRAM = 0x72
const PAM_ALL_RAM = 0x33

/** The 82441FX host bridge (PMC) at 00.0: its registers say what is below 1 MiB. */
export class HostBridge {
  readonly fn: PciFunction
  readonly #shadow: ShadowControl | undefined
  readonly #modes: Uint8Array = new Uint8Array(PAM_AREAS.length)

  /** Without `shadow` the registers can be set and read back, and nothing more. */
  constructor(bus: Bus, shadow?: ShadowControl, smm?: SmmControl) {
    this.#shadow = shadow
    this.fn = new PciFunction('i440fx', bus, {
      vendor: 0x8086,
      device: 0x1237,
      revision: 0x02,
      classCode: 0x060000,
    })
    const { config } = this.fn
    config.set(PCI_COMMAND, 2, 0x0006)
    config.set(PCI_STATUS, 2, 0x0280)
    config.allowWrites(0x50, 2, 0xffff)
    config.allowWrites(0x57, 1, 0xff)
    config.allowWrites(PAM_FIRST, 1, 0x30)
    for (let i = 1; i < PAM_COUNT; i++) config.allowWrites(PAM_FIRST + i, 1, PAM_ALL_RAM)
    config.set(SMRAM, 1, SMRAM_DEFAULT)
    config.allowWrites(SMRAM, 1, SMRAM_WRITABLE)
    // Firmware tells by its copy in RAM that it has run before when the processors alone are reset, or
    // the machine wakes up.
    config.keepOverReset(PAM_FIRST, PAM_COUNT)
    config.seal()
    this.fn.onConfigWrite = (offset, size) => {
      if (offset < PAM_FIRST + PAM_COUNT && offset + size > PAM_FIRST) this.#update()
      if (smm !== undefined && offset <= SMRAM && offset + size > SMRAM) {
        smm.show(smramView(lockSmram(config, SMRAM)))
      }
    }
  }

  /** What firmware does that is done with shadowing: RAM everywhere. */
  showRam(): void {
    this.#setAll(PAM_ALL_RAM)
  }

  /** What the reset of PCI does: the BIOS is seen as after power-on (82441FX data sheet, 3.2.16). */
  hideRam(): void {
    this.#setAll(0)
  }

  #setAll(pam: number): void {
    for (let i = 0; i < PAM_COUNT; i++) this.fn.configWrite(PAM_FIRST + i, 1, pam)
  }

  #update(): void {
    pamModes(this.fn.config.data, this.#modes)
    this.#shadow?.show(this.#modes)
  }
}
