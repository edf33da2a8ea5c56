import { MemFlag } from 'kvm-core'
import type { Vm } from 'kvm-core'

import type { Bus } from './bus.ts'

/** A range of an address space, and what answers there. Plain data. */
export interface AddressRange {
  space: 'memory' | 'I/O'
  kind: 'ram' | 'rom' | 'i/o'
  base: number
  length: number
  /** Of two ranges that overlap the higher one answers. */
  priority: number
  name: string
}

const device = (
  space: AddressRange['space'],
  name: string,
  base: number,
  length: number,
): AddressRange => ({ space, kind: 'i/o', base, length, priority: 0, name })

/** What kvm-core has by itself, as the kernel's irqchip has it. */
const IRQCHIP: readonly AddressRange[] = [
  device('memory', 'ioapic', 0xfec0_0000, 0x1000),
  device('memory', 'apic', 0xfee0_0000, 0x1000),
  device('I/O', 'pic', 0x20, 2),
  device('I/O', 'pic', 0xa0, 2),
  device('I/O', 'elcr', 0x4d0, 2),
]
const PIT: readonly AddressRange[] = [
  device('I/O', 'pit', 0x40, 4),
  device('I/O', 'pcspk', 0x61, 1),
]

/** All that answers, by address: memory slots, devices, and what the engine has by itself. */
export function addressRanges(
  vm: Pick<Vm, 'userMemoryRegions' | 'getPit2'>,
  bus: Bus,
): AddressRange[] {
  const slots = vm.userMemoryRegions().map(({ slot, gpa, size, flags = 0 }): AddressRange => {
    const isRom = (flags & MemFlag.Readonly) !== 0
    const kind = isRom ? 'rom' : 'ram'
    return { space: 'memory', kind, base: gpa, length: size, priority: 1, name: `slot ${slot}` }
  })
  const devices = (['memory', 'I/O'] as const).flatMap((space) =>
    (space === 'memory' ? bus.mmio : bus.pio)
      .regions()
      .map(({ name, base, len, priority = 0 }): AddressRange => {
        return { ...device(space, name, base, len), priority }
      }),
  )
  return [...slots, ...devices, ...IRQCHIP, ...(hasPit(vm) ? PIT : [])].toSorted(
    (a, b) => a.base - b.base || b.length - a.length,
  )
}

function hasPit(vm: Pick<Vm, 'getPit2'>): boolean {
  try {
    vm.getPit2()
    return true
  } catch {
    return false
  }
}
