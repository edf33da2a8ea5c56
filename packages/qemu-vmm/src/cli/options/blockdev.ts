import { closeSync, openSync } from 'node:fs'
import { AIO_MODES } from '../../machine/drive-config.ts'
import type { DriveConfig } from '../../machine/drive-config.ts'
import { CliError } from '../cli-error.ts'
import { parseBool, parseKeyval } from '../keyval.ts'
import { choice, isHelp } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { hint } from '../suggest.ts'
import { discardMode } from './drive.ts'

const DRIVERS = ['raw', 'qcow2', 'file'] as const
/** Keys of a node that are its own. */
const NODE_KEYS = ['driver', 'node-name', 'read-only', 'discard', 'cache.direct', 'cache.no-flush']
const FORMAT_KEYS = [...NODE_KEYS, 'file']
const FILE_KEYS = [...NODE_KEYS, 'filename', 'locking', 'aio', 'auto-read-only']

/** A file that a format node lies on. */
export interface FileNode {
  file: string
  locking: boolean
  readOnly?: boolean
  cache?: 'none' | 'unsafe'
  aio?: (typeof AIO_MODES)[number]
}

export const blockdev: OptionSpec = {
  name: 'blockdev',
  argument: '[driver=]raw|qcow2|file,node-name=name[,file=node|file.key=value][,key=value...]',
  repeatable: true,
  help: [
    "node of a block graph, which -device names by 'drive='; a format's 'file' is another node's",
    "name, or described in place by 'file.driver=file,file.filename=FILE'; also as a JSON object",
  ],
  keys: [
    { name: 'driver', value: 'raw|qcow2|file', help: 'format or protocol, required' },
    { name: 'node-name', value: 'name', help: 'name of the node, required' },
    { name: 'file', value: 'node', help: 'raw, qcow2: the file node below' },
    { name: 'filename', value: 'file', help: 'file: the image' },
    { name: 'locking', value: 'on|off|auto', help: 'file: lock it against other programs' },
    {
      name: 'aio',
      value: AIO_MODES.join('|'),
      help: 'file: who waits for the host: a pool of threads, or the kernel (default: io_uring where the host allows it, else threads); native is io_uring for cache.direct=on',
    },
    { name: 'read-only', value: 'on|off', help: 'no writes' },
    { name: 'auto-read-only', value: 'on|off', help: 'file: no writes if it cannot be written to' },
    { name: 'discard', value: 'ignore|unmap', help: "what a guest's discard does" },
    { name: 'cache.direct', value: 'on|off', help: 'past the page cache of the host' },
    { name: 'cache.no-flush', value: 'on|off', help: "ignore the guest's flushes" },
  ],
  apply(settings, value) {
    if (isHelp(value))
      return ['Supported drivers:', ...DRIVERS.map((name) => `  ${name}`)].join('\n')
    const map = value.startsWith('{')
      ? flatten(value)
      : new Map(parseKeyval(value, { implied: 'driver' }).map((entry) => [entry.key, entry.value]))
    addNode(settings, map)
    return undefined
  },
}

function addNode(settings: Settings, map: Map<string, string>): void {
  const driver = choice(map.get('driver') ?? '', DRIVERS, 'Unknown driver')
  const name = map.get('node-name')
  if (name === undefined) throw new CliError("'node-name' must be specified for the root node")
  if (!/^[a-z][a-z0-9._-]{0,30}$/i.test(name)) throw new CliError(`Invalid node-name: '${name}'`)
  if (settings.fileNodes.has(name) || settings.drives.some(({ id }) => id === name)) {
    throw new CliError(`Duplicate nodes with node-name='${name}'`)
  }
  if (driver === 'file') {
    const node = fileNode(map, '')
    settings.fileNodes.set(name, node)
    // A file alone is a raw disk.
    const drive: DriveConfig = { id: name, format: 'raw', ...common(map), ...node }
    // A format node above says itself whether it writes, and cannot where its file does not.
    const isAuto = parseBool(map.get('auto-read-only') ?? 'off', 'auto-read-only')
    if (isAuto && !isWritable(node.file)) drive.readOnly = true
    settings.drives.push(drive)
    return
  }
  const inner = new Map<string, string>()
  for (const [key, text] of map) if (key.startsWith('file.')) inner.set(key.slice(5), text)
  const own = new Map([...map].filter(([key]) => !key.startsWith('file.')))
  checkKeys(own, FORMAT_KEYS, driver)
  let node: FileNode
  const below = own.get('file')
  if (below !== undefined) {
    const found = settings.fileNodes.get(below)
    if (found === undefined) {
      const names = [...settings.fileNodes.keys()]
      throw new CliError(`Cannot find device='' nor node-name='${below}'${hint(below, names)}`)
    }
    // The format node takes the file over: it is no disk of its own any more.
    settings.drives = settings.drives.filter(({ id }) => id !== below)
    node = found
  } else {
    if (inner.size === 0) throw new CliError('A block device must be specified for "file"')
    choice(inner.get('driver') ?? 'file', ['file'], 'Unknown driver')
    node = fileNode(inner, 'file.')
  }
  const config: DriveConfig = { id: name, format: driver, ...node, ...common(own) }
  settings.drives.push(config)
}

