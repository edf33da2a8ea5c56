import { chipsetOf } from '../normalise/machine.ts'
import type { Disk } from '../generated/model.ts'
import type { AnyDevice } from '../devices.ts'
import { notYet, only, onOff } from './command.ts'
import type { Command, Keys } from './command.ts'

/** Adds drives and the disks that show them to the guest. */
export function addDisks(command: Command, boot: ReadonlyMap<AnyDevice, number>): void {
  for (const [index, disk] of (command.def.devices?.disks ?? []).entries()) {
    addDisk(command, disk, `/domain/devices/disk[${index + 1}]`, boot.get(disk))
  }
}

const handled = [
  'type',
  'device',
  'driver',
  'source',
  'target',
  'readonly',
  'shareable',
  'serial',
  'wwn',
  'boot',
  'alias',
  'address',
  // What it says is read from the image itself.
  'backingStore',
  // Only says what snapshots do.
  'snapshot',
]

/** Adds one disk: its drive, if there is anything in it, and its device. */
export function addDisk(command: Command, disk: Disk, path: string, bootindex?: number): void {
  only(disk, path, handled)
  only(disk.target, `${path}/target`, ['dev', 'bus', 'tray'])
  const image = imageOf(disk, path)
  const drive = `drive-${disk.alias?.name ?? ''}`
  if (image !== undefined) {
    const { driver = {} } = disk
    only(driver, `${path}/driver`, driverKeysFor(command, disk))
    command.addKeys('-drive', '', {
      file: image,
      format: driver.type ?? 'raw',
      if: 'none',
      id: drive,
      media: disk.device === 'cdrom' ? 'cdrom' : undefined,
      readonly: disk.readonly ? 'on' : undefined,
      cache: driver.cache,
      discard: driver.discard,
      werror: driver.errorPolicy === 'enospace' ? 'enospc' : driver.errorPolicy,
      rerror: driver.rerrorPolicy,
      aio: driver.io,
      'copy-on-read': onOff(driver.copyOnRead),
      'detect-zeroes': driver.detectZeroes,
    })
  }
  addDevice(command, disk, path, {
    drive: image === undefined ? undefined : drive,
    serial: disk.serial,
    wwn: disk.wwn === undefined ? undefined : `0x${disk.wwn}`,
    bootindex,
  })
}

/** What a driver can say: of the drive anywhere, of the device on virtio alone. */
function driverKeysFor({ features: { tuning } }: Command, { target }: Disk): string[] {
  const drive = ['name', 'type', 'cache', 'discard', 'errorPolicy', 'rerrorPolicy']
  const virtio = ['queues', 'queueSize']
  return [
    ...drive,
    ...(tuning ? ['io', 'copyOnRead', 'detectZeroes'] : []),
    ...(target?.bus === 'virtio' ? virtio : []),
    ...(target?.bus === 'virtio' && tuning
      ? ['ioeventfd', 'eventIdx', 'iommu', 'ats', 'packed', 'pagePerVq']
      : []),
  ]
}

function imageOf(disk: Disk, path: string): string | undefined {
  const { source, type } = disk
  if (source === undefined) return undefined
  if (type !== 'file' && type !== 'block') {
    throw notYet(
      `${path}/@type`,
      `disks of type "${type}" are not there yet, expected file or block`,
    )
  }
  only(source, `${path}/source`, ['file', 'dev', 'startupPolicy', 'index'])
  return type === 'file' ? source.file : source.dev
}

function addDevice(command: Command, disk: Disk, path: string, keys: Keys): void {
  const { target, device, address, alias } = disk
  if (device === 'lun') throw notYet(`${path}/@device`, 'expected disk, cdrom or floppy')
  const where = address?.type === 'drive' ? address : undefined
  const { controller = 0, bus = 0, unit = 0 } = where ?? {}
  const optical = device === 'cdrom'
  switch (target?.bus) {
    case 'virtio':
      command.addDevice('virtio-blk-pci', path, disk, { ...keys, ...virtioKeys(command, disk) })
      return
    case 'ide':
      command.addDevice(optical ? 'ide-cd' : 'ide-hd', path, alias ? { alias } : {}, {
        ...keys,
        bus: `ide.${bus}`,
        unit,
      })
      return
    case 'sata': {
      const builtIn = controller === 0 && chipsetOf(command.def) === 'q35'
      command.addDevice(optical ? 'ide-cd' : 'ide-hd', path, alias ? { alias } : {}, {
        ...keys,
        bus: builtIn ? `ide.${unit}` : `sata${controller}.${unit}`,
      })
      return
    }
    case 'fdc':
      command.addDevice('floppy', path, alias ? { alias } : {}, { ...keys, unit })
      return
    default:
      throw notYet(
        `${path}/target/@bus`,
        `disks at the bus "${target?.bus}" are not there yet, expected one of virtio, sata, ide, fdc`,
      )
  }
}

function virtioKeys(command: Command, disk: Disk): Keys {
  const { driver = {} } = disk
  return {
    'num-queues': driver.queues,
    'queue-size': driver.queueSize,
    ioeventfd: onOff(driver.ioeventfd),
    event_idx: onOff(driver.eventIdx),
    iommu_platform: onOff(driver.iommu),
    ats: onOff(driver.ats),
    packed: onOff(driver.packed),
    'page-per-vq': onOff(driver.pagePerVq),
    'share-rw': disk.shareable && command.features.tuning ? 'on' : undefined,
  }
}
