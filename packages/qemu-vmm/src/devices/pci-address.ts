import type { PciBus } from '../chipset/pci/bus.ts'
import type { PciFunction } from '../chipset/pci/function.ts'
import { readRom } from '../chipset/pci/rom.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, PropertySpec } from './device-type.ts'
import { propertyReader } from './properties.ts'

/** The property that says where on the bus a PCI device is. */
export const PCI_ADDRESS_PROPERTY: PropertySpec = {
  name: 'addr',
  type: 'int32',
  help: 'Slot and optional function number, example: 06.0 or 06',
}

/** Properties of the expansion ROM that any PCI device may have. */
export const PCI_ROM_PROPERTIES: readonly PropertySpec[] = [
  { name: 'romfile', type: 'str', help: 'File of an option ROM that firmware runs' },
  { name: 'rombar', type: 'bool', help: 'Whether the ROM is there', default: 'on' },
]

/** Where a function is on bus 0. */
export interface PciAddress {
  slot: number
  functionNumber: number
}

/** The node of a function in an Open Firmware path; `name` is that of its class. */
export function firmwarePath(name: string, { slot, functionNumber }: PciAddress): string {
  const fn = functionNumber === 0 ? '' : `,${functionNumber.toString(16)}`
  return `/pci@i0cf8/${name}@${slot.toString(16)}${fn}`
}

function addRom(fn: PciFunction, option: DeviceOption): void {
  const read = propertyReader(option)
  const file = read.text('romfile')
  if (!read.bool('rombar', true) || file === undefined || file === '') return
  fn.addRom(readRom(file))
}

/** Puts a function where its option says, or into the next free slot. */
export function plugFunction(pci: PciBus, fn: PciFunction, option: DeviceOption): PciAddress {
  addRom(fn, option)
  const text = option.properties['addr']
  if (text === undefined) return { slot: pci.add(fn).slot, functionNumber: 0 }
  const match = /^(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?$/i.exec(text)
  const slot = match === null ? Number.NaN : Number.parseInt(match[1] ?? '', 16)
  if (!(slot < 32)) {
    throw new VmmError(
      'E_DEVICE_OPTION',
      `Property '${option.driver}.addr' doesn't take value '${text}': a slot from 0 to 1f and ` +
        'a function from 0 to 7, as in 06.0',
      { fields: { device: option.driver, addr: text } },
    )
  }
  const functionNumber = Number(match?.[2] ?? 0)
  pci.add(fn, slot, functionNumber)
  return { slot, functionNumber }
}
