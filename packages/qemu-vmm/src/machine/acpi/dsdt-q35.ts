import { ICH9_CPU_HOTPLUG_PORT } from '../../chipset/acpi-cpu-hotplug.ts'
import { ICH9_PIRQ_ROUTE, ICH9_PIRQ_ROUTE_UPPER } from '../../chipset/ich9/lpc.ts'
import { ICH9_PCI_HOTPLUG_PORT } from '../../chipset/pci/acpi-hotplug.ts'
import { cpuHotplugRegisters } from './cpu-hotplug.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import type { DsdtConfig } from './dsdt.ts'
import { firmwareConfig, isaDevices } from './isa-devices.ts'
import type { IsaConfig } from './isa-devices.ts'
import { fixedLink, linkDevice, routingTable } from './links.ts'
import { fixedMemory, resourceTemplate } from './resources.ts'
import { pciHotplug } from './pci-hotplug.ts'
import { rootResources } from './root-resources.ts'

const INPUTS = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H'] as const
const FIRST_FIXED_UID = 0x10
const FIRST_PIRQ_GSI = 16
const LPC_ADDRESS = 0x001f_0000
/** Slots whose routes are in the chip configuration begin here; the bridge at 30 has none. */
const FIRST_ROUTED_SLOT = 25
const CONVENTIONAL_BRIDGE = 30

/** What a guest may ask of a PCI Express root (PCI Firmware 3.3, 4.5.1), and what it gets. */
const OSC_UUID = '33db4d5b-1ff7-401c-9657-7441c03dd766'
/** Hot-plug of slots, standard and Express, power events, errors, the capability itself. */
const OSC_GRANTED = 0x1f
/** Guests that are not given it leave the slots of ports to ACPI. */
const OSC_EXPRESS_HOTPLUG = 0x01
const OSC_UNKNOWN_UUID = 0x04
const OSC_UNKNOWN_REVISION = 0x08
const OSC_MASKED = 0x10

/** The PCI Express root of the Q35 board and its interrupt links, of both interrupt controllers. */
export function q35Root(config: DsdtConfig): Aml[] {
  return [
    aml.device(
      'PCI0',
      aml.name('_HID', aml.eisaId('PNP0A08')),
      aml.name('_CID', aml.eisaId('PNP0A03')),
      aml.name('_UID', aml.int(0)),
      operatingSystemCapabilities(config),
      aml.name('_CRS', rootResources(config)),
      aml.name(
        'PRTP',
        routingTable((slot, pin) => `LNK${input(slot, pin)}`),
      ),
      aml.name(
        'PRTA',
        routingTable((slot, pin) => `GSI${input(slot, pin)}`),
      ),
      aml.method(
        '_PRT',
        0,
        false,
        aml.ifElse(
          aml.equal(aml.path('\\PICF'), aml.int(0)),
          [aml.ret(aml.path('PRTP'))],
          [aml.ret(aml.path('PRTA'))],
        ),
      ),
      lpcBridge(config),
      firmwareConfig(),
      cpuHotplugRegisters(ICH9_CPU_HOTPLUG_PORT),
      ...configSpace(config),
      ...(config.hotplug === undefined ? [] : pciHotplug(ICH9_PCI_HOTPLUG_PORT, config.hotplug)),
    ),
    ...INPUTS.map((letter, i) => linkDevice(`LNK${letter}`, i, `\\_SB.PCI0.ISA.PRQ${letter}`)),
    ...INPUTS.map((letter, i) =>
      fixedLink(`GSI${letter}`, FIRST_FIXED_UID + i, FIRST_PIRQ_GSI + i),
    ),
  ]
}

/** The mode of interrupts that a guest says it uses: 0 is that of the two controllers of old. */
export function interruptMode(): Aml {
  return [
    ...aml.name('\\PICF', aml.int(0)),
    ...aml.method('\\_PIC', 1, false, aml.store(aml.arg(0), aml.path('\\PICF'))),
  ]
}

/** The input that a pin, from 0, of a slot is wired to after reset. */
function input(slot: number, pin: number): (typeof INPUTS)[number] {
  const isRouted = slot >= FIRST_ROUTED_SLOT && slot !== CONVENTIONAL_BRIDGE
  const upper = slot === CONVENTIONAL_BRIDGE ? pin : (slot + pin) & 3
  return INPUTS[isRouted ? pin : 4 + upper]!
}

function lpcBridge(config: IsaConfig): Aml {
  const fields = (letters: readonly string[]): (readonly [string, number])[] =>
    letters.map((letter) => [`PRQ${letter}`, 8] as const)
  return aml.device(
    'ISA',
    aml.name('_ADR', aml.int(LPC_ADDRESS)),
    aml.operationRegion('PRL0', aml.REGION_PCI_CONFIG, ICH9_PIRQ_ROUTE, 4),
    aml.byteFields('PRL0', fields(INPUTS.slice(0, 4))),
    aml.operationRegion('PRL1', aml.REGION_PCI_CONFIG, ICH9_PIRQ_ROUTE_UPPER, 4),
    aml.byteFields('PRL1', fields(INPUTS.slice(4))),
    ...isaDevices(config),
  )
}

/** Guests use configuration space in memory if a device says that it is taken. */
function configSpace({ configWindow }: DsdtConfig): Aml[] {
  if (configWindow === undefined) return []
  const { base, size } = configWindow
  return [
    aml.device(
      'DRAC',
      aml.name('_HID', aml.eisaId('PNP0C01')),
      aml.name('_CRS', resourceTemplate(fixedMemory(base, size))),
    ),
  ]
}

function operatingSystemCapabilities({ hotplug }: DsdtConfig): Aml {
  const granted = hotplug === undefined ? OSC_GRANTED : OSC_GRANTED & ~OSC_EXPRESS_HOTPLUG
  const buffer = aml.arg(3)
  const [status, control, given] = [aml.path('CDW1'), aml.path('CDW3'), aml.local(0)]
  const complain = (bit: number): Aml => aml.or(status, aml.int(bit), status)
  return aml.method(
    '_OSC',
    4,
    false,
    aml.createDwordField(buffer, 0, 'CDW1'),
    aml.ifElse(
      aml.equal(aml.arg(0), aml.uuid(OSC_UUID)),
      [
        aml.createDwordField(buffer, 8, 'CDW3'),
        aml.and(control, aml.int(granted), given),
        aml.ifTrue(aml.not(aml.equal(aml.arg(1), aml.int(1))), complain(OSC_UNKNOWN_REVISION)),
        aml.ifTrue(aml.not(aml.equal(control, given)), complain(OSC_MASKED)),
        aml.store(given, control),
      ],
      [complain(OSC_UNKNOWN_UUID)],
    ),
    aml.ret(buffer),
  )
}
