import {
  AcpiCpuHotplug,
  CPU_HOTPLUG_GPE,
  CPU_HOTPLUG_PORTS,
  PIIX4_CPU_HOTPLUG_PORT,
} from '../chipset/acpi-cpu-hotplug.ts'
import { AcpiPm, PIIX4_PM } from '../chipset/acpi-pm.ts'
import { PiixIde } from '../chipset/ide/piix-ide.ts'
import { assignResources } from '../chipset/pci/assign.ts'
import {
  AcpiPciHotplug,
  PCI_HOTPLUG_GPE,
  PCI_HOTPLUG_PORTS,
  PIIX4_PCI_HOTPLUG_PORT,
} from '../chipset/pci/acpi-hotplug.ts'
import { PciHost } from '../chipset/pci/host.ts'
import { HostBridge } from '../chipset/pci/i440fx.ts'
import { PIRQ_ROUTE, PM_BASE, PM_BASE_MASK, Piix3, Piix4Pm } from '../chipset/pci/piix.ts'
import { SmbusHost } from '../chipset/smbus.ts'
import type { Bus } from './bus.ts'
import { PM_BASE_PORT, SCI_GSI, needsAcpi } from './chipset.ts'
import type { Chipset, ChipsetParts } from './chipset.ts'

const ISA_IRQS = 16
/** The interrupt of the power management function, with which the SMBus shares it. */
const SMB_IRQ = 9
/** The general-purpose events of the PIIX4 have ports of their own. */
const PIIX4_GPE0_PORT = 0xafe0

/** i440FX host bridge, PIIX3 with its IDE controller, PIIX4 power management. */
export function createI440fx(parts: ChipsetParts): Chipset {
  const { bus, irqs, clock, memory, actions, shadow, smm, hasAcpi } = parts
  const pm = new AcpiPm(irqs.source(SCI_GSI), clock, actions)
  const lines = Array.from({ length: ISA_IRQS }, (_, irq) => irqs.source(irq))
  const piix3 = new Piix3(bus, lines)
  const smbIrq = irqs.source(SMB_IRQ)
  const smbus = new SmbusHost((level) => smbIrq.set(level), bus.unknownOf('smbus'))
  const piix4 = new Piix4Pm(bus, pm, smbus, smm !== undefined)
  const bridge = new HostBridge(bus, shadow, smm)
  if (smm !== undefined) {
    pm.onCommand = () => {
      // The pin goes to the boot processor alone.
      if (piix4.isCommandEnabled) smm.interrupt(0)
    }
  }
  const ide = new PiixIde(bus, memory, [irqs.source(14), irqs.source(15)])
  const pci = new PciHost({
    // Each slot's INTA goes to another PIRQ, so that single-function cards spread out.
    line: (slot, pin) => (slot + pin - 2) & 3,
    drive: (pirq, level) => piix3.setPirq(pirq, level),
  })
  pci.add(bridge.fn, 0, 0)
  pci.add(piix3.fn, 1, 0)
  pci.add(ide.fn, 1, 1)
  const acpiHotplug = new AcpiPciHotplug(pci, () => pm.raiseGpe(PCI_HOTPLUG_GPE))
  const cpuHotplug = new AcpiCpuHotplug(parts.cpus, () => pm.raiseGpe(CPU_HOTPLUG_GPE))
  // Without ACPI the board has neither this function nor its ports.
  if (hasAcpi) {
    pci.add(piix4.fn, 1, 3)
    acpiHotplug.manage(pci)
    mapAcpiPorts(bus, pm, acpiHotplug, cpuHotplug)
  }
  return {
    pci,
    pciBusName: 'pci.0',
    ...(hasAcpi ? { acpiHotplug } : {}),
    cpuHotplug,
    checkCpuHotplug() {
      if (!hasAcpi) throw needsAcpi()
    },
    pm,
    pmKind: PIIX4_PM,
    pmPorts: () => ({
      pmPort: piix4.fn.config.get32(PM_BASE) & PM_BASE_MASK || PM_BASE_PORT,
      gpe0Port: PIIX4_GPE0_PORT,
    }),
    ide,
    ataBuses: ide.buses,
    devices: [
      ['ide', ide],
      ['smbus', smbus],
      ['pci-hotplug', acpiHotplug],
      ['cpu-hotplug', cpuHotplug],
    ],
    fwCfgFiles: [],
    configWindow: () => undefined,
    setUp(hole) {
      bridge.showRam()
      for (const [i, irq] of [10, 10, 11, 11].entries())
        piix3.fn.configWrite(PIRQ_ROUTE + i, 1, irq)
      if (hasAcpi) {
        piix4.fn.configWrite(0x40, 4, PM_BASE_PORT)
        piix4.fn.configWrite(0x80, 1, 1)
        piix4.fn.configWrite(0x3c, 1, SCI_GSI)
      }
      ide.enable()
      assignResources(pci, hole, (pirq) => piix3.fn.configRead(PIRQ_ROUTE + pirq, 1))
    },
    hideRam: () => bridge.hideRam(),
    resume() {},
  }
}

function mapAcpiPorts(
  { pio }: Bus,
  pm: AcpiPm,
  acpiHotplug: AcpiPciHotplug,
  cpuHotplug: AcpiCpuHotplug,
): void {
  const gpe0 = { name: 'gpe0', base: PIIX4_GPE0_PORT, len: 4, access: { max: 1 } } as const
  pio.map({ ...gpe0, handler: pm.gpe0 })
  pio.map({
    name: 'pci-hotplug',
    base: PIIX4_PCI_HOTPLUG_PORT,
    len: PCI_HOTPLUG_PORTS,
    handler: acpiHotplug,
  })
  pio.map({
    name: 'cpu-hotplug',
    base: PIIX4_CPU_HOTPLUG_PORT,
    len: CPU_HOTPLUG_PORTS,
    handler: cpuHotplug,
  })
}
