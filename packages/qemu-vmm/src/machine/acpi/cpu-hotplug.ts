import { CPU_HOTPLUG_GPE, CPU_HOTPLUG_REGISTERS } from '../../chipset/acpi-cpu-hotplug.ts'
import { apicId } from '../topology.ts'
import type { CpuTopology } from '../topology.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { acquire, call, field, mutex, notify, release, whileTrue } from './aml-events.ts'
import { io, resourceTemplate } from './resources.ts'

/** What a processor is notified of (ACPI 6.5, 5.6.6): look whether it is there, let go of it. */
const DEVICE_CHECK = 1
const EJECT_REQUEST = 3
const NEXT_WITH_EVENT = 0
const OST_EVENT = 1
const OST_STATUS = 2
/** There, enabled, shown, working. */
const STATUS = 0x0f

const PLACE = '\\_SB.PCI0.PRES'
const register = (name: string): Aml => aml.path(`${PLACE}.${name}`)
const LOCK = `${PLACE}.CPLK`
const [SELECTOR, COMMAND, DATA] = ['CSEL', 'CCMD', 'CDAT'].map(register) as [Aml, Aml, Aml]
const [ENABLED, INSERT, REMOVE, EJECT] = ['CPEN', 'CINS', 'CRMV', 'CEJ0'].map(register) as [
  Aml,
  Aml,
  Aml,
  Aml,
]

/** The registers of hot-plug at a port, with the names that QEMU's tables have: a device below the PCI root. */
export function cpuHotplugRegisters(port: number): Aml {
  return aml.device(
    'PRES',
    aml.name('_HID', aml.eisaId('PNP0A06')),
    aml.name('_UID', aml.string('CPU Hotplug resources')),
    mutex('CPLK'),
    aml.name('_CRS', resourceTemplate(io(port, CPU_HOTPLUG_REGISTERS))),
    aml.operationRegion('PRST', aml.REGION_SYSTEM_IO, port, CPU_HOTPLUG_REGISTERS),
    field('PRST', { width: 8, rest: 'zeros' }, [
      [undefined, 32],
      ['CPEN', 1],
      ['CINS', 1],
      ['CRMV', 1],
      ['CEJ0', 1],
      [undefined, 4],
      ['CCMD', 8],
    ]),
    field('PRST', { width: 32, rest: 'preserved' }, [
      ['CSEL', 32],
      [undefined, 32],
      ['CDAT', 32],
    ]),
    // Puts the registers in the place of the bitmap; where they are already this selects the first processor.
    aml.method('_INI', 0, true, aml.store(aml.int(0), aml.path('CSEL'))),
  )
}

/** The processors that there are places for, and what becomes of them. */
export function cpuDevices(topology: CpuTopology): Aml {
  const indexes = Array.from({ length: topology.maxcpus }, (_, index) => index)
  const locked = (...terms: Aml[]): Aml[] => [acquire(LOCK), ...terms, release(LOCK)]
  return aml.device(
    'CPUS',
    aml.name('_HID', aml.string('ACPI0010')),
    aml.name('_CID', aml.eisaId('PNP0A05')),
    aml.method(
      'CTFY',
      2,
      false,
      ...indexes.map((index) =>
        aml.ifTrue(
          aml.equal(aml.arg(0), aml.int(index)),
          notify(aml.path(deviceName(index)), aml.arg(1)),
        ),
      ),
    ),
    aml.method(
      'CSTA',
      1,
      true,
      ...locked(
        aml.store(aml.arg(0), SELECTOR),
        aml.store(aml.int(0), aml.local(0)),
        aml.ifTrue(aml.equal(ENABLED, aml.int(1)), aml.store(aml.int(STATUS), aml.local(0))),
      ),
      aml.ret(aml.local(0)),
    ),
    aml.method(
      'CEJ0',
      1,
      true,
      ...locked(aml.store(aml.arg(0), SELECTOR), aml.store(aml.int(1), EJECT)),
    ),
    aml.method('CSCN', 0, true, ...locked(...scan())),
    aml.method(
      'COST',
      3,
      true,
      ...locked(
        aml.store(aml.arg(0), SELECTOR),
        aml.store(aml.int(OST_EVENT), COMMAND),
        aml.store(aml.arg(1), DATA),
        aml.store(aml.int(OST_STATUS), COMMAND),
        aml.store(aml.arg(2), DATA),
      ),
    ),
    ...indexes.map((index) => processor(topology, index)),
  )
}

/** What the general-purpose event runs. */
export function cpuHotplugEvent(): Aml {
  return aml.scope('\\_GPE', aml.method(`_E0${CPU_HOTPLUG_GPE}`, 0, false, call('\\_SB.CPUS.CSCN')))
}

/** Tells one processor after the other of what has happened, until none has anything to be told. */
function scan(): Aml[] {
  const again = aml.local(0)
  const told = (event: Aml, value: number): Aml[] => [
    call('CTFY', DATA, aml.int(value)),
    aml.store(aml.int(1), event),
    aml.store(aml.int(1), again),
  ]
  return [
    aml.store(aml.int(1), again),
    whileTrue(
      aml.equal(again, aml.int(1)),
      aml.store(aml.int(0), again),
      aml.store(aml.int(NEXT_WITH_EVENT), COMMAND),
      aml.ifElse(aml.equal(INSERT, aml.int(1)), told(INSERT, DEVICE_CHECK), [
        aml.ifTrue(aml.equal(REMOVE, aml.int(1)), ...told(REMOVE, EJECT_REQUEST)),
      ]),
    ),
  ]
}

function deviceName(index: number): string {
  return `C${index.toString(16).toUpperCase().padStart(3, '0')}`
}

function processor(topology: CpuTopology, index: number): Aml {
  const number = aml.int(index)
  return aml.device(
    deviceName(index),
    aml.name('_HID', aml.string('ACPI0007')),
    aml.name('_UID', number),
    aml.method('_STA', 0, true, aml.ret(call('CSTA', number))),
    // Its entry in the table of interrupt controllers, enabled: it is only looked at when it is there.
    aml.name('_MAT', aml.buffer([0, 8, index, apicId(topology, index), 1, 0, 0, 0])),
    // The first one is not to be taken out.
    ...(index === 0 ? [] : [aml.method('_EJ0', 1, false, call('CEJ0', number))]),
    aml.method('_OST', 3, true, call('COST', number, aml.arg(0), aml.arg(1))),
  )
}
