import { type LinkSide, macText } from 'virtio'

import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { PciFunction } from '../chipset/pci/function.ts'
import type { DeviceType } from './device-type.ts'
import { macAddress } from './mac-address.ts'
import type { PlugContext } from './plug-context.ts'
import { type Card, PluggedCard } from './plugged-card.ts'
import { nicRom } from './nic-rom.ts'
import { romProperties } from './option-rom.ts'
import { PCI_ADDRESS_PROPERTIES, firmwarePath, plugFunction, segmentOf } from './pci-address.ts'
import { propertyReader } from './properties.ts'

/** A card on a PCI bus, made from its network and its address alone. */
interface PlainCard extends Card {
  readonly fn: PciFunction
}

/** What all of them are told; not all need all of it. */
export interface PlainCardOptions extends Pick<PlugContext, 'clock' | 'sendMessage'> {
  /** Where it is plugged in. */
  side: LinkSide
  /** 6 bytes. */
  mac: Uint8Array
  /** It is on a bus that is no port of PCI Express, but the root of it. */
  isIntegrated: boolean
}

type PlainCardClass = new (
  name: string,
  bus: PlugContext['bus'],
  memory: PlugContext['memory'],
  options: PlainCardOptions,
) => PlainCard

/** The device of such a card; what it is called for guests and people is all that differs. */
export function plainCard(name: string, description: string, Model: PlainCardClass): DeviceType {
  const rom = nicRom(name)
  return {
    name,
    bus: 'PCI',
    category: 'Network devices',
    description,
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
      ...romProperties(rom),
    ],
    plug(context, option) {
      const owner = option.id ?? option.driver
      const netdev = propertyReader(option).required('netdev')
      const mac = macAddress(context, option)
      const { bus } = segmentOf(context, option)
      const side = context.netdev(netdev, { name: owner, model: option.driver, mac: macText(mac) })
      const device = new Model(owner, context.bus, context.memory, {
        side,
        mac,
        clock: context.clock,
        sendMessage: context.sendMessage,
        isIntegrated: bus.express && bus === context.pci,
      })
      const address = plugFunction(context, device.fn, option, rom)
      addBootIndex(context, option, `${firmwarePath('ethernet', address)}/ethernet-phy@0`)
      return new PluggedCard(device)
    },
  }
}
