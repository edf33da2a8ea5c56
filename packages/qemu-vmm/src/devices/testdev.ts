import { PcTestDev } from '../chipset/pc-testdev.ts'
import { PciTestDev } from '../chipset/pci/testdev.ts'
import type { DeviceType } from './device-type.ts'
import { PCI_ADDRESS_PROPERTIES, plugFunction } from './pci-address.ts'

const ISA_IRQS = 16

export const pcTestdev: DeviceType = {
  name: 'pc-testdev',
  bus: 'ISA',
  category: 'Misc devices',
  description: 'what tests of x86 machines talk to: ports, interrupt lines, device memory',
  properties: [],
  plug({ bus, irqs }) {
    return new PcTestDev(
      bus,
      Array.from({ length: ISA_IRQS }, (_, irq) => irqs.source(irq)),
    )
  },
}

export const pciTestdev: DeviceType = {
  name: 'pci-testdev',
  bus: 'PCI',
  category: 'Misc devices',
  description: 'PCI Test Device: counts writes to its BARs',
  hotpluggable: true,
  properties: PCI_ADDRESS_PROPERTIES,
  plug(context, option) {
    const device = new PciTestDev(option.id ?? option.driver, context.bus)
    plugFunction(context, device.fn, option)
    return device
  },
}
