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
