import { Ahci } from '../chipset/ahci/ahci.ts'
import type { DeviceType } from './device-type.ts'
import { romProperties } from './option-rom.ts'
import { PCI_ADDRESS_PROPERTIES, firmwarePath, plugFunction } from './pci-address.ts'

function ahciType(name: string): DeviceType {
  return {
    name,
    bus: 'PCI',
    category: 'Storage devices',
    description: 'SATA controller of the ICH9 with six ports; drives name them by bus=ID.0 to ID.5',
    properties: [...PCI_ADDRESS_PROPERTIES, ...romProperties()],
    plug(context, option) {
      const device = new Ahci(option.id ?? option.driver, context.bus, context.memory, {
        sendMessage: context.sendMessage,
        // Two for each channel or port that there is already.
        firstSerial: 1 + 2 * context.ataBuses.length,
      })
      const address = plugFunction(context, device.fn, option)
      device.firmwarePath = firmwarePath('pci8086,2922', address)
      context.ataBuses.push(...device.buses)
      return device
    },
  }
}

/** Both names that QEMU has for it. */
export const ahciTypes: readonly DeviceType[] = [ahciType('ich9-ahci'), ahciType('ahci')]
