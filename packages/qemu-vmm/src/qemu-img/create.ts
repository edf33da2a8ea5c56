import { FORMATS, PREALLOCATIONS, createImage, openImage } from '../block/index.ts'
import type { CreateImageOptions, Preallocation } from '../block/index.ts'
import { backingPath } from '../block/open.ts'
import { asksForHelp } from '../cli/option.ts'
import { parseSize } from '../cli/size.ts'
import { hint } from '../cli/suggest.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { createOptionList, createOptions } from './create-options.ts'

const SPEC: OptionSpec = {
  flags: 'qu',
  values: 'fobF',
  long: { quiet: 'q' },
  longValues: [],
}

/** `qemu-img create [-f FORMAT] [-b BACKING -F FORMAT] [-o OPTIONS] FILE [SIZE]` */
export async function create(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
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
  if (backingFile !== undefined && backingFormat === undefined) {
    throw new UsageError(`${filename}: backing file specified without backing format`)
  }
  if (backingFile !== undefined && !args.flags.has('u')) {
    const path = backingPath(filename, backingFile)
    const node = await openImage({ filename: path, format: backingFormat, readonly: true })
    sizeBytes ??= node.sizeBytes
    await node.close()
  }
  const options = toOptions(filename, format, keys, { sizeBytes, backingFile, backingFormat })
  if (sizeBytes === undefined)
    throw new UsageError(`${filename}: Image creation needs a size parameter`)
  if (!args.flags.has('q')) print(describe(options))
  await createImage(options)
  return 0
}

function knownFormat(format: string, at: string = ''): string {
  if (FORMATS.includes(format)) return format
  throw new UsageError(`${at}Unknown file format '${format}'${hint(format, FORMATS)}`)
}

function parseKeys(lists: readonly string[], format: string): ReadonlyMap<string, string> {
  const keys = new Map<string, string>()
  const known = createOptions(format)
  const valid = Object.keys(known)
  // A doubled comma is part of a value.
  for (const item of lists.flatMap((list) => list.replaceAll(',,', '\0').split(','))) {
    const at = item.indexOf('=')
    const key = at < 0 ? item : item.slice(0, at)
    const value = at < 0 ? 'on' : item.slice(at + 1).replaceAll('\0', ',')
    if (!valid.includes(key)) {
      throw new UsageError(`Invalid parameter '${key}'${hint(key, valid)} for format '${format}'`)
    }
    const only = known[key]!.only
    if (only !== undefined && only !== value) {
      throw new UsageError(`${key}=${value} is not supported, only ${only}`)
    }
    keys.set(key, value)
  }
  return keys
}

function toOptions(
  filename: string,
  format: string,
  keys: ReadonlyMap<string, string>,
  more: Pick<CreateImageOptions, 'sizeBytes' | 'backingFile' | 'backingFormat'>,
): CreateImageOptions {
  const text = (key: string, valid: readonly string[]): string | undefined => {
    const value = keys.get(key)
    if (value !== undefined && !valid.includes(value)) {
      throw new UsageError(`Invalid parameter '${value}' for ${key}${hint(value, valid)}`)
    }
    return value
  }
  const compat = text('compat', ['0.10', '1.1', 'v2', 'v3'])
  const lazy = text('lazy_refcounts', ['on', 'off'])
  const clusterSize = keys.get('cluster_size')
  const bits = keys.get('refcount_bits')
  return {
    filename,
    format,
    ...more,
    clusterSize:
      clusterSize === undefined ? undefined : parseSize(clusterSize, 'B', 'cluster_size'),
    compat:
      compat === undefined ? undefined : compat === '0.10' || compat === 'v2' ? '0.10' : '1.1',
    lazyRefcounts: lazy === undefined ? undefined : lazy === 'on',
    refcountBits: bits === undefined ? undefined : Number(bits),
    preallocation: text('preallocation', PREALLOCATIONS) as Preallocation | undefined,
  }
}

function describe(options: CreateImageOptions): string {
  const { filename, format, sizeBytes, backingFile, backingFormat, preallocation } = options
  const parts = [`Formatting '${filename}', fmt=${format}`]
  if (format === 'qcow2') {
    parts.push(`cluster_size=${options.clusterSize ?? 65536} extended_l2=off`)
    if (preallocation !== undefined) parts.push(`preallocation=${preallocation}`)
    parts.push('compression_type=zlib')
  }
  parts.push(`size=${sizeBytes ?? 0}`)
  if (backingFile !== undefined) parts.push(`backing_file=${backingFile}`)
  if (backingFormat !== undefined) parts.push(`backing_fmt=${backingFormat}`)
  if (format === 'raw' && preallocation !== undefined) parts.push(`preallocation=${preallocation}`)
  if (format === 'qcow2') {
    if (options.compat !== undefined) parts.splice(1, 0, `compat=${options.compat}`)
    parts.push(`lazy_refcounts=${options.lazyRefcounts === true ? 'on' : 'off'}`)
    parts.push(`refcount_bits=${options.refcountBits ?? 16}`)
  }
  return parts.join(' ')
}
