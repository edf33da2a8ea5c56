import { VmmError } from '../../errors.ts'
import { netdevTypes } from '../../net/netdev-types.ts'
import type { NetdevType } from '../../net/netdev-types.ts'
import { CliError } from '../cli-error.ts'
import type { KeyvalEntry } from '../keyval.ts'
import type { Settings } from '../settings.ts'
import { hint } from '../suggest.ts'

/** The types of networks, as help has them. */
export const typeList: string = netdevTypes.map(({ name }) => name).join('|')

export function nameList(title: string, items: readonly { name: string }[]): string {
  return [title, ...items.map(({ name }) => name)].join('\n')
}

export function lastValue(entries: readonly KeyvalEntry[], key: string): string | undefined {
  return entries.findLast((entry) => entry.key === key)?.value
}

/**
 * Adds the network that options describe.
 * @throws CliError for a type that there is not, an id that is taken, and what the type refuses
 */
export function addNetdev(
  settings: Settings,
  typeName: string | undefined,
  id: string,
  options: readonly KeyvalEntry[],
): void {
  const type = typeOf(typeName)
  if (settings.netdevs.some((other) => other.id === id)) {
    throw new CliError(`Duplicate ID '${id}' for netdev`)
  }
  try {
    settings.netdevs.push(type.parse(id, options))
  } catch (error) {
    if (error instanceof VmmError) throw new CliError(error.message)
    throw error
  }
}

function typeOf(name: string | undefined): NetdevType {
  if (name === undefined) throw new CliError("Parameter 'type' is missing")
  const found = netdevTypes.find((type) => type.name === name)
  if (found !== undefined) return found
  const known = netdevTypes.map((type) => type.name)
  throw new CliError(`Parameter 'type' does not accept value '${name}'${hint(name, known)}`)
}

/** As QEMU numbers networks that have no name. */
export function freeId(settings: Settings, prefix: string): string {
  for (let n = 0; ; n++) {
    const id = `${prefix}${n}`
    if (!settings.netdevs.some((other) => other.id === id)) return id
  }
}

/**
 * The entries of a JSON object, as management programs give it: members that are objects have names with dots.
 * @throws CliError
 */
export function jsonEntries(text: string): KeyvalEntry[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new CliError(`the argument is no JSON object: ${(error as Error).message}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CliError('the argument is no JSON object')
  }
  return memberEntries(value as Record<string, unknown>)
}

/**
 * The same of an object that is read already.
 * @throws CliError for members that no option has
 */
export function memberEntries(
  members: Readonly<Record<string, unknown>>,
  prefix = '',
): KeyvalEntry[] {
  return Object.entries(members).flatMap(([name, value]) => {
    const key = `${prefix}${name}`
    if (Array.isArray(value)) return value.map((item) => ({ key, value: listItem(key, item) }))
    if (typeof value === 'boolean') return { key, value: value ? 'on' : 'off' }
    if (typeof value === 'string' || typeof value === 'number') return { key, value: `${value}` }
    // One level is as deep as addresses go.
    if (typeof value === 'object' && value !== null && prefix === '') {
      return memberEntries(value as Record<string, unknown>, `${key}.`)
    }
    throw new CliError(`Invalid parameter type for '${key}'`)
  })
}

/** Lists have their texts in objects. */
function listItem(key: string, item: unknown): string {
  const text = typeof item === 'object' && item !== null && 'str' in item ? item.str : undefined
  if (typeof text === 'string') return text
  throw new CliError(`Invalid parameter type for '${key}', expected: a list of {"str": text}`)
}
