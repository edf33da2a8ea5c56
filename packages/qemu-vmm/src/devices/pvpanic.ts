import { PVPANIC_EVENTS, PVPANIC_PORT, PvpanicPci, pvpanicRegister } from '../chipset/pvpanic.ts'
import { defineDevice } from '../device.ts'
import type { DeviceType, PropertySpec } from './device-type.ts'
import { plugIsa } from './isa.ts'
import { PCI_ADDRESS_PROPERTIES, plugFunction } from './pci-address.ts'
import { propertyReader } from './properties.ts'

const PORT_MAX = 0xffff
const EVENTS: PropertySpec = {
  name: 'events',
  type: 'uint8',
  help: 'Events that the guest may tell: 1 panicked, 2 crash loaded',
  default: String(PVPANIC_EVENTS),
}

export const pvpanic: DeviceType = {
  name: 'pvpanic',
  bus: 'ISA',
  category: 'Misc devices',
  description: 'by which a guest tells that its kernel has panicked; see -action',
  properties: [
    { name: 'ioport', type: 'uint16', help: 'Port', default: String(PVPANIC_PORT) },
    EVENTS,
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const base = read.int('ioport', 0, PORT_MAX, PVPANIC_PORT)
    const register = pvpanicRegister(read.int('events', 0, 0xff, PVPANIC_EVENTS), context.panic)
    const device = plugIsa(
      context,
      option,
      defineDevice({
        name: 'pvpanic',
        pio: { base, len: 1 },
        access: { max: 1 },
        create: () => ({ ...register, reset() {}, save: () => ({}), load() {} }),
      }),
    )
    context.isaDevices.push({ kind: 'pvpanic', base })
    return device
  },
}

export const pvpanicPci: DeviceType = {
  name: 'pvpanic-pci',
  bus: 'PCI',
  category: 'Misc devices',
  description: 'the same as pvpanic, on PCI',
  properties: [EVENTS, ...PCI_ADDRESS_PROPERTIES],
  plug(context, option) {
    const events = propertyReader(option).int('events', 0, 0xff, PVPANIC_EVENTS)
    const device = new PvpanicPci(option.id ?? option.driver, context.bus, events, context.panic)
    plugFunction(context, device.fn, option)
    return device
  },
}
