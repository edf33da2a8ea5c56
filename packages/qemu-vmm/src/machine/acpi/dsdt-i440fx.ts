import { PIIX4_CPU_HOTPLUG_PORT } from '../../chipset/acpi-cpu-hotplug.ts'
import { PIIX4_PCI_HOTPLUG_PORT } from '../../chipset/pci/acpi-hotplug.ts'
import { PIRQ_ROUTE } from '../../chipset/pci/piix.ts'
import { SCI_GSI } from '../chipset.ts'
import { cpuHotplugRegisters } from './cpu-hotplug.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import type { DsdtConfig } from './dsdt.ts'
import { firmwareConfig, isaDevices } from './isa-devices.ts'
import type { IsaConfig } from './isa-devices.ts'
import { fixedLink, linkDevice, routingTable } from './links.ts'
import { pciHotplug } from './pci-hotplug.ts'
import { rootResources } from './root-resources.ts'

const LINKS = ['LNKA', 'LNKB', 'LNKC', 'LNKD'] as const

/** The PCI root of the i440FX board and its interrupt links. */
export function i440fxRoot(config: DsdtConfig): Aml[] {
  return [
    aml.device(
      'PCI0',
      aml.name('_HID', aml.eisaId('PNP0A03')),
      aml.name('_UID', aml.int(0)),
      aml.name('_CRS', rootResources(config)),
      aml.name('_PRT', routingTable(linkOf)),
      isaBridge(config),
      firmwareConfig(),
      cpuHotplugRegisters(PIIX4_CPU_HOTPLUG_PORT),
      ...(config.hotplug === undefined ? [] : pciHotplug(PIIX4_PCI_HOTPLUG_PORT, config.hotplug)),
    ),
    ...LINKS.map((link, i) => linkDevice(link, i + 1, `\\_SB.PCI0.ISA.PRQ${i}`)),
    fixedLink('LNKS', LINKS.length + 1, SCI_GSI),
  ]
}

/** Pin p of slot s goes to link (s + p - 1) mod 4; the power function's pin is the SCI. */
function linkOf(slot: number, pin: number): string {
  return slot === 1 && pin === 0 ? 'LNKS' : LINKS[((slot + pin + 3) & 3) as 0 | 1 | 2 | 3]
}

function isaBridge(config: IsaConfig): Aml {
  return aml.device(
    'ISA',
    aml.name('_ADR', aml.int(0x0001_0000)),
    aml.operationRegion('PIRQ', aml.REGION_PCI_CONFIG, PIRQ_ROUTE, 4),
    aml.byteFields(
      'PIRQ',
      LINKS.map((_, i) => [`PRQ${i}`, 8] as const),
    ),
    ...isaDevices(config),
  )
}
