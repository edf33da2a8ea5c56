import type { DomainDefinition } from '../generated/model.ts'
import type { AnyDevice } from '../devices.ts'

/**
 * Places in the boot order: those that devices have themselves, or the first device of each kind in
 * `<os><boot dev=…>`.
 */
export function bootIndices({ os, devices }: DomainDefinition): Map<AnyDevice, number> {
  const indices = new Map<AnyDevice, number>()
  const bootable: AnyDevice[] = [...(devices?.disks ?? []), ...(devices?.interfaces ?? [])]
  for (const device of bootable) {
    if (device.boot !== undefined) indices.set(device, device.boot.order)
  }
  if (indices.size > 0) return indices
  const first = {
    hd: devices?.disks?.find(({ device }) => device === 'disk' || device === 'lun'),
    cdrom: devices?.disks?.find(({ device }) => device === 'cdrom'),
    fd: devices?.disks?.find(({ device }) => device === 'floppy'),
    network: devices?.interfaces?.[0],
  }
  for (const { dev } of os?.boots ?? []) {
    const device = first[dev]
    if (device !== undefined && !indices.has(device)) indices.set(device, indices.size + 1)
  }
  return indices
}
