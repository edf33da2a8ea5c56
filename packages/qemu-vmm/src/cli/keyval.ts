import { CliError } from './cli-error.ts'
import { hint } from './suggest.ts'

/** One `key=value` of an option's argument, in the order of the command line. */
export interface KeyvalEntry {
  key: string
  value: string
}

/** How an argument is taken apart. */
export interface KeyvalSyntax {
  /** The key of a first item that has no `=`. */
  implied?: string | undefined
  /** Valid keys. Absent: any key is taken. */
  keys?: readonly string[] | undefined
  /** Keys that are known but not supported, with the reason. */
  refused?: Readonly<Record<string, string>>
}

/**
 * Splits `value,key=value,flag,noflag` into entries.
 *
 * A comma inside a value is written twice. A key without `=` means `on`, and `off` when it is a
 * valid key with `no` in front; only the first item can be the implied key's value.
 *
 * @throws CliError when a key is empty or not valid
 */
export function parseKeyval(text: string, syntax: KeyvalSyntax = {}): KeyvalEntry[] {
  if (text === '') return []
  const entries: KeyvalEntry[] = []
  for (const item of splitItems(text)) {
    const equals = item.indexOf('=')
    const first = entries.length === 0
    if (equals < 0 && first && syntax.implied !== undefined) {
      entries.push({ key: syntax.implied, value: unescape(item) })
    } else if (equals < 0) {
      entries.push(bareFlag(unescape(item), syntax))
    } else {
      entries.push({ key: item.slice(0, equals), value: unescape(item.slice(equals + 1)) })
    }
  }
  for (const { key } of entries) checkKey(key, syntax)
  return entries
}

/** The reverse of {@link parseKeyval}, for entries whose keys hold neither `=` nor `,`. */
export function formatKeyval(entries: readonly KeyvalEntry[]): string {
  return entries.map(({ key, value }) => `${key}=${value.replaceAll(',', ',,')}`).join(',')
}

/** Entries as a map; of a repeated key the last one counts. */
export function keyvalMap(entries: readonly KeyvalEntry[]): Map<string, string> {
  return new Map(entries.map(({ key, value }) => [key, value]))
}

/** `on` or `off`, with QEMU's other spellings. */
export function parseBool(value: string, name: string): boolean {
  switch (value) {
    case 'on':
    case 'yes':
    case 'true':
    case 'y':
      return true
    case 'off':
    case 'no':
    case 'false':
    case 'n':
      return false
    default:
      throw new CliError(`Parameter '${name}' expects 'on' or 'off', not '${value}'`)
  }
}

/** A single comma ends an item, a double one stands for a comma. */
function splitItems(text: string): string[] {
  const items: string[] = []
  let start = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ',') continue
    if (text[i + 1] === ',') {
      i++
      continue
    }
    items.push(text.slice(start, i))
    start = i + 1
  }
  // A comma at the very end does not begin another item.
  if (start < text.length) items.push(text.slice(start))
  return items
}

function unescape(text: string): string {
  return text.replaceAll(',,', ',')
}

function bareFlag(word: string, { keys }: KeyvalSyntax): KeyvalEntry {
  if (word.startsWith('no') && keys !== undefined && !keys.includes(word)) {
    const positive = word.slice(2)
    if (keys.includes(positive)) return { key: positive, value: 'off' }
  }
  return { key: word, value: 'on' }
}

function checkKey(key: string, { keys, refused = {} }: KeyvalSyntax): void {
  if (key === '') throw new CliError('a key is missing')
  if (Object.hasOwn(refused, key)) {
    throw new CliError(`Parameter '${key}' is not supported: ${refused[key]}`)
  }
  if (keys !== undefined && !keys.includes(key)) {
    throw new CliError(`Invalid parameter '${key}'${hint(key, keys)}`)
  }
}
