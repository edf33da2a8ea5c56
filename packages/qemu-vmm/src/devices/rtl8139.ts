import { macText } from 'virtio'

import { Rtl8139 } from '../chipset/rtl8139/rtl8139.ts'
import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { DeviceType } from './device-type.ts'
import { macAddress } from './mac-address.ts'
import { PluggedCard } from './plugged-card.ts'
import {
  PCI_ADDRESS_PROPERTIES,
  PCI_ROM_PROPERTIES,
  firmwarePath,
  plugFunction,
} from './pci-address.ts'
import { propertyReader } from './properties.ts'

export const rtl8139: DeviceType = {
  name: 'rtl8139',
  bus: 'PCI',
  category: 'Network devices',
  description: 'Realtek Fast Ethernet (8139C+), for old guests',
  hotpluggable: true,
  properties: [
    { name: 'netdev', type: 'str', help: 'ID of a netdev to use as a backend, required' },
    {
      name: 'mac',
      type: 'str',
      help: 'Ethernet 6-byte MAC Address',
      default: '52:54:00:12:34:56, and one more for each card',
    },
    BOOT_INDEX_PROPERTY,
    ...PCI_ADDRESS_PROPERTIES,
    ...PCI_ROM_PROPERTIES,
  ],
  plug(context, option) {
    const owner = option.id ?? option.driver
    const netdev = propertyReader(option).required('netdev')
    const mac = macAddress(context, option)
    const side = context.netdev(netdev, { name: owner, model: option.driver, mac: macText(mac) })
    const device = new Rtl8139(owner, context.bus, context.memory, {
      side,
      mac,
      clock: context.clock,
    })
    const address = plugFunction(context, device.fn, option)
    addBootIndex(context, option, `${firmwarePath('ethernet', address)}/ethernet-phy@0`)
    return new PluggedCard(device)
  },
}
