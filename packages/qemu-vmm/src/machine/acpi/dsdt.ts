import { SLP_TYP_S3, SLP_TYP_S5 } from '../../chipset/acpi-pm.ts'
import { FW_CFG_PORT, FW_CFG_PORTS } from '../../chipset/fw-cfg.ts'
import { PIRQ_ROUTE } from '../../chipset/pci/piix.ts'
import { COM_PORTS } from '../../chipset/serial-port.ts'
import type { CpuTopology } from '../topology.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import {
  dwordMemory,
  io,
  irqNoFlags,
  levelInterrupts,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from './resources.ts'

const PCI_SLOTS = 32
const PCI_HOLE_END = 0xfec0_0000
const LINKS = ['LNKA', 'LNKB', 'LNKC', 'LNKD'] as const
const PIRQ_CHOICES = [5, 10, 11] as const
const PIRQ_DISABLED = 0x80
const SCI_GSI = 9

/** What of the machine the table describes. */
export interface DsdtConfig {
  topology: CpuTopology
  pciHoleStart: number
  /** There is a display adapter: guests may look for VGA. */
  hasDisplay?: boolean
  /** COM port numbers, 0..3, that have a UART. */
  serialPorts: readonly number[]
}

/** The body of the DSDT: PCI root with its interrupt routing, ISA devices, CPUs, soft-off. */
export function createDsdt(config: DsdtConfig): Uint8Array {
  return Uint8Array.from([
    ...sleepState('\\_S3', SLP_TYP_S3),
    ...sleepState('\\_S5', SLP_TYP_S5),
    ...aml.scope(
      '\\_SB',
      pciRoot(config),
      ...LINKS.map(linkDevice),
      sciLink(),
      cpus(config.topology.cpus),
    ),
  ])
}

function sleepState(name: string, type: number): Aml {
  return aml.name(name, aml.pkg(aml.int(type), aml.int(type), aml.int(0), aml.int(0)))
}

function pciRoot(config: DsdtConfig): Aml {
  return aml.device(
    'PCI0',
    aml.name('_HID', aml.eisaId('PNP0A03')),
    aml.name('_UID', aml.int(0)),
    aml.name(
      '_CRS',
      resourceTemplate(
        wordBusNumber(0x00, 0xff),
        io(0x0cf8, 8),
        wordIo(0x0000, 0x0cf7),
        wordIo(0x0d00, 0xffff),
        dwordMemory(0x000a_0000, 0x000b_ffff, true),
        dwordMemory(config.pciHoleStart, PCI_HOLE_END - 1, false),
      ),
    ),
    aml.name('_PRT', routingTable()),
    isaBridge(config.serialPorts),
    firmwareConfig(),
  )
}

/** Pin p of slot s goes to link (s + p - 1) mod 4; the power function's pin is the SCI. */
function routingTable(): Aml {
  const entries: Aml[] = []
  for (let slot = 0; slot < PCI_SLOTS; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      const link = slot === 1 && pin === 0 ? 'LNKS' : LINKS[((slot + pin + 3) & 3) as 0 | 1 | 2 | 3]
      entries.push(
        aml.pkg(aml.int(slot * 0x1_0000 + 0xffff), aml.int(pin), aml.path(link), aml.int(0)),
      )
    }
  }
  return aml.pkg(...entries)
}

function isaBridge(serialPorts: readonly number[]): Aml {
  return aml.device(
    'ISA',
    aml.name('_ADR', aml.int(0x0001_0000)),
    aml.operationRegion('PIRQ', aml.REGION_PCI_CONFIG, PIRQ_ROUTE, 4),
    aml.byteFields(
      'PIRQ',
      LINKS.map((_, i) => [`PRQ${i}`, 8] as const),
    ),
    aml.device(
      'RTC',
      aml.name('_HID', aml.eisaId('PNP0B00')),
      aml.name('_CRS', resourceTemplate(io(0x0070, 8), irqNoFlags(8))),
    ),
    aml.device(
      'KBD',
      aml.name('_HID', aml.eisaId('PNP0303')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', resourceTemplate(io(0x0060, 1), io(0x0064, 1), irqNoFlags(1))),
    ),
    aml.device(
      'MOU',
      aml.name('_HID', aml.eisaId('PNP0F13')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', resourceTemplate(irqNoFlags(12))),
    ),
    ...serialPorts.map(serialDevice),
  )
}

function serialDevice(port: number): Aml {
  const { base, irq } = COM_PORTS[port]!
  return aml.device(
    `COM${port + 1}`,
    aml.name('_HID', aml.eisaId('PNP0501')),
    aml.name('_UID', aml.int(port + 1)),
    aml.name('_STA', aml.int(0x0f)),
    aml.name('_CRS', resourceTemplate(io(base, 8), irqNoFlags(irq))),
  )
}

/** The ports of fw_cfg: drivers find them by this device alone. */
function firmwareConfig(): Aml {
  return aml.device(
    'FWCF',
    aml.name('_HID', aml.string('QEMU0002')),
    aml.name('_STA', aml.int(0x0b)),
    aml.name('_CRS', resourceTemplate(io(FW_CFG_PORT, FW_CFG_PORTS))),
  )
}

/** An interrupt link over one of the bridge's route registers. */
function linkDevice(link: string, index: number): Aml {
  const register = aml.path(`\\_SB.PCI0.ISA.PRQ${index}`)
  const result = aml.path('RBUF')
  return aml.device(
    link,
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(index + 1)),
    aml.name('_PRS', resourceTemplate(levelInterrupts(...PIRQ_CHOICES))),
    aml.name('RBUF', resourceTemplate(levelInterrupts(0))),
    aml.method(
      '_STA',
      0,
      false,
      aml.ifTrue(aml.and(register, aml.int(PIRQ_DISABLED)), aml.ret(aml.int(0x09))),
      aml.ret(aml.int(0x0b)),
    ),
    aml.method('_DIS', 0, false, aml.or(register, aml.int(PIRQ_DISABLED), register)),
    aml.method(
      '_CRS',
      0,
      true,
      aml.createDwordField(result, 5, 'RIRQ'),
      aml.ifTrue(aml.less(register, aml.int(PIRQ_DISABLED)), aml.store(register, aml.path('RIRQ'))),
      aml.ret(result),
    ),
    aml.method(
      '_SRS',
      1,
      false,
      aml.createDwordField(aml.arg(0), 5, 'SIRQ'),
      aml.store(aml.path('SIRQ'), register),
    ),
  )
}

/** The power management function's pin is wired to the SCI and cannot be moved. */
function sciLink(): Aml {
  return aml.device(
    'LNKS',
    aml.name('_HID', aml.eisaId('PNP0C0F')),
    aml.name('_UID', aml.int(LINKS.length + 1)),
    aml.name('_PRS', resourceTemplate(levelInterrupts(SCI_GSI))),
    aml.name('_CRS', resourceTemplate(levelInterrupts(SCI_GSI))),
    aml.method('_STA', 0, false, aml.ret(aml.int(0x0b))),
    aml.method('_DIS', 0, false),
    aml.method('_SRS', 1, false),
  )
}

function cpus(count: number): Aml {
  return aml.device(
    'CPUS',
    aml.name('_HID', aml.string('ACPI0010')),
    aml.name('_CID', aml.eisaId('PNP0A05')),
    ...Array.from({ length: count }, (_, index) =>
      aml.device(
        `C${index.toString(16).toUpperCase().padStart(3, '0')}`,
        aml.name('_HID', aml.string('ACPI0007')),
        aml.name('_UID', aml.int(index)),
      ),
    ),
  )
}
