import { readDevice } from '../cli/options/device.ts'
import { drive } from '../cli/options/drive.ts'
import { object } from '../cli/options/object.ts'
import { defaultSettings } from '../cli/settings.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand, MonitorContext } from './command.ts'

/** Commands for devices and drives of a machine that runs. */
export const DEVICE_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'device_add',
    params: 'driver[,prop=value][,...]',
    help: 'add a device, as -device does',
    maxArgs: Number.POSITIVE_INFINITY,
    run: async ({ machine }, args) => {
      const read = readDevice(needed(args.join(' '), 'device'), [])
      if (typeof read === 'string') return `${read}\n`
      await machine.addDevice(read)
      return ''
    },
  },
  {
    name: 'device_del',
    params: 'device',
    help: 'ask the guest to let go of a device',
    maxArgs: 1,
    run: async ({ machine }, [id]) => {
      await machine.removeDevice(needed(id, 'id'))
      return ''
    },
  },
  {
    name: 'drive_add',
    params: '[[<domain>:]<bus>:]<slot> [file=file][,if=none][,id=id][,key=value...]',
    help: 'open a disk image, for a device that is added later; the first word is not looked at',
    maxArgs: Number.POSITIVE_INFINITY,
    run: addDrive,
  },
  {
    name: 'drive_del',
    params: 'device',
    help: 'close a disk image that no device has',
    maxArgs: 1,
    run: async ({ machine }, [id]) => {
      await machine.removeDrive(needed(id, 'id'))
      return ''
    },
  },
]

/** Commands for objects. */
export const OBJECT_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'object_add',
    params: '[qom-type=]type,id=str[,prop=value][,...]',
    help: 'add an object, as -object does',
    maxArgs: Number.POSITIVE_INFINITY,
    run: async ({ machine }, args) => {
      const settings = defaultSettings()
      const value = needed(args.join(' '), 'object')
      const text = object.apply(settings, value, value)
      if (typeof text === 'string') return `${text}\n`
      if (settings.secrets.size > 0) throw new MonitorError('nothing would use the secret')
      for (const config of settings.objects) await machine.addObject(config)
      return ''
    },
  },
  {
    name: 'object_del',
    params: 'id',
    help: 'remove an object that no device uses',
    maxArgs: 1,
    run: async ({ machine }, [id]) => {
      await machine.removeObject(needed(id, 'id'))
      return ''
    },
  },
]

async function addDrive(
  { machine }: Pick<MonitorContext, 'machine'>,
  [, ...words]: readonly string[],
): Promise<string> {
  const value = needed(words.join(' '), 'opts')
  const settings = defaultSettings()
  const text = drive.apply(settings, value, value)
  if (typeof text === 'string') return `${text}\n`
  if (settings.driveDevices.length > 0 || settings.flash.length > 0) {
    throw new MonitorError("Can't hot-add drive: give if=none, and its device by device_add")
  }
  for (const config of settings.drives) await machine.addDrive(config)
  return 'OK\n'
}

function needed(value: string | undefined, what: string): string {
  if (value !== undefined && value !== '') return value
  throw new MonitorError(`${what}: string expected`)
}
