import { PCI_HOTPLUG_GPE, PCI_HOTPLUG_PORTS } from '../../chipset/pci/acpi-hotplug.ts'
import type { AcpiHotplugBridge, AcpiHotplugTree } from '../../chipset/pci/acpi-hotplug.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { acquire, call, dwordFields, mutex, notify, release, shiftLeft } from './aml-events.ts'
import { labelMethod, pciLabels } from './pci-labels.ts'
import { io, resourceTemplate } from './resources.ts'

const SLOTS = 32
/** What a slot is notified of (ACPI 6.5, 5.6.6): look whether a device is there, let go of it. */
const DEVICE_CHECK = 1
const EJECT_REQUEST = 3
const LOCK = '\\_SB.PCI0.BLCK'
/** Enabled, shown nowhere, working. */
const STATUS = 0x0b

/**
 * Terms of the PCI root for the hot-plug of its bus and those behind its bridges, with the names that QEMU's
 * tables have: registers from `port` on, a device with `_EJ0` for each slot that can be changed, and `PCNT`,
 * which tells slots of what has happened.
 */
export function pciHotplug(port: number, root: AcpiHotplugTree): Aml[] {
  return [
    aml.operationRegion('PCST', aml.REGION_SYSTEM_IO, port, 8),
    dwordFields('PCST', ['PCIU', 'PCID']),
    aml.operationRegion('SEJ', aml.REGION_SYSTEM_IO, port + 8, 4),
    dwordFields('SEJ', ['B0EJ']),
    aml.operationRegion('BNMR', aml.REGION_SYSTEM_IO, port + 0x10, 8),
    dwordFields('BNMR', ['BNUM', 'PIDX']),
    mutex('BLCK'),
    aml.method(
      'PCEJ',
      2,
      false,
      acquire('BLCK'),
      aml.store(aml.arg(0), aml.path('BNUM')),
      shiftLeft(aml.int(1), aml.arg(1), aml.path('B0EJ')),
      release('BLCK'),
      aml.ret(aml.int(0)),
    ),
    ...pciLabels(),
    ...hotplugBus(root),
    aml.device(
      'PHPR',
      aml.name('_HID', aml.eisaId('PNP0A06')),
      aml.name('_UID', aml.string('PCI Hotplug resources')),
      aml.name('_STA', aml.int(STATUS)),
      aml.name('_CRS', resourceTemplate(io(port, PCI_HOTPLUG_PORTS))),
    ),
  ]
}

/** What the general-purpose event runs. */
export function hotplugEvent(): Aml {
  return aml.scope(
    '\\_GPE',
    aml.method(
      `_E0${PCI_HOTPLUG_GPE}`,
      0,
      false,
      acquire(LOCK),
      call('\\_SB.PCI0.PCNT'),
      release(LOCK),
    ),
  )
}

/** One bus: its slots, its bridges, and what tells them. */
function hotplugBus({ number, slots: mask, bridges }: AcpiHotplugTree): Aml[] {
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot).filter(
    (slot) => ((mask >>> slot) & 1) === 1,
  )
  const own = [
    aml.store(aml.path('BSEL'), aml.path('BNUM')),
    call('DVNT', aml.path('PCIU'), aml.int(DEVICE_CHECK)),
    call('DVNT', aml.path('PCID'), aml.int(EJECT_REQUEST)),
  ]
  const isFixed = number === undefined || slots.length === 0
  return [
    ...(isFixed ? [] : [aml.name('BSEL', aml.int(number)), tellSlots(slots)]),
    ...slots.map(slotDevice),
    ...bridges.map(bridgeDevice),
    aml.method(
      'PCNT',
      0,
      false,
      ...(isFixed ? [] : own),
      ...bridges.map((bridge) => call(`^${bridgeName(bridge)}.PCNT`)),
    ),
  ]
}

function tellSlots(slots: readonly number[]): Aml {
  return aml.method(
    'DVNT',
    2,
    false,
    ...slots.map((slot) =>
      aml.ifTrue(
        aml.and(aml.arg(0), aml.int(2 ** slot)),
        notify(aml.path(functionName(slot)), aml.arg(1)),
      ),
    ),
  )
}

/** Named after the number of the function, as in QEMU's tables. */
function functionName(slot: number, functionNumber = 0): string {
  return `S${(slot * 8 + functionNumber).toString(16).toUpperCase().padStart(2, '0')}`
}

function bridgeName({ slot, functionNumber }: AcpiHotplugBridge): string {
  return functionName(slot, functionNumber)
}

function slotDevice(slot: number): Aml {
  return aml.device(
    functionName(slot),
    aml.name('_ADR', aml.int(slot * 0x1_0000)),
    aml.name('_SUN', aml.int(slot)),
    aml.method('_EJ0', 1, false, call('PCEJ', aml.path('BSEL'), aml.path('_SUN'))),
    labelMethod(),
  )
}

function bridgeDevice(bridge: AcpiHotplugBridge): Aml {
  return aml.device(
    bridgeName(bridge),
    aml.name('_ADR', aml.int(bridge.slot * 0x1_0000 + bridge.functionNumber)),
    ...hotplugBus(bridge.behind),
  )
}
