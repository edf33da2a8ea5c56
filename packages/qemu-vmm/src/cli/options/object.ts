import { readFileSync } from 'node:fs'

import type { MemoryBackendConfig, ObjectConfig } from '../../objects/config.ts'
import { CliError } from '../cli-error.ts'
import { keyvalMap, parseBool, parseKeyval } from '../keyval.ts'
import { asksForHelp, choice, isHelp, keyList } from '../option.ts'
import type { KeySpec, OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { systemMessage } from '../system-error.ts'
import { parseSize } from '../size.ts'
import { checkId } from './chardev.ts'
import { FILTERS, FILTER_HELP, FILTER_KEYS, filterOf, isFilter } from './object-filters.ts'

const TYPES = [
  ...FILTERS,
  'memory-backend-file',
  'memory-backend-memfd',
  'memory-backend-ram',
  'rng-builtin',
  'rng-random',
  'secret',
] as const
type ObjectType = (typeof TYPES)[number]

const PREALLOC: KeySpec = { name: 'prealloc', value: 'bool', help: 'Preallocate memory' }
const SHARE: KeySpec = {
  name: 'share',
  value: 'bool',
  help: 'Mark the memory as private to QEMU or shared',
}
const SIZE: KeySpec = { name: 'size', value: 'int', help: 'Size of the memory region (ex: 500M)' }

/** Keys as QEMU describes them, in its order. */
const KEYS: Readonly<Record<ObjectType, readonly KeySpec[]>> = {
  ...FILTER_KEYS,
  'memory-backend-file': [
    { name: 'mem-path', value: 'string', help: 'File, or folder for one without a name' },
    PREALLOC,
    SHARE,
    SIZE,
  ],
  'memory-backend-memfd': [
    { name: 'hugetlb', value: 'bool', help: 'Use huge pages' },
    { name: 'hugetlbsize', value: 'int', help: 'Huge pages size (ex: 2M, 1G)' },
    PREALLOC,
    SHARE,
    SIZE,
  ],
  'memory-backend-ram': [PREALLOC, SHARE, SIZE],
  'rng-builtin': [],
  'rng-random': [{ name: 'filename', value: 'string', help: 'Where the bytes come from' }],
  secret: [
    { name: 'data', value: 'string', help: 'The secret itself' },
    { name: 'file', value: 'string', help: 'File with the secret' },
    { name: 'format', value: 'raw|base64', help: 'How it is written' },
  ],
}

const NO_NUMA = 'memory is not bound to nodes of the host'
const REFUSED: Readonly<Record<string, string>> = {
  'host-nodes': NO_NUMA,
  policy: NO_NUMA,
  'prealloc-threads': 'one thread preallocates',
  'prealloc-context': 'one thread preallocates',
  merge: 'memory is never offered for merging',
  dump: 'the host decides on core dumps',
  reserve: 'the host decides on swap space',
  seal: 'the size of a memfd is always sealed',
  align: 'memory is always aligned to 2 MiB',
  pmem: 'persistent memory is not supported',
  readonly: 'guest memory can always be written',
  'discard-data': 'a file keeps what the guest wrote',
}

/** `-object`. */
export const object: OptionSpec = {
  name: 'object',
  argument: '[qom-type=]type,id=id[,key=value...]',
  repeatable: true,
  help: [
    'something that a device or the machine refers to by id: a source of random bytes, what guest',
    "memory is made of, a capture of frames or what holds them back ('-object help' lists types,",
    "'-object type,help' keys)",
  ],
  keys: [
    { name: 'qom-type', value: TYPES.join('|'), help: 'the type' },
    { name: 'id', value: 'id', help: 'name of the object, required' },
    {
      name: 'filename',
      value: 'file',
      help: 'rng-random: where the bytes come from (default: /dev/urandom)',
    },
    ...FILTER_HELP,
    { name: 'data', value: 'text', help: 'secret: the secret itself' },
    { name: 'file', value: 'file', help: 'secret: a file with it; filter-dump: the capture' },
    { name: 'format', value: 'raw|base64', help: 'secret: how it is written (default: raw)' },
    { name: 'size', value: 'size', help: 'memory-backend-*: bytes, required' },
    {
      name: 'share',
      value: 'on|off',
      help: 'memory-backend-*: others that have the file see what the guest writes',
    },
    {
      name: 'prealloc',
      value: 'on|off',
      help: 'memory-backend-*: take the memory from the host before the machine starts',
    },
    { name: 'hugetlb', value: 'on|off', help: 'memory-backend-memfd: large pages of the host' },
    { name: 'hugetlbsize', value: 'size', help: 'memory-backend-memfd: bytes of a large page' },
    {
      name: 'mem-path',
      value: 'path',
      help: 'memory-backend-file: a file, or a folder for one without a name; required',
    },
  ],
  implied: 'qom-type',
  apply(settings, value) {
    if (isHelp(value)) {
      return ['List of user creatable objects:', ...TYPES.map((type) => `  ${type}`)].join('\n')
    }
    const all = parseKeyval(value, { implied: 'qom-type' })
    const type = choice(
      all.find(({ key }) => key === 'qom-type')?.value ?? '',
      TYPES,
      "Parameter 'qom-type' does not accept value",
    )
    if (asksForHelp(value)) return keyList(type, KEYS[type])
    const keys = ['qom-type', 'id', ...KEYS[type].map((key) => key.name)]
    const isMemory = type.startsWith('memory-')
    const values = keyvalMap(
      parseKeyval(value, { implied: 'qom-type', keys, refused: isMemory ? REFUSED : {} }),
    )
    take(settings, type, values)
    return undefined
  },
}

function take(settings: Settings, type: ObjectType, values: ReadonlyMap<string, string>): void {
  const id = values.get('id')
  if (id === undefined) throw new CliError("Parameter 'id' is missing")
  checkId(id)
  if (settings.objects.some((other) => other.id === id)) {
    throw new CliError(`attempt to add duplicate property '${id}' to object (type 'container')`)
  }
  if (type === 'secret') takeSecret(settings, id, values)
  else settings.objects.push(build(type, id, values))
}

/** A secret must be one; nothing uses it yet. */
function takeSecret(settings: Settings, id: string, values: ReadonlyMap<string, string>): void {
  if (settings.secrets.has(id)) {
    throw new CliError(`attempt to add duplicate property '${id}' to object (type 'container')`)
  }
  const [data, file] = [values.get('data'), values.get('file')]
  if ((data === undefined) === (file === undefined)) {
    throw new CliError("Provide either 'data' or 'file', and not both")
  }
  const format = choice(values.get('format') ?? 'raw', ['raw', 'base64'], 'invalid value of format')
  const text = data ?? readSecret(file ?? '')
  if (format === 'base64' && !/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text)) {
    throw new CliError('Base64 data is not valid')
  }
  settings.secrets.add(id)
}

