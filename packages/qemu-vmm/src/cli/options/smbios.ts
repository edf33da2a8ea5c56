import { readFileSync } from 'node:fs'

import { VmmError } from '../../errors.ts'
import { SMBIOS_TYPES, checkSmbios, checkUuid } from '../../machine/smbios/options.ts'
import type { SmbiosOption, SmbiosType } from '../../machine/smbios/options.ts'
import { CliError } from '../cli-error.ts'
import { parseBool, parseKeyval } from '../keyval.ts'
import type { KeyvalEntry } from '../keyval.ts'
import { keyList } from '../option.ts'
import type { KeySpec, OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { systemMessage } from '../system-error.ts'

/** How a key is read. */
type Kind = 'text' | 'number' | 'bits' | 'bool'

interface Field {
  key: string
  /** What the field is called in a program, where that is another name. */
  name?: string
  kind?: Kind
  help: string
}

const text = (key: string, help: string, name?: string): Field =>
  name === undefined ? { key, help } : { key, help, name }
const MANUFACTURER = text('manufacturer', 'who made it')
const PRODUCT = text('product', 'name of the product')
const VERSION = text('version', 'version')
const SERIAL = text('serial', 'serial number')
const ASSET = text('asset', 'asset tag')
const PART = text('part', 'part number')
const SKU = text('sku', 'SKU number')

/** The keys of each kind of structure; `uuid` and the words of 11 are no fields of their own. */
const FIELDS: Readonly<Record<SmbiosType, readonly Field[]>> = {
  0: [
    text('vendor', 'who made the firmware'),
    VERSION,
    text('date', 'date of release'),
    text('release', 'major and minor number, as in 1.2'),
    { key: 'uefi', kind: 'bool', help: 'whether it is UEFI firmware' },
  ],
  1: [MANUFACTURER, PRODUCT, VERSION, SERIAL, SKU, text('family', 'family of the product')],
  2: [
    MANUFACTURER,
    PRODUCT,
    VERSION,
    SERIAL,
    ASSET,
    text('location', 'where in the chassis it is'),
  ],
  3: [MANUFACTURER, VERSION, SERIAL, ASSET, SKU],
  4: [
    text('sock_pfx', 'what names of sockets begin with', 'socketPrefix'),
    MANUFACTURER,
    VERSION,
    SERIAL,
    ASSET,
    PART,
    { key: 'max-speed', name: 'maxSpeed', kind: 'number', help: 'MHz' },
    { key: 'current-speed', name: 'currentSpeed', kind: 'number', help: 'MHz' },
    { key: 'processor-id', name: 'processorId', kind: 'bits', help: '64 bits of CPUID' },
  ],
  11: [],
  17: [
    text('loc_pfx', 'what names of slots begin with', 'locatorPrefix'),
    text('bank', 'the bank it is in'),
    MANUFACTURER,
    SERIAL,
    ASSET,
    PART,
    { key: 'speed', kind: 'number', help: 'MT/s' },
  ],
}

const KEYS: readonly KeySpec[] = [
  { name: 'file', value: 'file', help: 'a structure in its whole, with its header' },
  { name: 'type', value: SMBIOS_TYPES.join('|'), help: 'the kind of structure that has the keys' },
  { name: 'uuid', value: 'uuid', help: 'type 1: UUID of the machine, as -uuid' },
  { name: 'value', value: 'text', help: 'type 11: a word of the manufacturer, several times' },
  { name: 'path', value: 'file', help: 'type 11: a word that is in this file' },
  ...helpOfFields(),
]

/** `-smbios`: what the guest is told of its hardware. */
export const smbios: OptionSpec = {
  name: 'smbios',
  argument: 'file=file|type=n[,key=value...]',
  repeatable: true,
  help: ['what SMBIOS tells the guest: a structure from a file, or fields of one'],
  keys: KEYS,
  apply(settings, value) {
    if (value === 'help' || value === '?') return keyList('smbios', KEYS)
    const entries = parseKeyval(value)
    take(settings, entries)
    try {
      checkSmbios(settings.smbios)
    } catch (error) {
      throw error instanceof VmmError ? new CliError(error.message) : error
    }
    return undefined
  },
}

function take(settings: Settings, entries: readonly KeyvalEntry[]): void {
  const file = entries.findLast(({ key }) => key === 'file')
  if (file !== undefined) {
    const other = entries.find(({ key }) => key !== 'file')
    if (other !== undefined) throw new CliError(`Invalid parameter '${other.key}' beside 'file'`)
    settings.smbios.push({ bytes: read(file.value) })
    return
  }
  const type = entries.findLast(({ key }) => key === 'type')
  if (type === undefined) throw new CliError('Must specify type= or file=')
  const known = SMBIOS_TYPES.find((number) => String(number) === type.value)
  if (known === undefined) {
    const valid = SMBIOS_TYPES.join(', ')
    throw new CliError(
      `Don't know how to build fields for SMBIOS type ${type.value} (valid: ${valid})`,
    )
  }
  const given = entries.filter(({ key }) => key !== 'type')
  settings.smbios.push(known === 11 ? words(given) : fields(settings, known, given))
}

function words(entries: readonly KeyvalEntry[]): SmbiosOption {
  const values = entries.map(({ key, value }) => {
    if (key === 'value') return value
    if (key === 'path') return Buffer.from(read(value)).toString()
    throw invalid(key, ['value', 'path'])
  })
  return { type: 11, values }
}

function fields(
  settings: Settings,
  type: Exclude<SmbiosType, 11>,
  entries: readonly KeyvalEntry[],
): SmbiosOption {
  const option: Record<string, unknown> = { type }
  for (const { key, value } of entries) {
    if (type === 1 && key === 'uuid') {
      settings.uuid = uuid(value)
      continue
    }
    const field = FIELDS[type].find((one) => one.key === key)
    if (field === undefined) throw invalid(key, keysOf(type))
    option[field.name ?? key] = readField(field, value)
  }
  return option as unknown as SmbiosOption
}

function uuid(value: string): string {
  try {
    return checkUuid(value)
  } catch {
    throw new CliError(`Invalid UUID '${value}'`)
  }
}

function readField({ key, kind = 'text' }: Field, value: string): unknown {
  if (kind === 'bool') return parseBool(value, key)
  if (kind === 'text') return value
  const number = /^(?:0x[0-9a-f]+|[0-9]+)$/i.test(value) ? BigInt(value) : -1n
  if (number < 0n || number >= 1n << 64n) {
    throw new CliError(`Parameter '${key}' expects a number, not '${value}'`)
  }
  return kind === 'bits' ? number : Number(number)
}

const keysOf = (type: SmbiosType): string[] => [
  ...FIELDS[type].map(({ key }) => key),
  ...(type === 1 ? ['uuid'] : []),
]

function invalid(key: string, valid: readonly string[]): CliError {
  return new CliError(`Invalid parameter '${key}' (valid: ${valid.join(', ')})`)
}

function read(path: string): Uint8Array {
  try {
    return Uint8Array.from(readFileSync(path))
  } catch (error) {
    throw new CliError(`Cannot read SMBIOS file ${path}: ${systemMessage(error)}`)
  }
}

/** Each key once, with the kinds of structures that have it. */
function helpOfFields(): KeySpec[] {
  const types = new Map<string, number[]>()
  const all = SMBIOS_TYPES.flatMap((type) => FIELDS[type].map((field) => ({ type, ...field })))
  for (const { type, key } of all) types.set(key, [...(types.get(key) ?? []), type])
  return [...types].map(([name, owners]) => {
    const { kind = 'text', help } = all.find(({ key }) => key === name)!
    const value = kind === 'bits' ? 'number' : kind === 'bool' ? 'on|off' : kind
    return { name, value, help: `type ${owners.join(', ')}: ${help}` }
  })
}
