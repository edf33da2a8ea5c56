import {
  AcpiCpuHotplug,
  CPU_HOTPLUG_GPE,
  CPU_HOTPLUG_PORTS,
  ICH9_CPU_HOTPLUG_PORT,
} from '../chipset/acpi-cpu-hotplug.ts'
import { AcpiPm, ICH9_PM } from '../chipset/acpi-pm.ts'
import { Ahci } from '../chipset/ahci/ahci.ts'
import {
  ICH9_ACPI_CONTROL,
  ICH9_PIRQ_ROUTE,
  ICH9_PIRQ_ROUTE_UPPER,
  ICH9_PMBASE,
  ICH9_RCBA,
  Ich9Lpc,
  PMBASE_MASK,
} from '../chipset/ich9/lpc.ts'
import { GPE0, Ich9PmBlock } from '../chipset/ich9/pm-block.ts'
import { Ich9Smbus } from '../chipset/ich9/smbus.ts'
import {
  AcpiPciHotplug,
  ICH9_PCI_HOTPLUG_PORT,
  PCI_HOTPLUG_GPE,
  PCI_HOTPLUG_PORTS,
} from '../chipset/pci/acpi-hotplug.ts'
import { assignResources } from '../chipset/pci/assign.ts'
import { PciHost } from '../chipset/pci/host.ts'
import { Mch } from '../chipset/pci/mch.ts'
import { SmiFeatures } from '../chipset/smi-features.ts'
import { VmmError } from '../errors.ts'
import { PM_BASE_PORT, needsAcpi } from './chipset.ts'
import type { Chipset, ChipsetParts, CpuChange } from './chipset.ts'

const GSIS = 24
const LPC_SLOT = 0x1f
const RCBA = 0xfed1_c000

function firmwareRefuses(change: CpuChange): VmmError {
  return new VmmError(
    'E_HOTPLUG',
    `cpu ${change} with SMI wasn't enabled by firmware; give all processors when the machine starts, or use smm=off`,
    { fields: { change } },
  )
}

/** Q35 memory controller hub and ICH9: LPC bridge, SATA controller. */
export function createQ35(parts: ChipsetParts): Chipset {
  const { bus, irqs, clock, memory, actions, shadow, smm, sendMessage } = parts
  const mch = new Mch(bus, shadow, smm, parts.smbaseSmram)
  const lines = Array.from({ length: GSIS }, (_, gsi) => irqs.source(gsi))
  const block: { pm?: Ich9PmBlock } = {}
  const lpc = new Ich9Lpc(bus, lines, () => block.pm!, smm !== undefined)
  const pm = new AcpiPm(lpc.sci, clock, actions, ICH9_PM)
  const pmBlock = new Ich9PmBlock(pm, clock, smm !== undefined)
  pmBlock.isSmiLocked = () => lpc.isSmiLocked
  block.pm = pmBlock
  const features = new SmiFeatures()
  if (smm !== undefined) {
    pm.onCommand = () => {
      if (pmBlock.isCommandEnabled) smm.interrupt(features.broadcast ? 'all' : bus.vcpu)
    }
  }
  const sata = new Ahci('ide', bus, memory, { sendMessage, multifunction: true, firstSerial: 1 })
  sata.firmwarePath = '/pci@i0cf8/pci8086,2922@1f,2'
  const pci = new PciHost(
    {
      line: (slot, pin) => lpc.chipConfig.line(slot, pin),
      drive: (pirq, level) => lpc.setPirq(pirq, level),
    },
    { express: true },
  )
  mch.configWindow = pci.memoryWindow
  pci.add(mch.fn, 0, 0)
  pci.add(lpc.fn, LPC_SLOT, 0)
  pci.add(sata.fn, LPC_SLOT, 2)
  const smbus = new Ich9Smbus(bus)
  pci.add(smbus.fn, LPC_SLOT, 3)
  // The root itself stays as it is: its devices are those of a root complex.
  const acpiHotplug = parts.portsByAcpi
    ? new AcpiPciHotplug(pci, () => pm.raiseGpe(PCI_HOTPLUG_GPE))
    : undefined
  if (acpiHotplug !== undefined) {
    bus.pio.map({
      name: 'pci-hotplug',
      base: ICH9_PCI_HOTPLUG_PORT,
      len: PCI_HOTPLUG_PORTS,
      handler: acpiHotplug,
    })
  }
  const cpuHotplug = new AcpiCpuHotplug(parts.cpus, () => pm.raiseGpe(CPU_HOTPLUG_GPE))
  bus.pio.map({
    name: 'cpu-hotplug',
    base: ICH9_CPU_HOTPLUG_PORT,
    len: CPU_HOTPLUG_PORTS,
    handler: cpuHotplug,
  })
  return {
    pci,
    pciBusName: 'pcie.0',
    ...(acpiHotplug === undefined ? {} : { acpiHotplug }),
    cpuHotplug,
    checkCpuHotplug(change) {
      if (!parts.hasAcpi) throw needsAcpi()
      // Its processor would not be told of SMIs that go to all.
      if (features.broadcast) throw firmwareRefuses(change)
    },
    pm,
    pmKind: ICH9_PM,
    pmPorts() {
      const pmPort = lpc.fn.config.get32(ICH9_PMBASE) & PMBASE_MASK || PM_BASE_PORT
      return { pmPort, gpe0Port: pmPort + GPE0 }
    },
    ataBuses: sata.buses,
    devices: [
      ['lpc', lpc],
      ['ich9-pm', pmBlock],
      ['sata', sata],
      ['smbus', smbus.host],
      ['cpu-hotplug', cpuHotplug],
      ...(acpiHotplug === undefined ? [] : [['pci-hotplug', acpiHotplug] as const]),
      ...(smm === undefined ? [] : [['smi-features', features] as const]),
    ],
    fwCfgFiles: smm === undefined ? [] : features.files,
    configWindow: () => mch.place,
    setUp(hole) {
      mch.setUp()
      for (const base of [ICH9_PIRQ_ROUTE, ICH9_PIRQ_ROUTE_UPPER]) {
        for (const [i, irq] of [10, 10, 11, 11].entries()) lpc.fn.configWrite(base + i, 1, irq)
      }
      lpc.fn.configWrite(ICH9_PMBASE, 4, PM_BASE_PORT | 1)
      lpc.fn.configWrite(ICH9_ACPI_CONTROL, 1, 0x80)
      lpc.fn.configWrite(ICH9_RCBA, 4, RCBA | 1)
      // The window of configuration space lies at the start of the hole, or in it.
      const window = mch.place
      const isInside = window !== undefined && window.base + window.size > hole.start
      const start = isInside ? Math.max(hole.start, window.base + window.size) : hole.start
      assignResources(pci, { start, end: hole.end }, (pirq) => lpc.route(pirq))
    },
    hideRam: () => mch.hideRam(),
    resume: () => sata.resume(),
  }
}