function readSecret(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch (error) {
    throw new CliError(`Unable to read ${file}: ${systemMessage(error)}`)
  }
}

function build(
  type: Exclude<ObjectType, 'secret'>,
  id: string,
  values: ReadonlyMap<string, string>,
): ObjectConfig {
  if (isFilter(type)) return filterOf(type, id, values)
  if (type === 'rng-builtin') return { type, id }
  if (type === 'rng-random') {
    const filename = values.get('filename')
    return filename === undefined ? { type, id } : { type, id, filename }
  }
  const size = values.get('size')
  if (size === undefined) throw new CliError("Parameter 'size' is missing")
  const backend: MemoryBackendConfig = { type, id, size: parseSize(size, 'B', 'size') }
  for (const key of ['share', 'prealloc', 'hugetlb'] as const) {
    const text = values.get(key)
    if (text !== undefined) backend[key] = parseBool(text, key)
  }
  const pageSize = values.get('hugetlbsize')
  if (pageSize !== undefined) {
    if (backend.hugetlb !== true) throw new CliError("'hugetlbsize' needs 'hugetlb=on'")
    backend.hugetlbsize = parseSize(pageSize, 'B', 'hugetlbsize')
  }
  if (type === 'memory-backend-file') {
    const path = values.get('mem-path')
    if (path === undefined || path === '') throw new CliError("Parameter 'mem-path' is missing")
    backend.memPath = path
  }
  return backend
}
