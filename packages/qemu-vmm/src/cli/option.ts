import { CliError } from './cli-error.ts'
import { keyvalMap, parseKeyval } from './keyval.ts'
import type { Settings } from './settings.ts'
import { hint } from './suggest.ts'

/** A key of an option's argument. */
export interface KeySpec {
  name: string
  /** What goes behind the `=`: `size`, `on|off`, `file`. */
  value: string
  help: string
}

/** An option of the command, complete: the parser, `-help` and the documentation read only this. */
export interface OptionSpec {
  name: string
  aliases?: readonly string[]
  /** What the argument looks like, after the name; absent for options without an argument. */
  argument?: string
  /** One or more lines of help. */
  help: readonly string[]
  /** Keys of the argument, where it is a list of them. */
  keys?: readonly KeySpec[]
  /** The key that may be left out in front of a first value. */
  implied?: string
  /** May be given several times, each time adding something. */
  repeatable?: boolean
  /** Is shown the argument before any option is applied: what the meaning of others depends on. */
  peek?(settings: Settings, value: string): void
  /**
   * Takes the argument into the settings.
   * @param value the argument; empty for options without one
   * @param at the option with its argument, for messages about it
   * @returns text to print instead of running a machine
   * @throws CliError
   */
  apply(settings: Settings, value: string, at: string): string | undefined | void
}

/** Options that belong under one heading. */
export interface OptionGroup {
  title: string
  /** The file of the documentation that it has for itself, such as `cli-network.md`. */
  page?: string
  options: readonly OptionSpec[]
}

/** An option whose argument is a list of `key=value`. */
export function keyvalOption(
  spec: Omit<OptionSpec, 'apply'> & {
    keys: readonly KeySpec[]
    /** Keys of QEMU's that are not supported, with the reason. */
    refused?: Readonly<Record<string, string>>
    /** Answers `help` given as the whole argument; without it that lists the keys. */
    list?: () => string
    /** What has the keys, for their list; by default the option. */
    owner?: (values: ReadonlyMap<string, string>) => string
    take(settings: Settings, values: Map<string, string>, at: string): void
  },
): OptionSpec {
  const { list, owner, take, refused = {}, ...rest } = spec
  return {
    ...rest,
    apply(settings, value, at) {
      if (isHelp(value)) return list?.() ?? keyList(spec.name, spec.keys)
      if (asksForHelp(value)) {
        const values = keyvalMap(parseKeyval(value, { implied: spec.implied }))
        return keyList(owner?.(values) ?? spec.name, spec.keys)
      }
      const keys = spec.keys.map((key) => key.name)
      const entries = parseKeyval(value, { implied: spec.implied, keys, refused })
      take(settings, keyvalMap(entries), at)
      return undefined
    },
  }
}

/** QEMU's two ways to ask what there is. */
export function isHelp(word: string): boolean {
  return word === 'help' || word === '?'
}

/** Whether an item of the argument is a bare `help`, as in `pc,help`. */
export function asksForHelp(value: string): boolean {
  // Two commas are one inside a value, and no item's end.
  return value.replaceAll(',,', '').split(',').some(isHelp)
}

/** Keys as QEMU lists them. */
export function keyList(owner: string, keys: readonly KeySpec[]): string {
  if (keys.length === 0) return `There are no options for ${owner}.`
  const lines = keys.map((key) => {
    const name = `  ${key.name}=<${key.value}>`
    return key.help === '' ? name : `${name.padEnd(24)} - ${key.help}`
  })
  return [`${owner} options:`, ...lines].join('\n')
}

/** An option without an argument. */
export function flagOption(
  name: string,
  help: readonly string[],
  set: (settings: Settings) => void,
): OptionSpec {
  return { name, help, apply: (settings) => set(settings) }
}

/** One of a few words. */
export function choice<T extends string>(value: string, valid: readonly T[], what: string): T {
  const found = valid.find((word) => word === value)
  if (found === undefined) throw new CliError(`${what} '${value}'${hint(value, valid)}`)
  return found
}
