import {
  FLOPPY_DMA,
  FLOPPY_IRQ,
  FLOPPY_PORT,
  FloppyController,
} from '../chipset/floppy/controller.ts'
import { FloppyDrive } from '../chipset/floppy/drive.ts'
import { VmmError } from '../errors.ts'
import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { DeviceOption, DeviceType, PluggedDevice } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import { PCI_PATH } from './pci-address.ts'
import { propertyReader } from './properties.ts'

const DRIVES = 2
/** The controller's ports; those at 3f6 are the IDE controller's. */
const PORTS = [
  [FLOPPY_PORT, 6],
  [FLOPPY_PORT + 7, 1],
] as const

/** What an empty drive is: one for 2.88 MB, which takes all disks of that size. */
const EMPTY_TYPE = 5

/** The floppy drives of a machine, and their controller. */
export interface FloppySlot {
  /** Which `pc` has always, and `q35` from its first drive on. */
  controller?: FloppyController
  /** As `bus=` of drives has it. */
  busName?: string
  /** Types of the drives as CMOS has them; 0 for none. */
  readonly types: [number, number]
}

export const isaFdc: DeviceType = {
  name: 'isa-fdc',
  bus: 'ISA',
  category: 'Storage devices',
  description: 'virtual floppy controller; pc has one',
  properties: [
    { name: 'iobase', type: 'uint32', help: 'Its ports', default: String(FLOPPY_PORT) },
    { name: 'irq', type: 'uint32', help: 'Its interrupt', default: String(FLOPPY_IRQ) },
    { name: 'dma', type: 'uint32', help: 'Its DMA channel', default: String(FLOPPY_DMA) },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    // Firmware and its tables have it at one place.
    read.int('iobase', FLOPPY_PORT, FLOPPY_PORT, FLOPPY_PORT)
    read.int('irq', FLOPPY_IRQ, FLOPPY_IRQ, FLOPPY_IRQ)
    read.int('dma', FLOPPY_DMA, FLOPPY_DMA, FLOPPY_DMA)
    const { floppy: slot } = context
    if (slot.controller !== undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        'the machine has a floppy controller already, at the same ports; leave out isa-fdc, or on q35 ' +
          'put it in front of the drives',
        { fields: { device: option.id ?? option.driver } },
      )
    }
    if (option.id !== undefined) slot.busName = `${option.id}.0`
    return driveOf(floppyController(context))
  },
}

export const floppy: DeviceType = {
  name: 'floppy',
  bus: 'floppy-bus',
  category: 'Storage devices',
  description: 'virtual floppy drive; without an isa-fdc the first one brings it',
  properties: [
    { name: 'drive', type: 'str', help: 'Node name or ID of a drive with the disk, if any' },
    { name: 'unit', type: 'uint32', help: 'Drive 0 or 1; the first free one by default' },
    { name: 'bus', type: 'str', help: 'The controller: floppy-bus.0, or ID.0' },
    BOOT_INDEX_PROPERTY,
  ],
  plug(context, option) {
    checkBus(context, option)
    const unit = unitOf(context, option)
    const drive = new FloppyDrive()
    context.removable(option.properties['drive'], option.id ?? option.driver, drive)
    context.floppy.types[unit] = drive.medium === undefined ? EMPTY_TYPE : drive.format.type
    addBootIndex(context, option, firmwarePath(context, unit))
    const controller = floppyController(context)
    controller.attach(unit, drive)
    return driveOf(controller)
  },
}

/** The controller, which is a device of the board, has all state. */
function driveOf(controller: FloppyController): PluggedDevice {
  const quiesce = (): Promise<void> => controller.quiesce()
  return { reset() {}, save: () => ({}), load() {}, quiesce }
}

function checkBus({ floppy: slot }: PlugContext, option: DeviceOption): void {
  const { busName = 'floppy-bus.0' } = slot
  const wanted = option.properties['bus'] ?? busName
  if (wanted === busName) return
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Bus '${wanted}' not found for device '${option.driver}' (there is ${busName})`,
    { fields: { device: option.id ?? option.driver, bus: wanted } },
  )
}

/** The controller of a machine, which it has from now on if it had none. */
export function floppyController(
  parts: Pick<PlugContext, 'floppy' | 'irqs' | 'dma' | 'bus' | 'isaDevices'>,
): FloppyController {
  const known = parts.floppy.controller
  if (known !== undefined) return known
  const channel = parts.dma.channel(FLOPPY_DMA)
  const unknown = parts.bus.unknownOf('isa-fdc')
  const controller = new FloppyController(parts.irqs.source(FLOPPY_IRQ), channel, unknown)
  parts.floppy.controller = controller
  for (const [base, len] of PORTS) {
    const place = { name: 'fdc', base, len, origin: FLOPPY_PORT, access: { max: 1 } } as const
    parts.bus.pio.map({ ...place, handler: controller })
  }
  parts.isaDevices.push({ kind: 'floppy' })
  return controller
}

/** As firmware names the drive: behind the ISA bridge, which each board has in another slot. */
function firmwarePath({ pciBuses }: PlugContext, unit: number): string {
  const slot = pciBuses.has('pcie.0') ? '1f' : '1'
  return `${PCI_PATH}/isa@${slot}/fdc@0${FLOPPY_PORT.toString(16)}/floppy@${unit}`
}

function unitOf({ floppy: slot }: PlugContext, option: DeviceOption): number {
  const free = slot.types.indexOf(0)
  const unit = propertyReader(option).int('unit', 0, DRIVES - 1, free)
  if (unit >= 0 && slot.types[unit] === 0) return unit
  throw new VmmError(
    'E_DEVICE_OPTION',
    unit < 0
      ? `there is no place for another floppy drive: a machine has ${DRIVES}`
      : `Floppy unit ${unit} is in use`,
    { fields: { device: option.id ?? option.driver } },
  )
}
