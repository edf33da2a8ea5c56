import { RootPort } from '../chipset/pci/root-port.ts'
import { VmmError } from '../errors.ts'
import type { DeviceType } from './device-type.ts'
import { PCI_ADDRESS_PROPERTIES, firmwarePath, plugFunction, segmentOf } from './pci-address.ts'
import { propertyReader } from './properties.ts'

/** Thirteen bits of the slot capabilities. */
const MAX_SLOT = 0x1fff

export const pcieRootPort: DeviceType = {
  name: 'pcie-root-port',
  bus: 'PCI',
  category: 'Controller/Bridge/Hub devices',
  description: 'PCI Express Root Port, whose ID is the name of the bus behind it',
  properties: [
    { name: 'port', type: 'uint8', help: 'Number of the port', default: '0' },
    { name: 'chassis', type: 'uint8', help: 'Number of the chassis', default: '0' },
    { name: 'slot', type: 'uint16', help: 'Number of the physical slot', default: '0' },
    {
      name: 'hotplug',
      type: 'bool',
      help: 'The device behind it can be another while the machine runs',
      default: 'true',
    },
    ...PCI_ADDRESS_PROPERTIES,
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const name = option.id ?? option.driver
    if (!segmentOf(context, option).bus.express) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `${name}: a pcie-root-port needs a bus of PCI Express; use the machine q35`,
        { fields: { device: name } },
      )
    }
    const chassis = read.int('chassis', 0, 0xff, 0)
    const slot = read.int('slot', 0, MAX_SLOT, 0)
    const other = context.chassisSlots.get(chassis * (MAX_SLOT + 1) + slot)
    if (other !== undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `slot ${slot} of chassis ${chassis} is taken by ${other}; give ${name} another slot= or chassis=`,
        { fields: { device: name, owner: other, slot, chassis } },
      )
    }
    context.chassisSlots.set(chassis * (MAX_SLOT + 1) + slot, name)
    const port = new RootPort(name, context.bus, {
      slot,
      port: read.int('port', 0, 0xff, 0),
      hotplug: read.bool('hotplug', true),
      sendMessage: context.sendMessage,
      removed: () => context.slotReleased(port.bus, 0),
      ...(context.acpiHotplug === undefined ? {} : { acpiHotplug: context.acpiHotplug }),
    })
    const address = plugFunction(context, port.fn, option)
    if (option.id !== undefined) {
      const path = firmwarePath('pci-bridge', address)
      context.pciBuses.set(option.id, {
        name: option.id,
        bus: port.bus,
        path,
      })
    }
    return port
  },
}
