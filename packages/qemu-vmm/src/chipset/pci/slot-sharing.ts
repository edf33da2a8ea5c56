import { VmmError } from '../../errors.ts'
import type { PciBus } from './bus.ts'
import { PCI_HEADER_TYPE } from './config-space.ts'
import type { PciFunction } from './function.ts'

const MULTIFUNCTION = 0x80
const FUNCTIONS = 8

/**
 * Functions share a slot when function 0 says that there are others, and guests look for these only
 * when they find it: while the machine runs it has to come last.
 *
 * @throws VmmError `E_CONFIG`
 */
export function checkShares(bus: PciBus, fn: PciFunction, slot: number, number: number): void {
  const place = (n: number): string => `${slot.toString(16)}.${n}`
  if (number > 0) {
    const first = bus.function(slot, 0)
    if (first === undefined) return
    if (fn.isHotplugged) {
      throw refused(
        fn,
        `PCI: slot ${slot} function 0 already occupied by ${first.name}, new func ${fn.name} cannot ` +
          'be exposed to guest; plug in function 0 last',
      )
    }
    if (hasOthers(first)) return
    throw refused(
      fn,
      `PCI: single function device can't be populated in function ${place(number)}; give ` +
        `${first.name} multifunction=on`,
    )
  }
  if (hasOthers(fn)) return
  for (let other = 1; other < FUNCTIONS; other++) {
    if (bus.function(slot, other) === undefined) continue
    throw refused(
      fn,
      `PCI: ${place(0)} indicates single function, but ${place(other)} is already populated; give ` +
        `${fn.name} multifunction=on`,
    )
  }
}

function hasOthers(fn: PciFunction): boolean {
  return (fn.config.data[PCI_HEADER_TYPE]! & MULTIFUNCTION) !== 0
}

function refused(fn: PciFunction, message: string): VmmError {
  return new VmmError('E_CONFIG', message, { fields: { device: fn.name } })
}
