import type { FormatNode } from '../block/index.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { knownFormat, parseKeys, toOptions } from './create-keys.ts'
import { outputOf } from './info.ts'
import { REFUSED, open, using } from './io.ts'
import type { Io } from './io.ts'
import { sizeOf } from './size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'U',
  values: 'fOol',
  long: { output: 'output', size: 'size', 'force-share': 'U' },
  longValues: ['output', 'size'],
  refused: REFUSED,
}

/** How many bytes of a file an image takes. */
interface Sizes {
  readonly required: number
  readonly full: number
}

/**
 * `qemu-img measure [-O FORMAT] [-o OPTIONS] [--output=human|json] {--size=SIZE | [-f FORMAT] [-l SNAPSHOT] FILE}`:
 * how large a file would be.
 */
export async function measure(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const output = outputOf(last(args, 'output'))
  const [filename, ...rest] = args.operands
  const size = last(args, 'size')
  if (rest.length > 0) throw new UsageError('At most one filename argument is allowed.')
  if ((filename === undefined) === (size === undefined)) {
    throw new UsageError(
      filename === undefined
        ? 'Either --size N or one filename must be specified.'
        : '--size N cannot be used together with a filename.',
    )
  }
  if (filename === undefined && (args.values.has('f') || args.values.has('l'))) {
    throw new UsageError('-f and -l require a filename argument.')
  }
  const format = knownFormat(last(args, 'O') ?? 'raw')
  const options = toOptions('', format, parseKeys(args.values.get('o') ?? [], format), {})
  const { clusterSize: cs = 1 << 16, refcountBits = 16, preallocation = 'off' } = options
  const judge = async (node?: FormatNode): Promise<number> => {
    const bytes = node?.sizeBytes ?? sizeOf(size!, 'image size')
    let sizes: Sizes = { required: bytes, full: bytes }
    if (format === 'qcow2') {
      const virtual = Math.ceil(bytes / cs) * cs
      const full = virtual + metadataBytes(virtual, cs, refcountBits)
      const stored = preallocation === 'falloc' || preallocation === 'full'
      const all = stored || options.backingFile !== undefined
      const used = all ? virtual : node === undefined ? 0 : await usedBytes(node, cs)
      sizes = { required: full - virtual + used, full }
    }
    const bitmaps = node?.info().specific?.['compat'] === '1.1' && format === 'qcow2'
    io.write(output === 'json' ? json(sizes, bitmaps) : human(sizes))
    return 0
  }
  if (filename === undefined) return await judge()
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const source = { filename, format: last(args, 'f'), readonly: true, locking } as const
  return await using([() => open(io, { ...source, loadSnapshot: last(args, 'l') })], judge)
}

function human({ required, full }: Sizes): string {
  return `required size: ${required}\nfully allocated size: ${full}\n`
}

function json({ required, full }: Sizes, bitmaps: boolean): string {
  const entries = { ...(bitmaps ? { bitmaps: 0 } : {}), required, 'fully-allocated': full }
  return `${JSON.stringify(entries, undefined, 4)}\n`
}

/** Bytes in clusters that have data. */
async function usedBytes(node: FormatNode, cs: number): Promise<number> {
  let used = 0
  for (let at = 0; at < node.sizeBytes;) {
    const entry = await node.map(at, node.sizeBytes - at)
    let { length } = entry
    if (!entry.zero && entry.data) {
      length = Math.ceil((at + length) / cs) * cs - at
      used += (at % cs) + length
    }
    at += length
  }
  return used
}

/** Header, L1 and L2 tables and refcounts of an image whose clusters are all there. */
function metadataBytes(virtual: number, cs: number, refcountBits: number): number {
  const perTable = cs / 8
  const up = (value: number, to: number): number => Math.ceil(value / to) * to
  const l2Entries = up(virtual / cs, perTable)
  const l1Entries = up(l2Entries / perTable, perTable)
  const bytes = cs + l2Entries * 8 + l1Entries * 8
  const clusters = (bytes + virtual) / cs
  const perBlock = (cs * 8) / refcountBits
  let counts = 0
  for (;;) {
    const blocks = Math.ceil((clusters + counts) / perBlock)
    const next = blocks + Math.ceil(blocks / perTable)
    if (next === counts) return bytes + counts * cs
    counts = next
  }
}