function fileNode(map: Map<string, string>, prefix: string): FileNode {
  checkKeys(map, FILE_KEYS, 'file')
  const file = map.get('filename')
  if (file === undefined) throw new CliError(`Parameter '${prefix}filename' is missing`)
  const aio = map.get('aio')
  const cache = cacheOf(map)
  const locking = map.get('locking') ?? 'auto'
  const readOnly = map.get('read-only')
  parseBool(map.get('auto-read-only') ?? 'off', 'auto-read-only')
  return {
    file,
    locking: locking === 'auto' || parseBool(locking, 'locking'),
    ...(readOnly === undefined ? {} : { readOnly: parseBool(readOnly, 'read-only') }),
    ...(cache === undefined ? {} : { cache }),
    ...(aio === undefined
      ? {}
      : { aio: choice(aio, AIO_MODES, `Parameter '${prefix}aio' does not accept value`) }),
  }
}

/** What is wrong with a file in other ways is told when the disk is opened. */
function isWritable(path: string): boolean {
  try {
    closeSync(openSync(path, 'r+'))
    return true
  } catch (error) {
    return !['EACCES', 'EPERM', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')
  }
}

function common(map: Map<string, string>): Partial<DriveConfig> {
  const options: Partial<DriveConfig> = {}
  const readOnly = map.get('read-only')
  if (readOnly !== undefined) options.readOnly = parseBool(readOnly, 'read-only')
  const discard = map.get('discard')
  if (discard !== undefined) options.discard = discardMode(discard)
  const cache = cacheOf(map)
  if (cache !== undefined) options.cache = cache
  return options
}

/** What the two keys of the cache say together; undefined when both are off. */
function cacheOf(map: Map<string, string>): 'none' | 'unsafe' | undefined {
  const direct = parseBool(map.get('cache.direct') ?? 'off', 'cache.direct')
  const noFlush = parseBool(map.get('cache.no-flush') ?? 'off', 'cache.no-flush')
  if (direct && noFlush) {
    throw new CliError("'cache.direct' and 'cache.no-flush' together are not supported; give one")
  }
  return direct ? 'none' : noFlush ? 'unsafe' : undefined
}

function checkKeys(map: Map<string, string>, keys: readonly string[], driver: string): void {
  for (const key of map.keys()) {
    if (!keys.includes(key)) {
      throw new CliError(
        `Parameter '${key}' is unexpected for driver '${driver}'${hint(key, keys)}`,
      )
    }
  }
}

/** A JSON object as dotted keys. */
function flatten(text: string): Map<string, string> {
  const map = new Map<string, string>()
  const visit = (value: unknown, key: string): void => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [name, inner] of Object.entries(value)) visit(inner, key ? `${key}.${name}` : name)
    } else if (typeof value === 'boolean') map.set(key, value ? 'on' : 'off')
    else if (typeof value === 'string' || typeof value === 'number') map.set(key, String(value))
    else throw new CliError(`Parameter '${key}' has a value of a kind that is not supported`)
  }
  try {
    visit(JSON.parse(text), '')
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError(`the argument is no JSON object: ${(error as Error).message}`)
  }
  return map
}
