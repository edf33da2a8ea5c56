import { VmmError } from '../errors.ts'
import { CliError } from '../cli/cli-error.ts'
import { hint } from '../cli/suggest.ts'
import { UsageError } from './args.ts'
import { check } from './check.ts'
import { compare } from './compare.ts'
import { convert } from './convert.ts'
import { create } from './create.ts'
import { info } from './info.ts'

const COMMANDS: Readonly<
  Record<string, (argv: readonly string[], print: (line: string) => void) => Promise<number>>
> = { check, compare, convert, create, info }

const HELP = `usage: qemu-img command [command options]

  check [-f FORMAT] [-r leaks|all] [--output=human|json] [-q] [-U] FILE
  compare [-f FORMAT] [-F FORMAT] [-s] [-q] [-U] FILE1 FILE2
  convert [-f FORMAT] [-O FORMAT] [-c] [-p] [-q] [-U] FILE OUTPUT
  create [-f FORMAT] [-b BACKING -F FORMAT] [-u] [-o OPTIONS] [-q] FILE [SIZE]
  info [-f FORMAT] [--output=human|json] [--backing-chain] [-U] FILE

Supported formats: qcow2 raw`

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv
  const print = (line: string): void => void process.stdout.write(`${line}\n`)
  try {
    if (name === '--help' || name === '-h') {
      print(HELP)
      return 0
    }
    if (name === undefined) throw new UsageError('Not enough arguments')
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) {
      throw new UsageError(`Command not found: ${name}${hint(name, Object.keys(COMMANDS))}`)
    }
    return await command(rest, print)
  } catch (error) {
    return report(name ?? '', error)
  }
}

/** One line for what the user can put right. An image that cannot be compared is code 2, as in QEMU. */
function report(command: string, error: unknown): number {
  const expected =
    error instanceof VmmError || error instanceof UsageError || error instanceof CliError
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(`qemu-img: ${expected ? '' : 'internal error: '}${message}\n`)
  if (error instanceof UsageError)
    process.stderr.write("Try 'qemu-img --help' for more information\n")
  return command === 'compare' ? 2 : 1
}

// A reader that goes away is no error.
process.stdout.on('error', () => {})
process.exitCode = await main(process.argv.slice(2))
