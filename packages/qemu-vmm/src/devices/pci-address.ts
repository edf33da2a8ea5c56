import type { PciBus } from '../chipset/pci/bus.ts'
import { PCI_HEADER_TYPE } from '../chipset/pci/config-space.ts'
import type { PciFunction } from '../chipset/pci/function.ts'
import { VmmError } from '../errors.ts'
import type { FirmwareFile } from '../firmware/find.ts'
import type { DeviceOption, PropertySpec } from './device-type.ts'
import { addOptionRom } from './option-rom.ts'
import type { RomContext } from './option-rom.ts'
import type { PlugContext } from './plug-context.ts'
import type { PlugLife } from './plug-place.ts'
import { propertyReader } from './properties.ts'

/** The properties that say where a PCI device is. */
export const PCI_ADDRESS_PROPERTIES: readonly PropertySpec[] = [
  { name: 'bus', type: 'str', help: 'Bus to plug into: pci.0, pcie.0, or the ID of a port' },
  {
    name: 'addr',
    type: 'int32',
    help: 'Slot and optional function number, example: 06.0 or 06',
  },
  {
    name: 'multifunction',
    type: 'bool',
    help: 'Whether there are more functions in the slot',
    default: 'off',
  },
  {
    name: 'acpi-index',
    type: 'uint32',
    help: 'Number for the name of the device in the guest, from 1 to 16383, as enoN of a network card',
    default: '0',
  },
]

/** More make no names in guests (systemd.net-naming-scheme). */
const MAX_ACPI_INDEX = 16_383

/** The Open Firmware path of the first bus. */
export const PCI_PATH = '/pci@i0cf8'
const MULTIFUNCTION = 0x80

/** A bus, and its Open Firmware path. */
export interface PciSegment {
  /** As `bus=` has it. */
  readonly name: string
  readonly bus: PciBus
  readonly path: string
}

/** Where a function is. */
export interface PciAddress {
  slot: number
  functionNumber: number
  /** The Open Firmware path of its bus. */
  path: string
}

/** The Open Firmware path of a function; `name` is that of its class. */
export function firmwarePath(name: string, { slot, functionNumber, path }: PciAddress): string {
  const fn = functionNumber === 0 ? '' : `,${functionNumber.toString(16)}`
  return `${path}/${name}@${slot.toString(16)}${fn}`
}

/** The bus that an option names, the first one by default. Throws `E_DEVICE_OPTION` when there is none. */
export function segmentOf(
  { pciBuses }: Pick<PlugContext, 'pciBuses'>,
  option: DeviceOption,
): PciSegment {
  const names = [...pciBuses.keys()]
  const name = option.properties['bus'] ?? names[0]!
  const segment = pciBuses.get(name)
  if (segment !== undefined) return segment
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Bus '${name}' not found for device '${option.driver}' (there are ${names.join(', ')})`,
    { fields: { device: option.id ?? option.driver, bus: name } },
  )
}

/**
 * Puts a function where its option says, or into the next free slot. `rom` is the option ROM that it has
 * unless the option says otherwise.
 */
export function plugFunction(
  context: Pick<PlugContext, 'pciBuses' | keyof PlugLife> & RomContext,
  fn: PciFunction,
  option: DeviceOption,
  rom?: FirmwareFile,
): PciAddress {
  const read = propertyReader(option)
  const { name: busName, bus, path } = segmentOf(context, option)
  fn.isHotplugged = context.isHotplugged
  addOptionRom(context, fn, option, rom)
  fn.acpiIndex = read.int('acpi-index', 0, MAX_ACPI_INDEX, 0)
  if (fn.acpiIndex !== 0) checkIndex(context, fn, bus, option)
  if (read.bool('multifunction', false)) {
    fn.config.set(PCI_HEADER_TYPE, 1, fn.config.data[PCI_HEADER_TYPE]! | MULTIFUNCTION)
    fn.config.seal()
  }
  const text = option.properties['addr']
  if (text === undefined) {
    const { slot } = bus.add(fn)
    context.placed({ busName, bus, slot, functionNumber: 0, fn })
    checkShown(fn, option)
    return { slot, functionNumber: 0, path }
  }
  const match = /^(?:0x)?([0-9a-f]{1,2})(?:\.(?:0x)?([0-7]))?$/i.exec(text)
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
  bus.add(fn, slot, functionNumber)
  context.placed({ busName, bus, slot, functionNumber, fn })
  checkShown(fn, option)
  return { slot, functionNumber, path }
}

/** The index is one of its own, and ACPI tells the guest of it. */
function checkIndex(
  { pciBuses }: Pick<PlugContext, 'pciBuses'>,
  { acpiIndex }: PciFunction,
  bus: PciBus,
  option: DeviceOption,
): void {
  const fields = { device: option.id ?? option.driver, index: acpiIndex }
  const refuse = (why: string): VmmError =>
    new VmmError('E_DEVICE_OPTION', `acpi-index=${acpiIndex}: ${why}`, { fields })
  for (const { bus: each } of pciBuses.values()) {
    for (const fn of each.allFunctions()) {
      if (fn.acpiIndex !== acpiIndex) continue
      throw refuse(`a PCI device with acpi-index = ${acpiIndex} already exist; give another`)
    }
  }
  if (bus.hotplug?.hasIndices !== true) {
    throw refuse(
      'ACPI describes no devices of this bus; use pci.0 of pc, or a pcie-root-port of q35',
    )
  }
}

/** Only what can come and go is in ACPI's tables. */
function checkShown({ acpiIndex, removable }: PciFunction, { driver, id }: DeviceOption): void {
  if (acpiIndex === 0 || removable) return
  throw new VmmError(
    'E_DEVICE_OPTION',
    `acpi-index=${acpiIndex}: ACPI describes devices that can be plugged in and out, and no ${driver}; leave it out`,
    { fields: { device: id ?? driver, index: acpiIndex } },
  )
}
