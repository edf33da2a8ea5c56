import { BlockError, createImage, openImage } from '../block/index.ts'
import type { CreateImageOptions } from '../block/index.ts'
import { backingPath } from '../block/open.ts'
import { asksForHelp } from '../cli/option.ts'
import { parseSize } from '../cli/size.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { knownFormat, parseKeys, toOptions } from './create-keys.ts'
import { createOptionList } from './create-options.ts'
import { REFUSED, about } from './io.ts'
import type { Io } from './io.ts'

const SPEC: OptionSpec = {
  flags: 'qu',
  values: 'fobF',
  long: { quiet: 'q' },
  longValues: [],
  refused: REFUSED,
}

/** `qemu-img create [-f FORMAT] [-b BACKING -F FORMAT] [-o OPTIONS] FILE [SIZE]` */
export async function create(argv: readonly string[], io: Io): Promise<number> {
  const print = (line: string): void => io.write(`${line}\n`)
  const args = parseArguments(argv, SPEC)
  const [filename, size, ...rest] = args.operands
  const lists = args.values.get('o') ?? []
  if (lists.some(asksForHelp)) {
    print(createOptionList(knownFormat(last(args, 'f') ?? 'raw')))
    return 0
  }
  if (filename === undefined) throw new UsageError('Expecting image file name')
  if (rest.length > 0) throw new UsageError(`Unexpected argument: ${rest[0]!}`)
  const format = knownFormat(last(args, 'f') ?? 'raw', `${filename}: `)
  const keys = parseKeys(lists, format)
  const sizeText = size ?? keys.get('size')
  const backingFile = last(args, 'b') ?? keys.get('backing_file')
  const backingFormat = last(args, 'F') ?? keys.get('backing_fmt')
  let sizeBytes = sizeText === undefined ? undefined : parseSize(sizeText, 'B', 'size')
  if (backingFile !== undefined && (backingFormat === undefined || !args.flags.has('u'))) {
    const found = await look(filename, backingFile, backingFormat, io)
    if (backingFormat === undefined) {
      throw new UsageError(
        `${filename}: Backing file specified without backing format\n` +
          `Detected format of ${found.format}.`,
      )
    }
    sizeBytes ??= found.sizeBytes
  }
  const options = toOptions(filename, format, keys, { sizeBytes, backingFile, backingFormat })
  if (sizeBytes === undefined)
    throw new UsageError(`${filename}: Image creation needs a size parameter`)
  if (!args.flags.has('q')) print(describe(options))
  try {
    await createImage(options)
  } catch (error) {
    throw about(filename, error)
  }
  return 0
}

/** What a backing file is, if it can be opened at all. */
async function look(
  image: string,
  name: string,
  format: string | undefined,
  io: Io,
): Promise<{ format: string; sizeBytes: number }> {
  try {
    const options = { filename: backingPath(image, name), format, readonly: true }
    const node = await openImage({ ...options, warn: (text) => io.warn(text) })
    await node.close()
    return { format: node.format, sizeBytes: node.sizeBytes }
  } catch (error) {
    if (!(error instanceof BlockError)) throw error
    const { errno, fields, message } = error
    throw new BlockError(
      error.code as 'E_BLOCK_OPEN',
      `${image}: ${message}\nCould not open backing image.`,
      { errno, fields, cause: error },
    )
  }
}

function describe(options: CreateImageOptions): string {
  const { filename, format, sizeBytes, backingFile, backingFormat, preallocation } = options
  const parts = [`Formatting '${filename}', fmt=${format}`]
  if (format === 'qcow2') {
    parts.push(`cluster_size=${options.clusterSize ?? 65536} extended_l2=off`)
    if (preallocation !== undefined) parts.push(`preallocation=${preallocation}`)
    parts.push(`compression_type=${options.compression ?? 'zlib'}`)
  }
  parts.push(`size=${sizeBytes ?? 0}`)
  if (backingFile !== undefined) parts.push(`backing_file=${backingFile}`)
  if (backingFormat !== undefined) parts.push(`backing_fmt=${backingFormat}`)
  if (format === 'raw' && preallocation !== undefined) parts.push(`preallocation=${preallocation}`)
  if (format === 'qcow2') {
    if (options.compat !== undefined) parts.push(`compat=${options.compat}`)
    parts.push(`lazy_refcounts=${options.lazyRefcounts === true ? 'on' : 'off'}`)
    parts.push(`refcount_bits=${options.refcountBits ?? 16}`)
  }
  return parts.join(' ')
}
