import { hint } from '../cli/suggest.ts'

/** A command line that the user can put right. It is printed as one line. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError'
}

/** What a command accepts: letters with and without a value, and the long names of both. */
export interface OptionSpec {
  readonly flags: string
  readonly values: string
  /** Long name to letter, or to the name itself. */
  readonly long: Readonly<Record<string, string>>
  /** Long names that take a value. */
  readonly longValues: readonly string[]
  /** Letters and long names of QEMU's command that are not supported, with what to do instead. */
  readonly refused?: Readonly<Record<string, string>>
}

export interface Arguments {
  readonly flags: ReadonlySet<string>
  /** All values of an option, in order. */
  readonly values: ReadonlyMap<string, readonly string[]>
  readonly operands: readonly string[]
}

/** Parses arguments as getopt_long(3) does; options may follow operands. */
export function parseArguments(argv: readonly string[], spec: OptionSpec): Arguments {
  const flags = new Set<string>()
  const values = new Map<string, string[]>()
  const operands: string[] = []
  const put = (key: string, value: string): void => {
    const list = values.get(key)
    if (list === undefined) values.set(key, [value])
    else list.push(value)
  }
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]!
    const next = (shown: string): string => {
      const value = argv[++i]
      if (value === undefined) throw new UsageError(`option requires an argument -- '${shown}'`)
      return value
    }
    if (arg === '--') {
      operands.push(...argv.slice(i + 1))
      break
    }
    if (arg.startsWith('--')) {
      const [name = '', given] = splitOnce(arg.slice(2))
      refuse(spec, name, '--')
      const key = Object.hasOwn(spec.long, name) ? spec.long[name] : undefined
      if (key === undefined) {
        throw new UsageError(
          `unrecognized option '--${name}'${hint(name, Object.keys(spec.long), '--')}`,
        )
      }
      if (spec.longValues.includes(name)) put(key, given ?? next(name))
      else if (given !== undefined) throw new UsageError(`option '--${name}' takes no argument`)
      else flags.add(key)
      continue
    }
    if (!arg.startsWith('-') || arg === '-') {
      operands.push(arg)
      continue
    }
    for (let at = 1; at < arg.length; at++) {
      const letter = arg[at]!
      refuse(spec, letter, '-')
      if (spec.values.includes(letter)) {
        put(letter, at + 1 < arg.length ? arg.slice(at + 1) : next(letter))
        break
      }
      if (!spec.flags.includes(letter)) {
        const valid = [...spec.flags, ...spec.values].map((one) => `-${one}`).join(' ')
        throw new UsageError(`unrecognized option '-${letter}' (valid: ${valid})`)
      }
      flags.add(letter)
    }
  }
  return { flags, values, operands }
}

function refuse(spec: OptionSpec, name: string, dashes: string): void {
  const { refused = {} } = spec
  if (!Object.hasOwn(refused, name)) return
  throw new UsageError(`option '${dashes}${name}' is not supported: ${refused[name]!}`)
}

function splitOnce(text: string): readonly [string, string | undefined] {
  const at = text.indexOf('=')
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

/** The last value of an option. */
export function last(args: Arguments, key: string): string | undefined {
  return args.values.get(key)?.at(-1)
}
