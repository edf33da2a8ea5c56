import type { DriveConfig } from '../../machine/drive-config.ts'
import { AIO_MODES, CACHE_MODES, DISCARD_MODES, ERROR_ACTIONS } from '../../machine/drive-config.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import { LIMIT_KEYS, driveLimits } from './drive-limits.ts'
import { findPlace, ideLayout } from './drive-place.ts'
import type { Settings } from '../settings.ts'

const INTERFACES = ['ide', 'virtio', 'floppy', 'pflash', 'none'] as const
/** Interfaces of QEMU's that this machine has no controller for. */
const ABSENT = ['scsi', 'sd', 'mtd', 'xen'] as const
const MEDIA = ['disk', 'cdrom'] as const
export type Interface = (typeof INTERFACES)[number]
/** Keys that become properties of the device that an interface has. */
const DEVICE_KEYS: readonly (readonly [string, readonly Interface[]])[] = [
  ['addr', ['virtio']],
  ['serial', ['virtio', 'ide']],
  ['bootindex', ['virtio', 'ide', 'floppy']],
]
const FORMATS = ['raw', 'qcow2'] as const

export const drive: OptionSpec = keyvalOption({
  name: 'drive',
  argument:
    '[file=]file[,if=ide|virtio|floppy|pflash|none][,format=raw|qcow2][,id=id][,key=value...]',
  implied: 'file',
  repeatable: true,
  help: [
    "disk from an image file, at the IDE controller; with 'if=virtio' it is a virtio-blk-pci",
    "device, with 'if=pflash' the flash chip that firmware runs from, or keeps its variables in, with",
    "'if=none' a -device names it by its id",
  ],
  keys: [
    {
      name: 'file',
      value: 'file',
      help: 'the image; CD and floppy drives, and drives for those, are empty without one',
    },
    {
      name: 'if',
      value: 'ide|virtio|floppy|pflash|none',
      help: 'what it is connected to (default: ide)',
    },
    { name: 'format', value: 'raw|qcow2', help: 'format of the image (default: by its content)' },
    { name: 'id', value: 'id', help: 'name of the drive' },
    { name: 'index', value: 'n', help: 'number of the disk on its interface' },
    { name: 'bus', value: 'n', help: 'channel or port, with if=ide' },
    {
      name: 'unit',
      value: 'n',
      help: 'place at its channel, with if=ide; 0 or 1, the number of a flash chip',
    },
    { name: 'media', value: 'disk|cdrom', help: 'kind of medium (default: disk)' },
    {
      name: 'cache',
      value: CACHE_MODES.join('|'),
      help: 'how the host caches, and whether a flush is honoured (default: writeback)',
    },
    {
      name: 'aio',
      value: AIO_MODES.join('|'),
      help: 'who waits for the host: a pool of threads, or the kernel (default: io_uring where the host allows it, else threads); native is io_uring for cache=none and directsync',
    },
    { name: 'snapshot', value: 'on|off', help: 'writes go to a temporary file' },
    { name: 'readonly', value: 'on|off', help: 'the guest cannot write' },
    { name: 'discard', value: DISCARD_MODES.join('|'), help: "what a guest's discard does" },
    { name: 'werror', value: ERROR_ACTIONS.join('|'), help: 'what a failed write does' },
    { name: 'rerror', value: 'report|ignore|stop', help: 'what a failed read does' },
    { name: 'serial', value: 'text', help: 'serial number that the guest sees' },
    { name: 'bootindex', value: 'n', help: 'place in the boot order' },
    { name: 'addr', value: 'slot', help: 'PCI address, with if=virtio' },
    ...LIMIT_KEYS,
  ],
  refused: {
    'copy-on-read': 'images are not filled from their backing files yet',
    'detect-zeroes': 'zeros are written as they come',
  },
  take: takeDrive,
})

function takeDrive(settings: Settings, values: Map<string, string>): void {
  const bus = values.get('if') ?? 'ide'
  if ((ABSENT as readonly string[]).includes(bus)) {
    throw new CliError(
      `'if=${bus}' is not supported: this machine has no such controller; use if=virtio or if=ide`,
    )
  }
  const kind = choice(bus, INTERFACES, 'unsupported bus type')
  const isCdrom = choice(values.get('media') ?? 'disk', MEDIA, 'invalid media') === 'cdrom'
  if (isCdrom && kind !== 'ide' && kind !== 'none') {
    throw new CliError(`media 'cdrom' needs if=ide or if=none: if=${kind} is no CD drive`)
  }
  const place = findPlace(settings, kind, values)
  const file = values.get('file')
  const isEmpty = file === undefined || file === ''
  const hasMedia = kind === 'none' || kind === 'floppy' || (kind === 'ide' && isCdrom)
  if (isEmpty && !hasMedia) throw new CliError("Parameter 'file' is missing")
  const id = values.get('id') ?? defaultId(settings, kind, place, isCdrom)
  if (settings.drives.some((other) => other.id === id)) {
    throw new CliError(`Duplicate ID '${id}' for drive`)
  }
  const image = isEmpty ? {} : { file }
  const config: DriveConfig = { id, ...image, ...driveOptions(values), deleteWithDevice: true }
  settings.drives.push(isCdrom ? { ...config, readOnly: true } : config)
  const properties: Record<string, string> = { drive: id }
  takeProperties(kind, values, properties)
  if (kind === 'none') return
  if (kind === 'pflash') {
    settings.flash[place] = id
    return
  }
  if (kind === 'floppy') {
    settings.driveDevices.push({
      driver: 'floppy',
      properties: { ...properties, unit: `${place}` },
    })
    return
  }
  if (kind === 'virtio') {
    settings.driveDevices.push({ driver: 'virtio-blk-pci', properties })
    return
  }
  const { units } = ideLayout(settings)
  properties['bus'] = `ide.${Math.floor(place / units)}`
  properties['unit'] = String(place % units)
  settings.driveDevices.push({ driver: isCdrom ? 'ide-cd' : 'ide-hd', properties })
}

/** What the device gets of the drive's keys. */
function takeProperties(
  kind: Interface,
  values: ReadonlyMap<string, string>,
  properties: Record<string, string>,
): void {
  for (const [key, kinds] of DEVICE_KEYS) {
    const value = values.get(key)
    if (value === undefined) continue
    if (!kinds.includes(kind)) {
      throw new CliError(`Parameter '${key}' needs if=${kinds.join(' or ')}; give it to -device`)
    }
    properties[key] = value
  }
}

function defaultId(settings: Settings, kind: Interface, place: number, isCdrom: boolean): string {
  if (kind !== 'ide') return `${kind}${place}`
  const { units } = ideLayout(settings)
  return `ide${Math.floor(place / units)}-${isCdrom ? 'cd' : 'hd'}${place % units}`
}

/** The keys that say how an image is opened. */
function driveOptions(values: Map<string, string>): Partial<DriveConfig> {
  const options: Partial<DriveConfig> = driveLimits(values)
  const format = values.get('format')
  if (format !== undefined) options.format = choice(format, FORMATS, 'unknown driver')
  const cache = values.get('cache')
  if (cache !== undefined) options.cache = choice(cache, CACHE_MODES, 'invalid cache option')
  const aio = values.get('aio')
  if (aio !== undefined) options.aio = choice(aio, AIO_MODES, 'invalid aio option')
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
