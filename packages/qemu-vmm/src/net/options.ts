import { VmmError } from '../errors.ts'

/** One option of a network, in the order in which it was given. */
export interface NetOption {
  key: string
  value: string
}

/** An error that names an option. */
export function badOption(key: string, message: string): VmmError {
  return new VmmError('E_NETDEV', message, { fields: { option: key } })
}

/**
 * Options by key; the last of a repeated one counts.
 * @throws VmmError `E_NETDEV` for one that is not in `keys`, or is in `refused`, with the reason there
 */
export function netOptions(
  kind: string,
  options: readonly NetOption[],
  keys: readonly string[],
  refused: Readonly<Record<string, string>> = {},
): ReadonlyMap<string, string> {
  for (const { key } of options) {
    if (Object.hasOwn(refused, key)) {
      throw badOption(key, `Parameter '${key}' is not supported: ${refused[key]}`)
    }
    if (!keys.includes(key)) {
      const all = keys.join(', ')
      throw badOption(key, `Invalid parameter '${key}' of a ${kind} network: it has ${all}`)
    }
  }
  return new Map(options.map(({ key, value }) => [key, value]))
}

/** `on` or `off`. */
export function boolOption(
  values: ReadonlyMap<string, string>,
  key: string,
  otherwise: boolean,
): boolean {
  const value = values.get(key)
  if (value === undefined) return otherwise
  if (['on', 'yes', 'true', 'y'].includes(value)) return true
  if (['off', 'no', 'false', 'n'].includes(value)) return false
  throw badOption(key, `Parameter '${key}' expects 'on' or 'off', not '${value}'`)
}
