import type { AnyDevice } from './devices.ts'
import type { Controller, Disk, DomainDefinition } from './generated/model.ts'
import { chipsetOf } from './normalise/machine.ts'

/** Names that are a word and the number of the device among its kind. */
const counted = {
  filesystems: 'fs',
  interfaces: 'net',
  smartcards: 'smartcard',
  serials: 'serial',
  parallels: 'parallel',
  channels: 'channel',
  inputs: 'input',
  tpms: 'tpm',
  sounds: 'sound',
  videos: 'video',
  hostdevs: 'hostdev',
  redirdevs: 'redir',
  hubs: 'hub',
  watchdogs: 'watchdog',
  rngs: 'rng',
  shmems: 'shmem',
  memories: 'dimm',
  cryptos: 'crypto',
} as const

/**
 * Gives all devices the names by which the emulator knows them, as libvirt does at the start:
 * `virtio-disk0`, `net0`, `serial0`. Names of the user stay.
 */
export function assignAliases(def: DomainDefinition): void {
  const { devices = {} } = def
  for (const [kind, prefix] of Object.entries(counted)) {
    const items: AnyDevice[] = devices[kind as keyof typeof counted] ?? []
    // A device that joins others gets a number that none of them has; one that left takes its number with it.
    let next = 0
    for (const { alias } of items) {
      const number = alias?.name.startsWith(prefix) ? alias.name.slice(prefix.length) : ''
      if (/^\d{1,6}$/.test(number)) next = Math.max(next, Number(number) + 1)
    }
    for (const [index, device] of items.entries()) {
      if (device.alias !== undefined) continue
      next = Math.max(next, index)
      name(device, `${prefix}${next++}`)
    }
  }
  for (const disk of devices.disks ?? []) name(disk, diskAlias(disk))
  for (const controller of devices.controllers ?? []) {
    name(controller, controllerAlias(controller, def))
  }
  for (const [index, console] of (devices.consoles ?? []).entries()) {
    const shared = index === 0 && console.target?.type === 'serial'
    const serial = shared ? devices.serials?.[0]?.alias?.name : undefined
    name(console, serial ?? `console${index}`)
  }
  if (devices.memballoon !== undefined && devices.memballoon.model !== 'none') {
    name(devices.memballoon, 'balloon0')
  }
  if (devices.vsock !== undefined) name(devices.vsock, 'vsock0')
  if (devices.iommu !== undefined) name(devices.iommu, 'iommu0')
}

function name(device: AnyDevice, alias: string): void {
  device.alias ??= { name: alias }
}

function diskAlias({ target, address }: Disk): string {
  const prefix = target?.bus ?? 'ide'
  if (address?.type === 'drive') {
    const { controller = 0, bus = 0, target: lun = 0, unit = 0 } = address
    return prefix === 'scsi'
      ? `scsi${controller}-${bus}-${lun}-${unit}`
      : `${prefix}${controller}-${bus}-${unit}`
  }
  const letters = /[a-z]+$/.exec(target?.dev.slice(2) ?? '')?.[0] ?? 'a'
  let index = 0
  for (const letter of letters) index = index * 26 + (letter.codePointAt(0) ?? 97) - 96
  return `${prefix}-disk${index - 1}`
}

/** The emulator itself names what is part of the chipset. */
function controllerAlias({ type, model, index = 0 }: Controller, def: DomainDefinition): string {
  if (type === 'pci') return `${model === 'pcie-root' ? 'pcie' : 'pci'}.${index}`
  const first = index === 0
  if (type === 'usb') return first ? 'usb' : `usb${index}`
  if (type === 'ide' && first && chipsetOf(def) === 'i440fx') return 'ide'
  if (type === 'sata' && first && chipsetOf(def) === 'q35') return 'ide'
  return `${type}${index}`
}
