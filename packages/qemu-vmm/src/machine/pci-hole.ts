import type { PciBus } from '../chipset/pci/bus.ts'
import { PCI_BASE_ADDRESS_0 } from '../chipset/pci/config-space.ts'
import type { PciWindow } from '../chipset/pci/assign.ts'

const GIB4 = 0x1_0000_0000
const MIB = 1 << 20
/** Beyond it no CPU model here has addresses. */
const ADDRESS_END = 2 ** 40

/**
 * The window for PCI memory above 4 GiB: what the machine has for it, and what firmware has put
 * elsewhere.
 */
export function highWindow(bus: PciBus, usual: PciWindow | undefined): PciWindow | undefined {
  let { start, end } = usual ?? { start: ADDRESS_END, end: 0 }
  for (const fn of bus.allFunctions()) {
    for (const { register, bar } of fn.bars) {
      if (bar.is64 !== true) continue
      const at = PCI_BASE_ADDRESS_0 + register * 4
      const high = fn.config.get32(at + 4)
      const base = high * GIB4 + ((fn.config.get32(at) & -bar.size) >>> 0)
      if (base < GIB4 || base + bar.size > ADDRESS_END) continue
      start = Math.min(start, Math.floor(base / MIB) * MIB)
      end = Math.max(end, Math.ceil((base + bar.size) / MIB) * MIB)
    }
  }
  return start < end ? { start, end } : undefined
}
