import type { DriveConfig } from '../../machine/drive-config.ts'
import { CACHE_MODES, DISCARD_MODES, ERROR_ACTIONS } from '../../machine/drive-config.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'

const INTERFACES = ['virtio', 'none'] as const
/** Interfaces of QEMU's that this machine has no controller for. */
const ABSENT = ['ide', 'scsi', 'floppy', 'pflash', 'sd', 'mtd', 'xen'] as const
/** Keys that are properties of the device. */
const DEVICE_KEYS = ['addr', 'serial', 'bootindex'] as const
const FORMATS = ['raw', 'qcow2'] as const

export const drive: OptionSpec = keyvalOption({
  name: 'drive',
  argument: '[file=]file[,if=virtio|none][,format=raw|qcow2][,id=id][,key=value...]',
  implied: 'file',
  repeatable: true,
  help: [
    "disk from an image file; with 'if=virtio' it is there as a virtio-blk-pci device, with",
    "'if=none' a -device names it by its id",
  ],
  keys: [
    { name: 'file', value: 'file', help: 'the image, required' },
    { name: 'if', value: 'virtio|none', help: 'what the disk is connected to, required' },
    { name: 'format', value: 'raw|qcow2', help: 'format of the image (default: by its content)' },
    { name: 'id', value: 'id', help: 'name of the drive' },
    { name: 'index', value: 'n', help: 'number of the disk on its interface' },
    { name: 'media', value: 'disk', help: "kind of medium, 'disk'" },
    {
      name: 'cache',
      value: CACHE_MODES.join('|'),
      help: 'how the host caches, and whether a flush is honoured (default: writeback)',
    },
    { name: 'snapshot', value: 'on|off', help: 'writes go to a temporary file' },
    { name: 'readonly', value: 'on|off', help: 'the guest cannot write' },
    { name: 'discard', value: DISCARD_MODES.join('|'), help: "what a guest's discard does" },
    { name: 'werror', value: ERROR_ACTIONS.join('|'), help: 'what a failed write does' },
    { name: 'rerror', value: 'report|ignore|stop', help: 'what a failed read does' },
    { name: 'serial', value: 'text', help: 'serial number that the guest sees' },
    { name: 'bootindex', value: 'n', help: 'place in the boot order, with if=virtio' },
    { name: 'addr', value: 'slot', help: 'PCI address, with if=virtio' },
  ],
  refused: {
    aio: 'files are read and written by a pool of threads',
    bus: 'virtio disks have a PCI address each: use addr=',
    unit: 'virtio disks have a PCI address each: use addr=',
    'copy-on-read': 'images are not filled from their backing files yet',
    'detect-zeroes': 'zeros are written as they come',
    throttling: 'there are no limits yet',
  },
  take: takeDrive,
})

function takeDrive(settings: Settings, values: Map<string, string>): void {
  const bus = values.get('if') ?? 'ide'
  if ((ABSENT as readonly string[]).includes(bus)) {
    const what = values.has('if') ? `'if=${bus}'` : "the default 'if=ide'"
    throw new CliError(
      `${what} is not supported: this machine has no such controller; use if=virtio`,
    )
  }
  const kind = choice(bus, INTERFACES, 'unsupported bus type')
  const file = values.get('file')
  if (file === undefined || file === '') throw new CliError("Parameter 'file' is missing")
  choice(
    values.get('media') ?? 'disk',
    ['disk'],
    'invalid media for a disk without an IDE controller:',
  )
  const index = values.get('index') ?? String(nextIndex(settings, kind))
  if (!/^\d{1,4}$/.test(index))
    throw new CliError(`Parameter 'index' expects a number, not '${index}'`)
  const id = values.get('id') ?? `${kind}${index}`
  if (settings.drives.some((other) => other.id === id)) {
    throw new CliError(`Duplicate ID '${id}' for drive`)
  }
  const config: DriveConfig = { id, file, ...driveOptions(values) }
  settings.drives.push(config)
  if (kind === 'none') {
    for (const key of DEVICE_KEYS) {
      if (values.has(key))
        throw new CliError(`Parameter '${key}' needs if=virtio; give it to -device`)
    }
    return
  }
  const properties: Record<string, string> = { drive: id }
  for (const key of DEVICE_KEYS) {
    const value = values.get(key)
    if (value !== undefined) properties[key] = value
  }
  settings.driveDevices.push({ driver: 'virtio-blk-pci', properties })
}

function nextIndex(settings: Settings, kind: string): number {
  return settings.drives.filter(({ id }) => id.startsWith(kind)).length
}

/** The keys that say how an image is opened. */
function driveOptions(values: Map<string, string>): Partial<DriveConfig> {
  const options: Partial<DriveConfig> = {}
  const format = values.get('format')
  if (format !== undefined) options.format = choice(format, FORMATS, 'unknown driver')
  const cache = values.get('cache')
  if (cache !== undefined) options.cache = choice(cache, CACHE_MODES, 'invalid cache option')
  const discard = values.get('discard')
  if (discard !== undefined) options.discard = discardMode(discard)
  const werror = values.get('werror')
  if (werror !== undefined)
    options.werror = choice(werror, ERROR_ACTIONS, 'invalid write error action')
  const rerror = values.get('rerror')
  if (rerror !== undefined) {
    options.rerror = choice(rerror, ['report', 'ignore', 'stop'], 'invalid read error action')
  }
  const readOnly = values.get('readonly')
  if (readOnly !== undefined) options.readOnly = parseBool(readOnly, 'readonly')
  const snapshot = values.get('snapshot')
  if (snapshot !== undefined) options.snapshot = parseBool(snapshot, 'snapshot')
  return options
}

/** `on` and `off` are other words for `unmap` and `ignore`. */
export function discardMode(value: string): (typeof DISCARD_MODES)[number] {
  const word = value === 'on' ? 'unmap' : value === 'off' ? 'ignore' : value
  return choice(word, DISCARD_MODES, 'invalid discard option')
}
