import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_INTERRUPT_LINE } from './config-space.ts'
import { PCI_COMMAND_IO, PCI_COMMAND_MEMORY } from './config-space.ts'
import { PIRQ_ROUTE } from './piix.ts'
import type { PciBus } from './bus.ts'
import { VmmError } from '../../errors.ts'

/** Ports that firmware gives to devices, as SeaBIOS does. */
const PORTS_START = 0xc000
const PORTS_END = 0x1_0000
const LEAST_MEMORY = 0x1000

/** The window for PCI memory below 4 GiB. */
export interface PciWindow {
  start: number
  end: number
}

interface Wish {
  name: string
  bytes: number
  place(base: number): void
}

/**
 * Gives every BAR an address and every pin the interrupt line of its route, as firmware does
 * before it starts a kernel. The largest come first, so that nothing is lost to alignment.
 *
 * Throws `E_CONFIG` when the window is too small.
 */
export function assignResources(bus: PciBus, window: PciWindow): void {
  const memory: Wish[] = []
  const ports: Wish[] = []
  for (const { slot, fn } of bus.functions()) {
    for (const { register, bar } of fn.bars) {
      const at = PCI_BASE_ADDRESS_0 + register * 4
      const wishes = bar.space === 'pio' ? ports : memory
      wishes.push({
        name: `BAR ${register} of ${fn.name}`,
        bytes: bar.space === 'pio' ? bar.size : Math.max(bar.size, LEAST_MEMORY),
        place(base) {
          fn.configWrite(at, 4, base)
          if (bar.is64) fn.configWrite(at + 4, 4, 0)
          const decodes = bar.space === 'pio' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY
          fn.configWrite(PCI_COMMAND, 2, fn.config.get16(PCI_COMMAND) | decodes)
        },
      })
    }
    const pirq = bus.pirqOf(slot, fn)
    const router = bus.function(1, 0)
    if (pirq !== undefined && router !== undefined && fn.bars.length > 0) {
      fn.configWrite(PCI_INTERRUPT_LINE, 1, router.configRead(PIRQ_ROUTE + pirq, 1))
    }
  }
  place(memory, window.start, window.end)
  place(ports, PORTS_START, PORTS_END)
}

function place(wishes: readonly Wish[], start: number, end: number): void {
  let next = start
  for (const { name, bytes, place: put } of wishes.toSorted((a, b) => b.bytes - a.bytes)) {
    const base = Math.ceil(next / bytes) * bytes
    if (base + bytes > end) {
      throw new VmmError(
        'E_CONFIG',
        `${name} wants ${bytes} addresses, but the PCI window from 0x${start.toString(16)} to ` +
          `0x${end.toString(16)} is full; use fewer devices`,
        { fields: { device: name, bytes } },
      )
    }
    put(base)
    next = base + bytes
  }
}
