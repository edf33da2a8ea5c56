import { PREALLOCATIONS } from '../block/index.ts'
import type { Preallocation } from '../block/index.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { REFUSED, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'
import { sizeOf } from './size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'q',
  values: 'f',
  long: { preallocation: 'preallocation', shrink: 'shrink' },
  longValues: ['preallocation'],
  refused: REFUSED,
}

/** `qemu-img resize [-f FORMAT] [--preallocation=MODE] [--shrink] [-q] FILE [+|-]SIZE` */
export async function resize(argv: readonly string[], io: Io): Promise<number> {
  // The size comes last, so that one that begins with a minus sign is no option.
  const text = argv.at(-1)
  if (argv.length < 2 || text === undefined) throw new UsageError('Not enough arguments')
  const args = parseArguments(argv.slice(0, -1), SPEC)
  const filename = onlyFile(args)
  const mode = last(args, 'preallocation') ?? 'off'
  if (!isPreallocation(mode)) throw new UsageError(`Invalid preallocation mode '${mode}'`)
  const sign = text.startsWith('+') ? 1 : text.startsWith('-') ? -1 : 0
  const amount = sizeOf(sign === 0 ? text : text.slice(1), 'size')
  const options = { filename, format: last(args, 'f'), discard: 'unmap' } as const
  return await using([() => open(io, options)], async (node) => {
    const { sizeBytes: now } = node!
    const wanted = sign === 0 ? amount : now + sign * amount
    if (wanted <= 0) throw new UsageError('New image size must be positive')
    if (node!.format === 'qcow2' && wanted % 512 !== 0) {
      throw new UsageError('The new size must be a multiple of 512')
    }
    if (wanted <= now && mode !== 'off') {
      throw new UsageError('Preallocation can only be used for growing images')
    }
    if (wanted < now && !args.flags.has('shrink')) {
      io.complain('Use the --shrink option to perform a shrink operation.')
      io.complain(
        "warning: Shrinking an image will delete all data beyond the shrunken image's end. " +
          'Before performing such an operation, make sure there is no important data there.',
      )
      return 1
    }
    await node!.resize(wanted, mode)
    if (!args.flags.has('q')) io.write('Image resized.\n')
    return 0
  })
}

function isPreallocation(mode: string): mode is Preallocation {
  return (PREALLOCATIONS as readonly string[]).includes(mode)
}
