import type { IoHandler, Stateful } from '../device.ts'
import type { Bus } from '../machine/bus.ts'
import { PciFunction } from './pci/function.ts'

/** What a guest tells (docs/specs/pvpanic of QEMU). */
export const PVPANIC_PANICKED = 1
export const PVPANIC_CRASH_LOADED = 2
export const PVPANIC_EVENTS: number = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED
export const PVPANIC_PORT = 0x505

const IDENTITY = { vendor: 0x1b36, device: 0x0011, classCode: 0x08_8000, revision: 1 } as const
/** The least that a memory BAR has. */
const BAR_BYTES = 16

/** Who is told that the guest's kernel has died, or that another one takes over to dump it. */
export interface PanicListener {
  panicked(): void
  crashLoaded(): void
}

/** The register: reads give the events that may be written, one bit each. */
export function pvpanicRegister(events: number, listener: PanicListener): IoHandler {
  return {
    read: (offset) => (offset === 0 ? events : 0),
    write(offset, _size, value) {
      if (offset !== 0) return
      if ((value & PVPANIC_PANICKED) !== 0) listener.panicked()
      else if ((value & PVPANIC_CRASH_LOADED) !== 0) listener.crashLoaded()
    },
  }
}

/** The register as a PCI function. It has no state of its own. */
export class PvpanicPci implements Stateful {
  readonly fn: PciFunction

  constructor(name: string, bus: Bus, events: number, listener: PanicListener) {
    this.fn = new PciFunction(name, bus, IDENTITY)
    const handler = pvpanicRegister(events, listener)
    this.fn.addBar(0, { space: 'mmio', size: BAR_BYTES, access: { max: 1 }, handler })
  }

  reset(): void {}

  save(): unknown {
    return {}
  }

  load(): void {}
}
