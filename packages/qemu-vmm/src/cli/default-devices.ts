import type { DeviceOption } from '../devices/device-type.ts'
import { parseUserOptions } from '../net/user/options.ts'
import { drive } from './options/drive.ts'
import { floppyUnits, ideLayout, takenPlaces } from './options/drive-place.ts'
import { nicDevice } from './options/nic-models.ts'
import type { Settings } from './settings.ts'

const CDROM_PLACE = 2

/** The VGA that comes before all other devices, as in QEMU: `-vga`, or one by default. */
export function videoDevices({ vga, defaultDevices, devices }: Settings): DeviceOption[] {
  const isDisplaced = !defaultDevices || devices.some(({ driver }) => driver === 'VGA')
  const kind = vga ?? (isDisplaced ? 'none' : 'std')
  return kind === 'std' ? [{ driver: 'VGA', properties: {} }] : []
}

/** Adds the drives that a machine has without being asked, as QEMU's: for a CD, and on `pc` for a floppy. */
export function addDefaultDrives(settings: Settings): void {
  if (!settings.defaultDevices || settings.machine === 'none') return
  const given = new Set(settings.devices.map(({ driver }) => driver))
  const { units } = ideLayout(settings)
  if (!given.has('ide-cd') && !given.has('ide-hd') && !takenPlaces(settings).has(CDROM_PLACE)) {
    drive.apply(settings, `index=${CDROM_PLACE},media=cdrom`, '-cdrom')
  }
  // The board of q35 has no controller unless there is a drive.
  if (units > 1 && !given.has('floppy') && !given.has('isa-fdc') && !floppyUnits(settings).has(0)) {
    drive.apply(settings, 'if=floppy,index=0', '-fda')
  }
}

/** The network and the card of a machine that is told nothing of either, as QEMU's: one in user mode. */
export function addDefaultNetwork(settings: Settings): void {
  if (!settings.defaultDevices || settings.networkChosen || settings.machine === 'none') return
  const id = 'nic0'
  settings.netdevs.push(parseUserOptions(id, []))
  settings.nics.push(nicDevice([], id, settings.machine))
}
