import type { AtaBus } from '../chipset/ide/bus.ts'
import { AtapiCdrom } from '../chipset/ide/cdrom.ts'
import { AtaDisk } from '../chipset/ide/disk.ts'
import { guessGeometry } from '../chipset/ide/geometry.ts'
import type { Geometry } from '../chipset/ide/geometry.ts'
import type { Identity } from '../chipset/ide/identify.ts'
import type { AtaUnit } from '../chipset/ide/unit.ts'
import { VmmError } from '../errors.ts'
import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { DeviceOption, DeviceType, PluggedDevice, PropertySpec } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

/** What QEMU's drives say of their firmware, whatever version QEMU has. */
const VERSION = '2.5+'
const SECTOR = 512
/** Beyond this a 48-bit address cannot tell. */
const MAX_BYTES = 2 ** 53

const COMMON: readonly PropertySpec[] = [
  {
    name: 'bus',
    type: 'str',
    help: 'Bus to plug into: ide.0, ide.1, or the ID of a controller, .0',
  },
  { name: 'unit', type: 'uint32', help: 'Place on the bus; the first free one by default' },
  { name: 'serial', type: 'str', help: 'Serial number', default: 'QM00001 and so on' },
  { name: 'ver', type: 'str', help: 'Firmware revision', default: VERSION },
  BOOT_INDEX_PROPERTY,
]

/** A drive at an ATA bus; the controller saves what is under way, this the drive itself. */
class IdeDevice implements PluggedDevice {
  readonly #bus: AtaBus
  readonly #unit: AtaUnit

  constructor(bus: AtaBus, unit: AtaUnit) {
    this.#bus = bus
    this.#unit = unit
  }

  reset(): void {
    this.#bus.reset()
  }

  save(): unknown {
    return this.#unit.save()
  }

  load(state: unknown): void {
    this.#unit.load(state)
  }

  quiesce(): Promise<void> {
    return this.#bus.quiesce()
  }
}

export const ideHd: DeviceType = {
  name: 'ide-hd',
  bus: 'IDE',
  category: 'Storage devices',
  description: 'virtual IDE disk',
  properties: [
    { name: 'drive', type: 'str', help: 'Node name or ID of a drive to use as the disk, required' },
    ...COMMON,
    { name: 'model', type: 'str', help: 'Model name', default: 'QEMU HARDDISK' },
    { name: 'cyls', type: 'uint32', help: 'Cylinders', default: 'by the size' },
    { name: 'heads', type: 'uint32', help: 'Heads', default: '16' },
    { name: 'secs', type: 'uint32', help: 'Sectors of a track', default: '63' },
    { name: 'wwn', type: 'uint64', help: 'World Wide Name' },
    { name: 'rotation_rate', type: 'uint16', help: 'Revolutions in a minute; 1 for none' },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const place = findPlace(context, option)
    const drive = context.drive(read.required('drive'), place.owner)
    if (drive.readOnly) throw bad(option, 'drive', 'is read-only, which an IDE disk cannot be')
    if (drive.sizeBytes < SECTOR) throw bad(option, 'drive', 'is empty')
    if (drive.sizeBytes > MAX_BYTES) throw bad(option, 'drive', 'is too large for an IDE disk')
    const disk = new AtaDisk({
      ...identity(option, place, read.text('model') ?? 'QEMU HARDDISK'),
      drive,
      geometry: geometry(option, Math.floor(drive.sizeBytes / SECTOR)),
      trim: true,
      rotationRate: read.int('rotation_rate', 0, 0xffff, 0),
      wwn: BigInt(read.int('wwn', 0, Number.MAX_SAFE_INTEGER, 0)),
    })
    return plugIn(context, option, place, disk)
  },
}

export const ideCd: DeviceType = {
  name: 'ide-cd',
  bus: 'IDE',
  category: 'Storage devices',
  description: 'virtual IDE CD-ROM',
  properties: [
    { name: 'drive', type: 'str', help: 'Node name or ID of a drive with the medium, if any' },
    ...COMMON,
    { name: 'model', type: 'str', help: 'Model name', default: 'QEMU DVD-ROM' },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const place = findPlace(context, option)
    const cdrom = new AtapiCdrom(identity(option, place, read.text('model') ?? 'QEMU DVD-ROM'))
    context.removable(read.text('drive'), place.owner, cdrom)
    return plugIn(context, option, place, cdrom)
  },
}

interface Place {
  bus: AtaBus
  unit: number
  owner: string
}

function plugIn(
  context: PlugContext,
  option: DeviceOption,
  { bus, unit, owner }: Place,
  device: AtaUnit,
): PluggedDevice {
  device.onUnknown = context.bus.unknownOf(owner)
  bus.attach(unit, owner, device)
  addBootIndex(context, option, bus.firmwarePath(unit))
  return new IdeDevice(bus, device)
}

/** The unit that `bus=` and `unit=` name, or the first one that is free. */
function findPlace(context: PlugContext, option: DeviceOption): Place {
  const read = propertyReader(option)
  const owner = option.id ?? option.driver
  const name = read.text('bus')
  const all = context.ataBuses
  const buses = name === undefined ? all : all.filter((bus) => bus.name === name)
  if (buses.length === 0) {
    throw new VmmError(
      'E_DEVICE_OPTION',
      name === undefined
        ? `No 'IDE' bus found for device '${option.driver}'`
        : `Bus '${name}' not found (there are ${all.map((bus) => bus.name).join(', ')})`,
      { fields: { device: owner } },
    )
  }
  const wanted = read.int('unit', 0, Math.max(...buses.map(({ units }) => units)) - 1, -1)
  for (const bus of buses) {
    for (let unit = 0; unit < bus.units; unit++) {
      if (wanted >= 0 && unit !== wanted) continue
      if (bus.owner(unit) === undefined) return { bus, unit, owner }
    }
  }
  const [bus] = buses
  throw new VmmError(
    'E_DEVICE_OPTION',
    wanted >= 0 && name !== undefined
      ? `IDE unit ${wanted} of ${name} is in use by ${bus?.owner(wanted)}; give ${owner} another`
      : `IDE bus ${name ?? 'of the machine'} is full; there is no place for ${owner}`,
    { fields: { device: owner } },
  )
}

function identity(option: DeviceOption, { bus, unit }: Place, model: string): Identity {
  const read = propertyReader(option)
  const number = String(bus.serialNumber(unit)).padStart(5, '0')
  return {
    model,
    serial: read.text('serial') ?? `QM${number}`,
    version: read.text('ver') ?? VERSION,
  }
}

/** All of cylinders, heads and sectors are given, or none. */
function geometry(option: DeviceOption, sectors: number): Geometry {
  const read = propertyReader(option)
  const guess = guessGeometry(sectors)
  const given = (['cyls', 'heads', 'secs'] as const).filter((key) => read.text(key) !== undefined)
  if (given.length === 0) return guess
  if (given.length < 3) throw bad(option, given[0]!, 'needs the other two of cyls, heads and secs')
  return {
    cylinders: read.int('cyls', 1, 65_535, 1),
    heads: read.int('heads', 1, 16, 16),
    sectors: read.int('secs', 1, 255, 63),
  }
}

function bad({ driver, id }: DeviceOption, property: string, why: string): VmmError {
  return new VmmError(
    'E_DEVICE_OPTION',
    `Property '${driver}.${property}' of ${id ?? driver} ${why}`,
    {
      fields: { device: id ?? driver, property },
    },
  )
}
