import type { CreateImageOptions } from '../../block/index.ts'
import { UsageError, last, parseArguments } from '../args.ts'
import type { Arguments, OptionSpec } from '../args.ts'
import { knownFormat, parseKeys, toOptions } from '../create-keys.ts'
import { REFUSED, cacheOf } from '../io.ts'
import { sizeOf } from '../size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'cnpqUW',
  values: 'fFOoBlSmtT',
  long: { 'force-share': 'U', 'target-is-zero': 'target-is-zero' },
  longValues: [],
  refused: {
    ...REFUSED,
    'target-image-opts': 'give the name of the file, and its format with -O',
    bitmaps: 'images with bitmaps are not supported',
    'skip-broken-bitmaps': 'images with bitmaps are not supported',
    salvage: 'an image that cannot be read is no source',
    C: 'data is copied through memory, where zeros are found',
    r: 'there is no limit of the rate',
  },
}

export interface ConvertOptions {
  readonly args: Arguments
  readonly sources: readonly string[]
  readonly target: string
  readonly sourceFormat: string | undefined
  readonly format: string
  readonly create: CreateImageOptions
  /** `-n`: the target exists already. */
  readonly existing: boolean
  readonly targetIsZero: boolean
  readonly compress: boolean
  /** So many bytes of zeros are left out; 0 leaves nothing out. */
  readonly sparseBytes: number
  /** How many pieces are under way at a time. */
  readonly requests: number
  readonly inOrder: boolean
  readonly cache: string
  readonly sourceCache: string | undefined
  readonly locking: 'auto' | 'off'
  readonly loadSnapshot: string | undefined
}

const MOST_SPARSE = 16 << 20

/** @throws UsageError for options that exclude each other */
export function parseConvert(argv: readonly string[]): ConvertOptions {
  const args = parseArguments(argv, SPEC)
  const sources = args.operands.slice(0, -1)
  const target = args.operands.at(-1)
  if (target === undefined || sources.length === 0) {
    throw new UsageError('Must specify image file name')
  }
  const format = knownFormat(last(args, 'O') ?? 'raw')
  const compress = args.flags.has('c')
  const existing = args.flags.has('n')
  const targetIsZero = args.flags.has('target-is-zero')
  const sparse = last(args, 'S')
  const loadSnapshot = snapshotOf(last(args, 'l'))
  if (compress && format === 'raw') {
    throw new UsageError('Compression not supported for this file format: use -O qcow2')
  }
  if (existing && args.values.has('o')) {
    throw new UsageError('-o has no effect when skipping image creation')
  }
  if (targetIsZero && !existing) throw new UsageError('--target-is-zero requires use of -n flag')
  if (loadSnapshot !== undefined && sources.length > 1) {
    throw new UsageError('No support for concatenating multiple snapshot')
  }
  return {
    args,
    sources,
    target,
    sourceFormat: last(args, 'f'),
    format,
    create: createOptionsOf(args, target, format),
    existing,
    targetIsZero,
    compress,
    sparseBytes: sparse === undefined ? 4096 : sparseOf(sparse),
    requests: requestsOf(last(args, 'm') ?? '8'),
    inOrder: !args.flags.has('W'),
    cache: cacheOf(args, 't') ?? 'unsafe',
    sourceCache: cacheOf(args, 'T'),
    locking: args.flags.has('U') ? 'off' : 'auto',
    loadSnapshot,
  }
}

function createOptionsOf(args: Arguments, target: string, format: string): CreateImageOptions {
  const keys = parseKeys(args.values.get('o') ?? [], format)
  if (keys.has('size')) {
    throw new UsageError("The size is the source's: use qemu-img resize for another one")
  }
  const backingFile = last(args, 'B') ?? keys.get('backing_file')
  const backingFormat = last(args, 'F') ?? keys.get('backing_fmt')
  if (backingFile !== undefined && format === 'raw') {
    throw new UsageError("Backing file not supported for file format 'raw'")
  }
  if (backingFile !== undefined && backingFormat === undefined) {
    throw new UsageError('Use of backing file requires explicit backing format: use -F')
  }
  if (backingFile === undefined && backingFormat !== undefined) {
    throw new UsageError('-F and backing_fmt are for a backing file: use -B')
  }
  const { preallocation = 'off' } = toOptions(target, format, keys, {})
  if (args.flags.has('c') && preallocation !== 'off') {
    throw new UsageError('Compression and preallocation not supported at the same time')
  }
  return toOptions(target, format, keys, { backingFile, backingFormat })
}

function sparseOf(text: string): number {
  const bytes = sizeOf(text, 'buffer size')
  if (bytes % 512 === 0 && bytes <= MOST_SPARSE) return bytes
  throw new UsageError(
    'Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ' +
      `${MOST_SPARSE}. Select 0 to disable sparse detection (fully allocates output).`,
  )
}

function requestsOf(text: string): number {
  const requests = Number(text)
  if (/^[0-9]+$/.test(text) && requests >= 1 && requests <= 16) return requests
  throw new UsageError(
    'Invalid number of coroutines. Allowed number of coroutines is between 1 and 16',
  )
}

/** `ID_OR_NAME`, or one of `snapshot.id=ID` and `snapshot.name=NAME`. */
function snapshotOf(text: string | undefined): string | undefined {
  const match = text === undefined ? null : /^snapshot\.(?:id|name)=([^,]+)$/.exec(text)
  if (match !== null) return match[1]
  if (text?.startsWith('snapshot.') === true) {
    throw new UsageError(`-l ${text}: give either snapshot.id=ID or snapshot.name=NAME`)
  }
  return text
}
