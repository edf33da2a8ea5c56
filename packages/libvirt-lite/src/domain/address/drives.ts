import { refusal } from '../refuse.ts'
import { addUpTo, controllersOf } from '../normalise/controllers.ts'
import { chipsetOf } from '../normalise/machine.ts'
import { diskIndex } from '../normalise/disks.ts'
import type { DiskBus } from '../normalise/disks.ts'
import type { Controller, Disk, DomainDefinition } from '../generated/model.ts'

/** Buses whose disks have a controller, a bus of it and a unit. */
const driveBuses = {
  ide: 'ide',
  scsi: 'scsi',
  sata: 'sata',
  fdc: 'fdc',
} as const satisfies Partial<Record<DiskBus, Controller['type']>>

type DriveBus = keyof typeof driveBuses

interface DriveAddress {
  controller: number
  bus: number
  target: number
  unit: number
}

/** Gives disks that are at a controller the place that their names say, and adds the controllers. */
export function assignDrives(def: DomainDefinition): void {
  const { devices } = def
  const taken = new Map<string, Disk>()
  for (const disk of devices?.disks ?? []) {
    const bus = disk.target?.bus
    if (bus === undefined || !isDriveBus(bus)) continue
    const address = placeOf(disk, bus)
    const key = `${bus} ${address.controller}.${address.bus}.${address.target}.${address.unit}`
    const other = taken.get(key)
    if (other !== undefined) {
      throw refusal(`the disk ${other.target?.dev} has the same address, ${key}`, {
        at: disk.address ?? disk,
      })
    }
    taken.set(key, disk)
    disk.address = { ...disk.address, type: 'drive', ...address }
  }
  for (const hostdev of devices?.hostdevs ?? []) {
    if (hostdev.type !== 'scsi' || hostdev.address !== undefined) continue
    const unit = freeScsiUnit(taken)
    taken.set(`scsi 0.0.0.${unit}`, { target: { dev: 'sda' } })
    hostdev.address = { type: 'drive', controller: 0, bus: 0, target: 0, unit }
  }
  addControllers(def)
}

function isDriveBus(bus: DiskBus): bus is DriveBus {
  return Object.hasOwn(driveBuses, bus)
}

function placeOf(disk: Disk, bus: DriveBus): DriveAddress {
  const { address } = disk
  if (address !== undefined && address.type !== 'drive') {
    throw refusal(`a disk at the bus "${bus}" has an address of type "drive"`, {
      at: address,
      below: '/@type',
      value: address.type,
    })
  }
  const index = diskIndex(disk.target?.dev ?? '')
  const named = address === undefined ? byIndex(bus, index) : {}
  const place = { controller: 0, bus: 0, target: 0, unit: 0, ...named, ...definedOf(address) }
  if (bus === 'fdc' && place.unit > 1) {
    throw refusal('a floppy controller has the units 0 and 1', {
      at: address ?? disk,
      value: place.unit,
    })
  }
  return place
}

function definedOf(address: Disk['address']): Partial<DriveAddress> {
  if (address?.type !== 'drive') return {}
  const { controller, bus, target, unit } = address
  return {
    ...(controller === undefined ? {} : { controller }),
    ...(bus === undefined ? {} : { bus }),
    ...(target === undefined ? {} : { target }),
    ...(unit === undefined ? {} : { unit }),
  }
}

/** Two drives on each of two channels, seven disks on a SCSI bus, six ports of SATA, two floppies. */
function byIndex(bus: DriveBus, index: number): Partial<DriveAddress> {
  switch (bus) {
    case 'ide':
      return { controller: index >> 2, bus: (index >> 1) & 1, unit: index & 1 }
    case 'scsi':
      return { controller: Math.floor(index / 7), unit: index % 7 }
    case 'sata':
      return { controller: Math.floor(index / 6), unit: index % 6 }
    case 'fdc':
      return { controller: index >> 1, unit: index & 1 }
  }
}

function freeScsiUnit(taken: ReadonlyMap<string, Disk>): number {
  let unit = 0
  while (taken.has(`scsi 0.0.0.${unit}`)) unit++
  return unit
}

function addControllers(def: DomainDefinition): void {
  // Controllers come in the order of their types, not of the disks.
  for (const bus of ['scsi', 'fdc', 'ide', 'sata'] as const) {
    const disks = (def.devices?.disks ?? []).filter(({ target }) => target?.bus === bus)
    const others = bus === 'scsi' ? scsiHostdevs(def) : []
    const highest = [...disks, ...others].map(({ address }) =>
      address?.type === 'drive' ? (address.controller ?? 0) : 0,
    )
    if (highest.length > 0) addUpTo(def, bus, Math.max(...highest))
  }
  for (const controller of controllersOf(def)) {
    if (controller.type === 'scsi' && (controller.model ?? 'auto') === 'auto') {
      controller.model = 'lsilogic'
    }
    if (controller.type === 'ide' && (controller.index ?? 0) > 0 && chipsetOf(def) === 'i440fx') {
      throw refusal('this machine has a single IDE controller, of four drives', {
        at: controller,
      })
    }
  }
}

function scsiHostdevs({ devices }: DomainDefinition): { address?: Disk['address'] }[] {
  return (devices?.hostdevs ?? [])
    .filter(({ type }) => type === 'scsi')
    .map(({ address }) => (address === undefined ? {} : { address }))
}
