import { COMPRESSION_TYPES, FORMATS, PREALLOCATIONS } from '../block/index.ts'
import type { CompressionType, CreateImageOptions, Preallocation } from '../block/index.ts'
import { parseSize } from '../cli/size.ts'
import { hint } from '../cli/suggest.ts'
import { UsageError } from './args.ts'
import { createOptions } from './create-options.ts'

/** @throws UsageError for a format that is not supported */
export function knownFormat(format: string, at: string = ''): string {
  if (FORMATS.includes(format)) return format
  throw new UsageError(`${at}Unknown file format '${format}'${hint(format, FORMATS)}`)
}

/** The keys of all `-o` together. */
export function parseKeys(lists: readonly string[], format: string): ReadonlyMap<string, string> {
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

/** The keys as options of a new image. */
export function toOptions(
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
    compression: text('compression_type', COMPRESSION_TYPES) as CompressionType | undefined,
  }
}
