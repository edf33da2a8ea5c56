import { QmpError } from './message.ts'

/** QAPI's types that are not made of others. */
export type ScalarName = 'str' | 'int' | 'number' | 'bool' | 'any'

/** A member of an object. */
export interface QmpMember {
  type: QmpType
  optional?: boolean
}

export type QmpMembers = Readonly<Record<string, QmpMember>>

/** An object; with `tag`, its members depend on the value of that one. */
export interface QmpObject {
  meta: 'object'
  members: QmpMembers
  /** The member, an enumeration, that chooses a variant. */
  tag?: string
  variants?: Readonly<Record<string, QmpMembers>>
  /**
   * More members may be given than are described: those of a kind of device, which
   * `device-list-properties` has. QEMU's schema leaves them out as well.
   */
  open?: boolean
}

/** One of several types, told apart by what the JSON value is. */
export interface QmpAlternate {
  meta: 'alternate'
  /** QEMU's name of it, for messages. */
  name: string
  of: readonly QmpType[]
}

/**
 * The type of a value in QMP. What checks the arguments of a command and what `query-qmp-schema` tells come
 * both from this.
 */
export type QmpType =
  | { meta: 'builtin'; name: ScalarName }
  | { meta: 'enum'; values: readonly string[] }
  | { meta: 'array'; element: QmpType }
  | QmpObject
  | QmpAlternate

export const str: QmpType = { meta: 'builtin', name: 'str' }
export const int: QmpType = { meta: 'builtin', name: 'int' }
export const bool: QmpType = { meta: 'builtin', name: 'bool' }
/** Whatever the other side makes of it, as properties of objects. */
export const any: QmpType = { meta: 'builtin', name: 'any' }

export function oneOf(values: readonly string[]): QmpType {
  return { meta: 'enum', values }
}

export function listOf(element: QmpType): QmpType {
  return { meta: 'array', element }
}

/** An object whose members are types; those behind a `?` in their names may be absent. */
export function struct(members: Readonly<Record<string, QmpType>>): QmpObject {
  return { meta: 'object', members: membersOf(members) }
}

/** Members by name, where a `?` at the end of a name says that it may be absent. */
export function membersOf(types: Readonly<Record<string, QmpType>>): QmpMembers {
  return Object.fromEntries(
    Object.entries(types).map(([name, type]) =>
      name.endsWith('?') ? [name.slice(0, -1), { type, optional: true }] : [name, { type }],
    ),
  )
}

const KINDS: Readonly<Record<ScalarName, string>> = {
  str: 'string',
  int: 'integer',
  number: 'number',
  bool: 'boolean',
  any: 'any',
}

/**
 * Checks a value; `path` names it in messages, and is empty for the arguments of a command.
 * Throws `QmpError` with QEMU's words.
 */
export function checkType(type: QmpType, value: unknown, path: string): void {
  switch (type.meta) {
    case 'builtin':
      if (!isScalar(type.name, value)) throw wrongType(path, KINDS[type.name])
      return
    case 'enum':
      if (typeof value !== 'string') throw wrongType(path, 'string')
      if (!type.values.includes(value)) {
        // QEMU names the last member alone here, and elements of arrays have no name.
        const name = path.endsWith(']') ? 'null' : path.slice(path.lastIndexOf('.') + 1)
        throw new QmpError(`Parameter '${name}' does not accept value '${value}'`)
      }
      return
    case 'array':
      if (!Array.isArray(value)) throw wrongType(path, 'array')
      for (const [i, element] of (value as unknown[]).entries()) {
        checkType(type.element, element, `${path}[${i}]`)
      }
      return
    case 'object':
      checkObject(type, value, path)
      return
    case 'alternate': {
      const fitting = type.of.find((candidate) => jsonKind(candidate) === kindOf(value))
      if (fitting === undefined) throw wrongType(path, type.name)
      checkType(fitting, value, path)
    }
  }
}

function checkObject(type: QmpObject, value: unknown, path: string): void {
  if (kindOf(value) !== 'object') throw wrongType(path, 'object')
  const object = value as Readonly<Record<string, unknown>>
  const prefix = path === '' ? '' : `${path}.`
  checkMembers(type.members, object, prefix)
  const tag = type.tag === undefined ? undefined : object[type.tag]
  const variant = typeof tag === 'string' ? (type.variants?.[tag] ?? {}) : {}
  checkMembers(variant, object, prefix)
  if (type.open === true) return
  const other = Object.keys(object).find(
    (name) => !Object.hasOwn(type.members, name) && !Object.hasOwn(variant, name),
  )
  if (other !== undefined) throw new QmpError(`Parameter '${prefix}${other}' is unexpected`)
}

function checkMembers(
  members: QmpMembers,
  object: Readonly<Record<string, unknown>>,
  prefix: string,
): void {
  for (const [name, { type, optional = false }] of Object.entries(members)) {
    if (Object.hasOwn(object, name)) checkType(type, object[name], prefix + name)
    else if (!optional) throw new QmpError(`Parameter '${prefix}${name}' is missing`)
  }
}

function isScalar(name: ScalarName, value: unknown): boolean {
  switch (name) {
    case 'str':
      return typeof value === 'string'
    case 'int':
      return Number.isInteger(value)
    case 'number':
      return typeof value === 'number'
    case 'bool':
      return typeof value === 'boolean'
    case 'any':
      return value !== undefined
  }
}

function wrongType(path: string, expected: string): QmpError {
  return new QmpError(`Invalid parameter type for '${path}', expected: ${expected}`)
}

function jsonKind(type: QmpType): string {
  switch (type.meta) {
    case 'builtin':
      return type.name === 'int' ? 'number' : KINDS[type.name]
    case 'enum':
      return 'string'
    default:
      return type.meta
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}
