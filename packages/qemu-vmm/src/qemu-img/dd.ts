import { createImage } from '../block/index.ts'
import { hint } from '../cli/suggest.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { knownFormat } from './create-keys.ts'
import { REFUSED, about, open, using } from './io.ts'
import type { Io } from './io.ts'
import { sizeOf } from './size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'U',
  values: 'fO',
  long: { 'force-share': 'U' },
  longValues: [],
  refused: REFUSED,
}

const KEYS = ['bs', 'count', 'if', 'of', 'skip']

/**
 * `qemu-img dd [-f FORMAT] [-O FORMAT] [-U] [bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=FILE of=FILE`
 *
 * `count` is what is copied, as in dd(1); QEMU 7.2 counts the skipped blocks too.
 */
export async function dd(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const keys = new Map<string, string>()
  for (const operand of args.operands) {
    const at = operand.indexOf('=')
    const key = operand.slice(0, Math.max(at, 0))
    if (!KEYS.includes(key)) {
      throw new UsageError(`Unrecognized operand '${operand}'${hint(key, KEYS)}`)
    }
    keys.set(key, operand.slice(at + 1))
  }
  const from = keys.get('if')
  const to = keys.get('of')
  if (from === undefined || to === undefined) {
    throw new UsageError('Must specify both input and output files')
  }
  const format = knownFormat(last(args, 'O') ?? 'raw')
  const number = (key: string, otherwise: number): number =>
    keys.has(key) ? sizeOf(keys.get(key)!, key) : otherwise
  const block = number('bs', 512)
  if (block === 0 || block > 1 << 30) throw new UsageError(`Invalid number: bs=${keys.get('bs')}`)
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const source = { filename: from, format: last(args, 'f'), readonly: true, locking } as const
  return await using([() => open(io, source)], async (input) => {
    const skip = number('skip', 0) * block
    const end = Math.min(input!.sizeBytes, skip + number('count', Infinity) * block)
    if (skip > input!.sizeBytes) io.complain(`${from}: cannot skip to specified offset`)
    const sizeBytes = Math.max(0, end - skip)
    try {
      await createImage({ filename: to, format, sizeBytes })
    } catch (error) {
      throw about(to, error)
    }
    const target = { filename: to, format, discard: 'unmap' } as const
    return await using([() => open(io, target)], async (output) => {
      const buffer = new Uint8Array(Math.min(sizeBytes, 2 << 20))
      for (let done = 0; done < sizeBytes;) {
        const bytes = buffer.subarray(0, Math.min(buffer.byteLength, sizeBytes - done))
        await input!.readv(skip + done, [bytes])
        await output!.writev(done, [bytes])
        done += bytes.byteLength
      }
      return 0
    })
  })
}
