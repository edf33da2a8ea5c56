import type { DeviceOption, DeviceType } from '../devices/device-type.ts'
import { deviceTypes } from '../devices/registry.ts'
import { VmmError } from '../errors.ts'

/** A device on the PCI or the ISA bus, and those on the bus that it provides. */
export interface Slot {
  readonly type: DeviceType
  readonly option: DeviceOption
  readonly children: readonly DeviceOption[]
}

/** Which device is plugged in where. Throws `E_DEVICE_OPTION` for what cannot be. */
export function slots(options: readonly DeviceOption[]): Slot[] {
  const found: (Slot & { children: DeviceOption[] })[] = []
  for (const option of options) {
    const type = typeOf(option)
    if (type.bus !== 'virtio-serial-bus') found.push({ type, option, children: [] })
    else busFor(option, type, found).children.push(option)
  }
  return found
}

/** The kind that an option names. Throws `E_DEVICE_OPTION` for one, or a property, that is not there. */
export function typeOf(option: DeviceOption): DeviceType {
  const type = deviceTypes.find(({ name }) => name === option.driver)
  if (type === undefined) {
    throw new VmmError('E_DEVICE_OPTION', `'${option.driver}' is not a valid device model name`, {
      fields: { device: option.driver },
    })
  }
  const known = type.properties.map(({ name }) => name)
  const unknown = Object.keys(option.properties).find((name) => !known.includes(name))
  if (unknown === undefined) return type
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Property '${option.driver}.${unknown}' not found; it has ${known.join(', ')}`,
    { fields: { device: option.driver, property: unknown } },
  )
}

/** The bus that `bus=` names, or the last one of the kind. */
function busFor<S extends Slot>(option: DeviceOption, type: DeviceType, found: readonly S[]): S {
  const name = option.properties['bus']
  const buses = found.filter((slot) => slot.type.name === 'virtio-serial-pci')
  const bus = buses.findLast((slot) => name === undefined || `${slot.option.id}.0` === name)
  if (bus !== undefined) return bus
  throw new VmmError(
    'E_DEVICE_OPTION',
    name === undefined
      ? `No '${type.bus}' bus found for device '${option.driver}': add a virtio-serial-pci before it`
      : `Bus '${name}' not found for device '${option.driver}'`,
    { fields: { device: option.driver } },
  )
}
