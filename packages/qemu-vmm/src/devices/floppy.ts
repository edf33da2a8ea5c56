import {
  FLOPPY_DMA,
  FLOPPY_IRQ,
  FLOPPY_PORT,
  FloppyController,
} from '../chipset/floppy/controller.ts'
import { FLOPPY_SIZES, FloppyDrive, formatOf } from '../chipset/floppy/drive.ts'
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

/** The floppy controller of a machine, from its first drive on. */
export interface FloppySlot {
  controller?: FloppyController
  /** Types of the drives as CMOS has them; 0 for none. */
  readonly types: [number, number]
}

export const floppy: DeviceType = {
  name: 'floppy',
  bus: 'floppy-bus',
  category: 'Storage devices',
  description: 'virtual floppy drive; the first one brings the controller',
  properties: [
    { name: 'drive', type: 'str', help: 'Node name or ID of a drive with the disk, if any' },
    { name: 'unit', type: 'uint32', help: 'Drive 0 or 1; the first free one by default' },
    BOOT_INDEX_PROPERTY,
  ],
  plug(context, option) {
    const owner = option.id ?? option.driver
    const unit = unitOf(context, option)
    const id = option.properties['drive']
    const medium = id === undefined ? undefined : context.drive(id, owner)
    if (medium !== undefined && formatOf(medium.sizeBytes) === undefined) {
      const sizes = FLOPPY_SIZES.map((bytes) => `${bytes / 1024}k`).join(', ')
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Property 'floppy.drive' of ${owner}: an image of ${medium.sizeBytes} bytes is no floppy ` +
          `disk; there are ${sizes}`,
        { fields: { device: owner, size: medium.sizeBytes } },
      )
    }
    const drive = new FloppyDrive(medium)
    context.floppy.types[unit] = drive.format.type
    addBootIndex(context, option, firmwarePath(context, unit))
    const { controller } = context.floppy
    if (controller !== undefined) {
      controller.attach(unit, drive)
      // The controller, which came with the other drive, has the state of both.
      return { reset() {}, save: () => ({}), load() {} }
    }
    return withController(context, unit, drive)
  },
}

function withController(context: PlugContext, unit: number, drive: FloppyDrive): PluggedDevice {
  const controller = new FloppyController(
    context.irqs.source(FLOPPY_IRQ),
    context.dma.channel(FLOPPY_DMA),
  )
  controller.attach(unit, drive)
  context.floppy.controller = controller
  for (const [base, len] of PORTS) {
    const place = { name: 'fdc', base, len, origin: FLOPPY_PORT, access: { max: 1 } } as const
    context.bus.pio.map({ ...place, handler: controller })
  }
  context.isaDevices.push({ kind: 'floppy' })
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
