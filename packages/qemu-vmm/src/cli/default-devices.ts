import type { DeviceOption } from '../devices/device-type.ts'
import { parseUserOptions } from '../net/user/options.ts'
import { ideLayout, takenPlaces } from './options/drive-place.ts'
import { nicDevice } from './options/nic-models.ts'
import type { Settings } from './settings.ts'

/** Devices that a user gives to have another place for the CD drive. */
const DISPLACES_CDROM = new Set(['ide-cd', 'ide-hd'])
const CDROM_PLACE = 2

/** The VGA that comes before all other devices, as in QEMU: `-vga`, or one by default. */
export function videoDevices({ vga, defaultDevices, devices }: Settings): DeviceOption[] {
  const isDisplaced = !defaultDevices || devices.some(({ driver }) => driver === 'VGA')
  const kind = vga ?? (isDisplaced ? 'none' : 'std')
  return kind === 'std' ? [{ driver: 'VGA', properties: {} }] : []
}

/** Devices that a machine has without being asked, as QEMU's: an empty CD drive. */
export function defaultDevices(settings: Settings): DeviceOption[] {
  if (!settings.defaultDevices) return []
  const isDisplaced = settings.devices.some(({ driver }) => DISPLACES_CDROM.has(driver))
  if (isDisplaced || takenPlaces(settings).has(CDROM_PLACE)) return []
  const bus = `ide.${CDROM_PLACE / ideLayout(settings).units}`
  return [{ driver: 'ide-cd', properties: { bus, unit: '0' } }]
}

/** The network and the card of a machine that is told nothing of either, as QEMU's: one in user mode. */
export function addDefaultNetwork(settings: Settings): void {
  if (!settings.defaultDevices || settings.networkChosen || settings.machine === 'none') return
  const id = 'nic0'
  settings.netdevs.push(parseUserOptions(id, []))
  settings.nics.push(nicDevice([], id))
}
