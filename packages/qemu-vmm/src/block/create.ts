import { hint } from '../cli/suggest.ts'
import { BlockError } from './errors.ts'
import { cacheMode } from './file/cache-mode.ts'
import { PERM_CONSISTENT_READ, PERM_RESIZE, PERM_WRITE } from './file/file-lock.ts'
import { PosixFile } from './file/posix-file.ts'
import { FORMATS, backingPath, openImage } from './open.ts'
import { writeEmptyImage } from './qcow2/create-qcow2.ts'
import type { CompressionType } from './qcow2/codecs.ts'
import type { Preallocation } from './qcow2/preallocate.ts'

export type { Preallocation } from './qcow2/preallocate.ts'

export const PREALLOCATIONS: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full']

export interface CreateImageOptions {
  readonly filename: string
  readonly format: string
  /** Bytes; that of the backing file when it is missing. */
  readonly sizeBytes?: number | undefined
  /** As the image will name it: relative names are beside the image. */
  readonly backingFile?: string | undefined
  /** Must be given with a backing file: guessing is not safe. */
  readonly backingFormat?: string | undefined
  /** qcow2: 512 bytes to 2 MiB, 64 KiB by default. */
  readonly clusterSize?: number | undefined
  /** qcow2: `1.1` by default. */
  readonly compat?: '0.10' | '1.1' | undefined
  readonly lazyRefcounts?: boolean | undefined
  readonly refcountBits?: number | undefined
  readonly preallocation?: Preallocation | undefined
  /** qcow2: how clusters are compressed that are written so; `zlib` by default. */
  readonly compression?: CompressionType | undefined
}

/**
 * Makes an empty image, over whatever the file held.
 * @returns the size of the disk in bytes
 * @throws BlockError
 */
export async function createImage(options: CreateImageOptions): Promise<number> {
  const { filename, format } = options
  if (!FORMATS.includes(format)) {
    throw optionError(`Unknown file format '${format}'${hint(format, FORMATS)}`)
  }
  judge(options)
  const sizeBytes = options.sizeBytes ?? (await backingSize(options))
  const rounded = Math.ceil(sizeBytes / 512) * 512
  const write = PERM_WRITE | PERM_RESIZE
  const file = await PosixFile.open(filename, {
    readOnly: false,
    cache: cacheMode('writeback'),
    lock: { used: PERM_CONSISTENT_READ | write, unshared: write },
    locking: 'auto',
    create: true,
  })
  try {
    await file.truncate(0)
    if (format === 'raw') await fillRaw(file, rounded, options.preallocation ?? 'off')
    else {
      await writeEmptyImage(file, {
        sizeBytes: rounded,
        clusterSize: options.clusterSize ?? 1 << 16,
        version: options.compat === '0.10' ? 2 : 3,
        refcountBits: options.refcountBits ?? 16,
        lazyRefcounts: options.lazyRefcounts ?? false,
        preallocation: options.preallocation ?? 'off',
        compression: options.compression ?? 'zlib',
        ...(options.backingFile === undefined ? {} : { backingFile: options.backingFile }),
        ...(options.backingFormat === undefined ? {} : { backingFormat: options.backingFormat }),
      })
    }
  } finally {
    await file.close()
  }
  return rounded
}

async function fillRaw(file: PosixFile, size: number, preallocation: string): Promise<void> {
  await file.truncate(size)
  if (size === 0 || preallocation === 'off') return
  if (preallocation === 'full') await file.writeZeroes(0, size, false)
  else if (!(await file.allocate(0, size))) {
    throw optionError(`preallocation=${preallocation} is not supported by this file system`)
  }
  await file.flush()
}

function judge(options: CreateImageOptions): void {
  const { format, clusterSize: cs = 1 << 16, refcountBits: bits = 16 } = options
  const qcow2Only = [
    'clusterSize',
    'compat',
    'lazyRefcounts',
    'refcountBits',
    'backingFile',
    'compression',
  ] as const
  const wrong = qcow2Only.find((key) => options[key] !== undefined)
  if (format === 'raw' && wrong !== undefined) {
    throw optionError(`format raw has no ${wrong}: it is an option of qcow2`)
  }
  if (!Number.isInteger(Math.log2(cs)) || cs < 512 || cs > 2 << 20) {
    throw optionError('Cluster size must be a power of two between 512 and 2048k')
  }
  if (![1, 2, 4, 8, 16, 32, 64].includes(bits)) {
    throw optionError('Refcount width must be a power of two and may not exceed 64 bits')
  }
  if (options.compat === '0.10' && bits !== 16) {
    throw optionError(
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    )
  }
  if (options.compat === '0.10' && options.lazyRefcounts === true) {
    throw optionError(
      'Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  if (options.compat === '0.10' && options.compression === 'zstd') {
    throw optionError(
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  const { preallocation = 'off' } = options
  if (preallocation !== 'off' && options.backingFile !== undefined) {
    throw optionError(
      'Backing file and preallocation cannot be used at the same time: what is preallocated hides it',
    )
  }
  if (format === 'raw' && preallocation === 'metadata') {
    throw optionError('preallocation=metadata is not supported for raw: use off, falloc or full')
  }
  if (options.sizeBytes !== undefined && !Number.isSafeInteger(options.sizeBytes)) {
    throw optionError(`Image size ${options.sizeBytes} is not an integer up to 2^53 - 1 bytes`)
  }
}

async function backingSize(options: CreateImageOptions): Promise<number> {
  const { backingFile } = options
  if (backingFile === undefined) throw optionError('Image creation needs a size parameter')
  const filename = backingPath(options.filename, backingFile)
  const node = await openImage({ filename, format: options.backingFormat, readonly: true })
  await node.close()
  return node.sizeBytes
}

function optionError(message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno: 'EINVAL' })
}
