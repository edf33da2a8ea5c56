import {
  PCI_HOTPLUG_GPE,
  PCI_HOTPLUG_PORT,
  PCI_HOTPLUG_PORTS,
} from '../../chipset/pci/acpi-hotplug.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { acquire, call, dwordFields, mutex, notify, release, shiftLeft } from './aml-events.ts'
import { io, resourceTemplate } from './resources.ts'

const SLOTS = 32
/** What a slot is notified of (ACPI 6.5, 5.6.6): look whether a device is there, let go of it. */
const DEVICE_CHECK = 1
const EJECT_REQUEST = 3
const LOCK = '\\_SB.PCI0.BLCK'
/** Enabled, shown nowhere, working. */
const STATUS = 0x0b

/**
 * Terms of the PCI root for the hot-plug of its bus, with the names that QEMU's tables have: registers, a
 * device with `_EJ0` for each slot of the mask, and `PCNT`, which tells slots of what has happened.
 */
export function hotplugBus(removable: number): Aml[] {
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot).filter(
    (slot) => ((removable >>> slot) & 1) === 1,
  )
  return [
    aml.operationRegion('PCST', aml.REGION_SYSTEM_IO, PCI_HOTPLUG_PORT, 8),
    dwordFields('PCST', ['PCIU', 'PCID']),
    aml.operationRegion('SEJ', aml.REGION_SYSTEM_IO, PCI_HOTPLUG_PORT + 8, 4),
    dwordFields('SEJ', ['B0EJ']),
    aml.operationRegion('BNMR', aml.REGION_SYSTEM_IO, PCI_HOTPLUG_PORT + 0x10, 4),
    dwordFields('BNMR', ['BNUM']),
    mutex('BLCK'),
    aml.name('BSEL', aml.int(0)),
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
    ...slots.map(slotDevice),
    aml.method(
      'DVNT',
      2,
      false,
      ...slots.map((slot) =>
        aml.ifTrue(
          aml.and(aml.arg(0), aml.int(2 ** slot)),
          notify(aml.path(slotName(slot)), aml.arg(1)),
        ),
      ),
    ),
    aml.method(
      'PCNT',
      0,
      false,
      aml.store(aml.path('BSEL'), aml.path('BNUM')),
      call('DVNT', aml.path('PCIU'), aml.int(DEVICE_CHECK)),
      call('DVNT', aml.path('PCID'), aml.int(EJECT_REQUEST)),
    ),
    aml.device(
      'PHPR',
      aml.name('_HID', aml.eisaId('PNP0A06')),
      aml.name('_UID', aml.string('PCI Hotplug resources')),
      aml.name('_STA', aml.int(STATUS)),
      aml.name('_CRS', resourceTemplate(io(PCI_HOTPLUG_PORT, PCI_HOTPLUG_PORTS))),
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

/** Named after the number of its first function, as in QEMU's tables. */
function slotName(slot: number): string {
  return `S${(slot * 8).toString(16).toUpperCase().padStart(2, '0')}`
}

function slotDevice(slot: number): Aml {
  return aml.device(
    slotName(slot),
    aml.name('_ADR', aml.int(slot * 0x1_0000)),
    aml.name('_SUN', aml.int(slot)),
    aml.method('_EJ0', 1, false, call('PCEJ', aml.path('BSEL'), aml.path('_SUN'))),
  )
}
