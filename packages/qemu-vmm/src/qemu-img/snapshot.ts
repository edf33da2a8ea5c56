import { snapshotApply, snapshotCreate, snapshotDelete } from '../block/index.ts'
import { BlockError, errnoNumber, strerror } from '../block/errors.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { REFUSED, about, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'
import { snapshotLines } from './snapshot-list.ts'

const SPEC: OptionSpec = {
  flags: 'lqU',
  values: 'acd',
  long: { 'force-share': 'U' },
  longValues: [],
  refused: REFUSED,
}

/** `qemu-img snapshot [-l | -a SNAPSHOT | -c SNAPSHOT | -d SNAPSHOT] [-q] [-U] FILE` */
export async function snapshot(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const actions = ['a', 'c', 'd'].filter((letter) => args.values.has(letter))
  if (args.flags.has('l')) actions.push('l')
  const values = ['a', 'c', 'd'].flatMap((letter) => args.values.get(letter) ?? [])
  if (actions.length > 1 || values.length > 1) {
    throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'")
  }
  const filename = onlyFile(args)
  const readonly = actions.length === 0 || actions[0] === 'l'
  if (args.flags.has('U') && !readonly) {
    throw new UsageError('-U is for reading only: it cannot be used with -a, -c or -d')
  }
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const options = { filename, readonly, locking, discard: 'unmap' } as const
  return await using([() => open(io, options)], async (node) => {
    const name = (letter: string): string => last(args, letter)!
    try {
      if (actions[0] === 'c') await snapshotCreate(node!, { name: name('c'), date: io.now() })
      if (actions[0] === 'a') await snapshotApply(node!, name('a'))
      if (actions[0] === 'd') await snapshotDelete(node!, name('d'))
    } catch (error) {
      throw failed(actions[0]!, values[0]!, error)
    }
    const { snapshots } = node!.info()
    if (readonly && snapshots !== undefined) io.write(`${snapshotLines(snapshots).join('\n')}\n`)
    return 0
  })
}

function failed(action: string, name: string, error: unknown): unknown {
  const verb = action === 'c' ? 'create' : action === 'a' ? 'apply' : 'delete'
  const what = `Could not ${verb} snapshot '${name}'`
  // QEMU has a number only for this one.
  if (action !== 'c' || !(error instanceof BlockError)) return about(what, error)
  const text = strerror(error.errno)
  const reason = error.message === text ? '' : `: ${error.message}`
  return new UsageError(`${what}: -${errnoNumber(error.errno)} (${text})${reason}`)
}
