import { realpathSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { hint } from '../cli/suggest.ts'
import { BlockError, openError } from './errors.ts'
import type { Aio } from './file/aio.ts'
import { cacheMode } from './file/cache-mode.ts'
import type { CacheMode } from './file/cache-mode.ts'
import { PERM_CONSISTENT_READ, PERM_RESIZE, PERM_WRITE } from './file/file-lock.ts'
import type { LockRequest, Locking } from './file/file-lock.ts'
import { PosixFile } from './file/posix-file.ts'
import type { FormatNode } from './node.ts'
import { createOverlay } from './overlay.ts'
import { probeBytes } from './probe.ts'
import { openQcow2 } from './qcow2/open-qcow2.ts'
import { readHeader } from './qcow2/read-header.ts'
import { snapshotHeader } from './qcow2/snapshot-header.ts'
import { RawNode } from './raw/raw-node.ts'
import { Writethrough } from './writethrough.ts'

export interface OpenImageOptions {
  readonly filename: string
  /** Guessed from the contents when it is missing. */
  readonly format?: string | undefined
  /** `writeback` (the default), `none`, `writethrough`, `directsync` or `unsafe`. */
  readonly cache?: string | undefined
  /** Who waits for the host: `threads`, `native` or `io_uring`; that is the default where the host allows it. */
  readonly aio?: Aio | undefined
  readonly readonly?: boolean | undefined
  /** Writes go to a temporary overlay that vanishes at the end. */
  readonly snapshot?: boolean | undefined
  /** Whether discards give storage back; `ignore` is the default. */
  readonly discard?: 'ignore' | 'unmap' | undefined
  readonly locking?: Locking | undefined
  /** Told what the user should know, without a line end. */
  readonly warn?: ((message: string) => void) | undefined
  /** Leave the backing chain alone: what is not in the image reads as zeros. */
  readonly noBacking?: boolean | undefined
  /** Writes, and questions where data is, happen on the calling thread, for programs that have nothing else to do meanwhile. */
  readonly inline?: boolean | undefined
  /** How deep in the backing chain an image is opened for writing too; 1 is the backing file. */
  readonly writableDepth?: number | undefined
  /** Id or name of an internal snapshot: what the disk held then, read-only. */
  readonly loadSnapshot?: string | undefined
}

export const FORMATS: readonly string[] = ['raw', 'qcow2']
/** Deeper backing chains are refused. */
const MOST_DEEP = 200

interface Context {
  readonly options: OpenImageOptions
  readonly cache: CacheMode
  /** Real paths of the images above. */
  readonly above: readonly string[]
}

/**
 * Opens a disk image with its backing chain, and locks it as QEMU does.
 * @throws BlockError, with QEMU's words as its message
 */
export async function openImage(options: OpenImageOptions): Promise<FormatNode> {
  const cache = cacheMode(options.cache ?? 'writeback')
  const context = { options, cache, above: [] }
  const readOnly =
    options.readonly === true || options.snapshot === true || options.loadSnapshot !== undefined
  const node = await openNode(options.filename, options.format, readOnly, context)
  try {
    if (options.snapshot === true) return await createOverlay(node, options.aio)
  } catch (error) {
    await node.close()
    throw error
  }
  return cache.writeback || node.readOnly ? node : new Writethrough(node)
}

async function openNode(
  filename: string,
  format: string | undefined,
  readOnly: boolean,
  context: Context,
): Promise<FormatNode> {
  if (format !== undefined && !FORMATS.includes(format)) {
    throw new BlockError('E_BLOCK_OPTION', `Unknown driver '${format}'${hint(format, FORMATS)}`, {
      errno: 'EINVAL',
      fields: { format },
    })
  }
  const { options, cache } = context
  const locking = options.locking ?? 'auto'
  // The lock comes before the first byte is read; the format may turn out to need less of it.
  const raw = format === 'raw'
  const lock = lockFor(raw, readOnly)
  const inline = options.inline === true
  const { aio } = options
  const file = await PosixFile.open(filename, { readOnly, cache, lock, locking, inline, aio })
  try {
    const found = format ?? (await probe(file))
    if (found === 'raw') {
      if (options.loadSnapshot !== undefined && context.above.length === 0) {
        throw new BlockError('E_BLOCK_OPTION', 'raw images have no internal snapshots', {
          errno: 'ENOTSUP',
        })
      }
      if (format === undefined && !readOnly) warnGuessed(options)
      const unmap = options.discard === 'unmap'
      return new RawNode(file, { unmap, probed: format === undefined })
    }
    const header = await readHeader(file)
    const backing =
      header.backingFile === undefined || options.noBacking === true
        ? undefined
        : await openBacking(filename, header.backingFile, header.backingFormat, context)
    try {
      const unmap = options.discard === 'unmap' && !file.readOnly
      const loaded =
        options.loadSnapshot === undefined || context.above.length > 0
          ? header
          : await snapshotHeader(file, header, options.loadSnapshot)
      return await openQcow2(file, loaded, backing, { unmap })
    } catch (error) {
      await backing?.close()
      throw error
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** The permissions that QEMU's raw and qcow2 drivers lock on their files. */
export function lockFor(raw: boolean, readOnly: boolean): LockRequest {
  const used = PERM_CONSISTENT_READ | (readOnly ? 0 : PERM_WRITE | (raw ? 0 : PERM_RESIZE))
  return { used, unshared: PERM_WRITE | (raw ? 0 : PERM_RESIZE) }
}

async function probe(file: PosixFile): Promise<string> {
  const head = new Uint8Array(512)
  await file.readv(0, [head])
  const format = probeBytes(head)
  if (FORMATS.includes(format)) return format
  throw openError(
    file.filename,
    `its format ${format} is not supported, only ${FORMATS.join(' and ')}: convert it, or give ` +
      'format=raw to use its bytes as they are',
    'ENOTSUP',
  )
}

function warnGuessed(options: OpenImageOptions): void {
  options.warn?.(
    `WARNING: Image format was not specified for '${options.filename}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images, write operations ' +
      'on block 0 will be restricted.\n' +
      "         Specify the 'raw' format explicitly to remove the restrictions.",
  )
}

/** Where a backing file is: beside the image that names it, unless its name is absolute. */
export function backingPath(image: string, name: string): string {
  const plain = name.startsWith('file:') ? name.slice('file:'.length) : name
  return isAbsolute(plain) ? plain : join(dirname(image), plain)
}

async function openBacking(
  image: string,
  name: string,
  format: string | undefined,
  context: Context,
): Promise<FormatNode> {
  if (/^(?:json:|[a-z][a-z0-9+.-]*:\/\/|(?:nbd|fat|blkdebug):)/.test(name)) {
    throw new BlockError(
      'E_BLOCK_OPEN',
      `Could not open backing file '${name}' of '${image}': only files are supported`,
      { errno: 'ENOTSUP' },
    )
  }
  const path = backingPath(image, name)
  const above = [...context.above, realPath(image)]
  if (above.includes(realPath(path))) {
    throw new BlockError(
      'E_BLOCK_OPEN',
      `Could not open backing file: backing file '${path}' of '${image}' creates an infinite loop`,
      { errno: 'ELOOP', fields: { filename: path } },
    )
  }
  if (above.length > MOST_DEEP) {
    throw new BlockError('E_BLOCK_OPEN', `The backing chain is longer than ${MOST_DEEP} images`, {
      errno: 'ELOOP',
    })
  }
  try {
    const readOnly = above.length !== context.options.writableDepth
    return await openNode(path, format, readOnly, { ...context, above })
  } catch (error) {
    if (!(error instanceof BlockError)) throw error
    if (error.message.startsWith('Could not open backing file')) throw error
    throw new BlockError(
      error.code as 'E_BLOCK_OPEN',
      `Could not open backing file: ${error.message}`,
      {
        errno: error.errno,
        fields: error.fields,
        cause: error,
      },
    )
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}
