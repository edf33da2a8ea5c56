import { CliError } from '../cli/cli-error.ts'
import { hint } from '../cli/suggest.ts'
import { QEMU_VERSION, packageVersion } from '../cli/version.ts'
import { VmmError } from '../errors.ts'
import { amend } from './amend.ts'
import { UsageError } from './args.ts'
import { check } from './check.ts'
import { commit } from './commit.ts'
import { compare } from './compare.ts'
import { convert } from './convert/convert.ts'
import { create } from './create.ts'
import { dd } from './dd.ts'
import { info } from './info.ts'
import type { Command, Io } from './io.ts'
import { map } from './map.ts'
import { measure } from './measure.ts'
import { rebase } from './rebase.ts'
import { resize } from './resize.ts'
import { snapshot } from './snapshot.ts'

const COMMANDS: Readonly<Record<string, Command>> = {
  amend,
  check,
  commit,
  compare,
  convert,
  create,
  dd,
  info,
  map,
  measure,
  rebase,
  resize,
  snapshot,
}
/** Commands of QEMU's program that are not there. */
const MISSING = ['bench', 'bitmap']

const HELP = `usage: qemu-img [-h | -V] command [command options]

  amend [-f FORMAT] [-t CACHE] [-p] [-q] -o OPTIONS FILE
  check [-f FORMAT] [-r leaks|all] [--output=human|json] [-T CACHE] [-q] [-U] FILE
  commit [-f FORMAT] [-t CACHE] [-b BASE] [-d] [-p] [-q] FILE
  compare [-f FORMAT] [-F FORMAT] [-T CACHE] [-s] [-p] [-q] [-U] FILE1 FILE2
  convert [-f FORMAT] [-O FORMAT] [-o OPTIONS] [-B BACKING -F FORMAT] [-l SNAPSHOT] [-c] [-n]
          [-S SIZE] [-m REQUESTS] [-W] [-t CACHE] [-T CACHE] [--target-is-zero] [-p] [-q] [-U]
          FILE... OUTPUT
  create [-f FORMAT] [-b BACKING -F FORMAT] [-u] [-o OPTIONS] [-q] FILE [SIZE]
  dd [-f FORMAT] [-O FORMAT] [-U] [bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=FILE of=FILE
  info [-f FORMAT] [--output=human|json] [--backing-chain] [-U] FILE
  map [-f FORMAT] [--start-offset=OFFSET] [--max-length=SIZE] [--output=human|json] [-U] FILE
  measure [-O FORMAT] [-o OPTIONS] [--output=human|json] {--size=SIZE | [-f FORMAT] [-l SNAPSHOT] [-U] FILE}
  rebase [-f FORMAT] [-t CACHE] [-T CACHE] [-u] -b BACKING [-F FORMAT] [-p] [-q] [-U] FILE
  resize [-f FORMAT] [--preallocation=MODE] [--shrink] [-q] FILE [+|-]SIZE
  snapshot [-l | -a SNAPSHOT | -c SNAPSHOT | -d SNAPSHOT] [-q] [-U] FILE

Supported formats: qcow2 raw
`

/** Runs a command line of qemu-img, without the program's name. Resolves to the exit code. */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const [name, ...rest] = argv
  try {
    if ([name, rest[0]].some((word) => word === '--help' || word === '-h')) {
      io.write(HELP)
      return 0
    }
    if (name === '--version' || name === '-V') {
      io.write(`qemu-img version ${QEMU_VERSION} (qemu-vmm ${packageVersion()})\n`)
      return 0
    }
    if (name === undefined) throw new UsageError('Not enough arguments')
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command !== undefined) return await command(rest, io)
    if (MISSING.includes(name)) throw new UsageError(`Command not supported: ${name}`)
    throw new UsageError(`Command not found: ${name}${hint(name, Object.keys(COMMANDS))}`)
  } catch (error) {
    return report(name ?? '', error, io)
  }
}

/** What the user can put right. An image that cannot be compared is code 2, as in QEMU. */
function report(command: string, error: unknown, io: Io): number {
  const expected =
    error instanceof VmmError || error instanceof UsageError || error instanceof CliError
  const message = error instanceof Error ? error.message : String(error)
  const more = error instanceof UsageError ? "\nTry 'qemu-img --help' for more information" : ''
  io.complain(`${expected ? '' : 'internal error: '}${message}${more}`)
  return command === 'compare' && !(error instanceof UsageError) ? 2 : 1
}
