import { changeImage } from '../block/index.ts'
import type { FormatNode, HeaderChange } from '../block/index.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { parseKeys, toOptions } from './create-keys.ts'
import { Progress, REFUSED, about, cacheOf, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'
import { sizeOf } from './size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'pq',
  values: 'fto',
  long: {},
  longValues: [],
  refused: { ...REFUSED, force: 'it is for encrypted images' },
}

/** What can be changed of an image that exists. */
const AMENDABLE = ['backing_file', 'backing_fmt', 'compat', 'lazy_refcounts', 'size']

/** `qemu-img amend [-f FORMAT] [-t CACHE] [-p] [-q] -o OPTIONS FILE`: changes options of an image. */
export async function amend(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const lists = args.values.get('o')
  if (lists === undefined) throw new UsageError('Must specify options (-o)')
  const filename = onlyFile(args)
  const image = { filename, format: last(args, 'f'), cache: cacheOf(args, 't') }
  // A backing file that is about to be replaced need not be there.
  return await using([() => open(io, { ...image, noBacking: true })], async (node) => {
    if (node!.format !== 'qcow2') {
      throw new UsageError(`Format driver '${node!.format}' does not support option amendment`)
    }
    const progress = new Progress(io, args)
    try {
      await change(node!, parseKeys(lists, 'qcow2'))
    } catch (error) {
      throw about('Failed to amend options', error)
    }
    progress.end()
    return 0
  })
}

async function change(node: FormatNode, keys: ReadonlyMap<string, string>): Promise<void> {
  const unknown = [...keys.keys()].find((key) => !AMENDABLE.includes(key))
  if (unknown !== undefined) {
    throw new UsageError(
      `Option '${unknown}' cannot be changed (only ${AMENDABLE.join(', ')}): convert the image`,
    )
  }
  const options = toOptions('', 'qcow2', keys, {})
  const { backingFile, backingFormat } = node.info()
  const other =
    (keys.get('backing_file') ?? backingFile) !== backingFile ||
    (keys.get('backing_fmt') ?? backingFormat) !== backingFormat
  if (other) {
    throw new UsageError("Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.")
  }
  const header: HeaderChange = {
    ...(options.compat === undefined ? {} : { version: options.compat === '0.10' ? 2 : 3 }),
    ...(options.lazyRefcounts === undefined ? {} : { lazyRefcounts: options.lazyRefcounts }),
  }
  await changeImage(node, header)
  const size = keys.get('size')
  if (size === undefined) return
  if (backingFile !== undefined) {
    throw new UsageError('The size of an image with a backing file is changed by qemu-img resize')
  }
  const sizeBytes = Math.ceil(sizeOf(size, 'size') / 512) * 512
  if (sizeBytes < node.sizeBytes) {
    throw new UsageError('Shrinking is done by qemu-img resize --shrink, not by amend')
  }
  await node.resize(sizeBytes)
}
