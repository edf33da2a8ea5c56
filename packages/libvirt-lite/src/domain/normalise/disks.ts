import { refusal, unsupported } from '../refuse.ts'
import type { Disk, DiskSource, DomainDefinition } from '../generated/model.ts'

export type DiskBus = NonNullable<NonNullable<Disk['target']>['bus']>

/** What the beginning of a name says of the bus. */
const busOfName: readonly (readonly [string, DiskBus])[] = [
  ['fd', 'fdc'],
  ['hd', 'ide'],
  ['sd', 'scsi'],
  ['vd', 'virtio'],
  ['xvd', 'xen'],
  ['ubd', 'uml'],
]

/** The number of a disk on its bus, from a name: `vda` is 0, `vdaa` is 26. */
export function diskIndex(name: string): number {
  const letters = /^(?:ioemu:)?(?:fd|hd|sd|vd|xvd|ubd)([a-z]+)\d*$/.exec(name)?.[1] ?? 'a'
  let index = 0
  for (const letter of letters) index = index * 26 + (letter.codePointAt(0) ?? 97) - 96
  return index - 1
}

/** Kinds, formats and buses of all disks, and their order. */
export function normaliseDisks(def: DomainDefinition): void {
  const disks = def.devices?.disks ?? []
  if (disks.length === 0) return
  // The order depends on what the document says of buses, not on what follows from the names.
  const sorted = sortDisks(disks)
  for (const disk of sorted) normaliseDisk(disk)
  refuseSameTarget(sorted)
  if (def.devices !== undefined) def.devices.disks = sorted
}

/** Disks of a bus are in the order of their numbers; a bus is where its first disk was. */
export function sortDisks(disks: readonly Disk[]): Disk[] {
  const sorted: Disk[] = []
  for (const disk of disks) {
    const sameBus = (other: Disk) => other.target?.bus === disk.target?.bus
    const index = diskIndex(disk.target?.dev ?? '')
    const first = sorted.findIndex(
      (other) => sameBus(other) && diskIndex(other.target?.dev ?? '') > index,
    )
    const last = sorted.findLastIndex((other) => sameBus(other))
    const at = first >= 0 ? first : last >= 0 ? last + 1 : sorted.length
    sorted.splice(at, 0, disk)
  }
  return sorted
}

/** The bus of a disk that comes to others by itself: its place among them depends on it. */
export function completeBus(disk: Disk): void {
  disk.device ??= 'disk'
  if (disk.target !== undefined) disk.target.bus ??= defaultBus(disk, disk.target.dev)
}

function normaliseDisk(disk: Disk): void {
  const { target } = disk
  if (target === undefined) throw refusal('is missing', { at: disk, below: '/target' })
  disk.type ??= 'file'
  completeBus(disk)
  if (disk.type === 'vhostuser') disk.snapshot ??= 'no'
  normaliseSource(disk)
  if (disk.device === 'cdrom') disk.readonly = true
  disk.driver ??= {}
  if (disk.type !== 'vhostuser' || disk.driver.name === undefined) disk.driver.name ??= 'qemu'
  if (disk.type !== 'volume' && disk.type !== 'dir') disk.driver.type ??= 'raw'
  if (disk.type === 'dir') disk.driver.type ??= 'fat'
  checkDisk(disk, target.bus!)
}

function defaultBus(disk: Disk, name: string): DiskBus {
  if (disk.device === 'floppy') return 'fdc'
  const plain = name.replace('ioemu:', '')
  return busOfName.find(([prefix]) => plain.startsWith(prefix))?.[1] ?? 'ide'
}

/** The attribute of a source that counts, by the type of the disk. */
const sourceKey: Partial<Record<NonNullable<Disk['type']>, keyof DiskSource>> = {
  file: 'file',
  block: 'dev',
  dir: 'dir',
  network: 'protocol',
  volume: 'volume',
}

function normaliseSource(disk: Disk): void {
  const key = sourceKey[disk.type ?? 'file']
  const { source } = disk
  if (key === undefined) return
  const removable = disk.device === 'cdrom' || disk.device === 'floppy'
  const empty = source?.[key] === undefined || source[key] === ''
  if (!empty) {
    keepOnly(disk, source, key)
    normaliseHosts(source)
    if (source?.encryption !== undefined) source.encryption.engine ??= 'qemu'
    return
  }
  const wrong = Object.values(sourceKey).find((other) => source?.[other] !== undefined)
  if (wrong !== undefined && wrong !== key) {
    throw refusal(`is missing: a disk of type "${disk.type}" needs it, @${wrong} is of another`, {
      at: source,
      below: `/@${key}`,
    })
  }
  if (!removable) {
    throw refusal(`is missing: a disk of type "${disk.type}" has source/@${key}`, {
      at: disk,
      below: '/source',
    })
  }
  delete disk.source
  disk.type = 'file'
}

/** What belongs to another type of disk would be lost, so it is refused. */
function keepOnly(disk: Disk, source: DiskSource | undefined, key: keyof DiskSource): void {
  for (const other of Object.values(sourceKey)) {
    if (other === key || source?.[other] === undefined) continue
    throw refusal(`does not belong to a disk of type "${disk.type}"`, {
      at: source,
      below: `/@${other}`,
      value: String(source[other]),
    })
  }
}

/** Ports that are well known are said. */
const ports: Readonly<Record<string, number>> = {
  nbd: 10_809,
  http: 80,
  https: 443,
  ftp: 21,
  ftps: 990,
  tftp: 69,
  iscsi: 3260,
  gluster: 24_007,
  sheepdog: 7000,
  ssh: 22,
}

function normaliseHosts(source: DiskSource | undefined): void {
  const port = ports[source?.protocol ?? '']
  if (port === undefined) return
  for (const host of source?.hosts ?? []) {
    if (host.socket === undefined) host.port ??= port
  }
}

function checkDisk(disk: Disk, bus: DiskBus): void {
  const { driver, target, device } = disk
  if (device === 'floppy' && bus !== 'fdc') {
    throw unsupported('a floppy drive is at the bus "fdc"', {
      at: target,
      below: '/@bus',
      value: bus,
    })
  }
  if (device === 'cdrom' && bus === 'virtio') {
    throw unsupported('a CD drive cannot be at the bus "virtio": use sata, scsi or ide', {
      at: target,
      below: '/@bus',
      value: bus,
    })
  }
  if (device === 'lun' && disk.type !== 'block' && disk.type !== 'network') {
    throw unsupported('needs a disk of type "block" or "network"', {
      at: disk,
      below: '/@device',
      value: device,
    })
  }
  const direct = driver?.cache === 'none' || driver?.cache === 'directsync'
  if (driver?.io === 'native' && driver.cache !== undefined && !direct) {
    throw unsupported('needs cache="none" or "directsync"', {
      at: driver,
      below: '/@io',
      value: 'native',
    })
  }
  if (disk.model !== undefined && bus !== 'virtio') {
    throw unsupported('is for disks at the bus "virtio"', {
      at: disk,
      below: '/@model',
      value: disk.model,
    })
  }
  if (target?.removable !== undefined && bus !== 'usb') {
    throw refusal('is for disks at the bus "usb"', { at: target, below: '/@removable' })
  }
}

function refuseSameTarget(disks: readonly Disk[]): void {
  const seen = new Set<string>()
  for (const { target } of disks) {
    if (target === undefined) continue
    if (seen.has(target.dev)) {
      throw refusal('another disk has the same target', {
        at: target,
        below: '/@dev',
        value: target.dev,
      })
    }
    seen.add(target.dev)
  }
}
