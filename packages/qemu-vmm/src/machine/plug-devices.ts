import type { DeviceOption, DeviceType, PluggedDevice } from '../devices/device-type.ts'
import type { PlugContext } from '../devices/plug-context.ts'
import { deviceTypes } from '../devices/registry.ts'
import { VmmError } from '../errors.ts'

/** What plugging needs; the devices themselves are added as they come. */
export type PlugParts = Omit<PlugContext, 'devices'>

/** A device on the PCI or the ISA bus, and those on the bus that it provides. */
interface Slot {
  readonly type: DeviceType
  readonly option: DeviceOption
  readonly children: DeviceOption[]
}

/**
 * Plugs devices in, in order, under names that states and messages use: their ids, or
 * `driver[number]`.
 */
export function plugDevices(
  parts: PlugParts,
  options: readonly DeviceOption[],
): ReadonlyMap<string, PluggedDevice> {
  const byId = new Map<string, PluggedDevice>()
  const byName = new Map<string, PluggedDevice>()
  for (const [index, { type, option, children }] of slots(options).entries()) {
    const device = type.plug?.({ ...parts, devices: byId }, option, children)
    if (device === undefined) continue
    byName.set(option.id ?? `${option.driver}[${index}]`, device)
    if (option.id !== undefined) byId.set(option.id, device)
  }
  return byName
}

/** Which device is plugged in where. */
function slots(options: readonly DeviceOption[]): Slot[] {
  const found: Slot[] = []
  for (const option of options) {
    const type = typeOf(option)
    if (type.bus !== 'virtio-serial-bus') found.push({ type, option, children: [] })
    else busFor(option, type, found).children.push(option)
  }
  return found
}

/** The bus that `bus=` names, or the last one of the kind. */
function busFor(option: DeviceOption, type: DeviceType, found: readonly Slot[]): Slot {
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

function typeOf(option: DeviceOption): DeviceType {
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
