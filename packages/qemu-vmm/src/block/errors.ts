import { getSystemErrorMap } from 'node:util'
import { VmmError } from '../errors.ts'
import type { VmmErrorFields } from '../errors.ts'

/** Codes of the errors of the block layer. */
export type BlockErrorCode =
  /** A file cannot be opened: missing, unreadable, a directory. */
  | 'E_BLOCK_OPEN'
  /** Another process holds a lock that excludes ours. */
  | 'E_BLOCK_LOCKED'
  /** An image's format is wrong, damaged or not supported. */
  | 'E_BLOCK_FORMAT'
  /** An entry of an image's tables is impossible. The image takes no more requests if that is dangerous. */
  | 'E_BLOCK_CORRUPT'
  /** The host failed a request; `errno` says how. */
  | 'E_BLOCK_IO'
  /** An option's value is wrong. */
  | 'E_BLOCK_OPTION'

/** An error of the block layer. `errno` is what the guest's request fails with. */
export class BlockError extends VmmError {
  override readonly name: string = 'BlockError'
  /** Name of an errno, like `ENOSPC`. */
  readonly errno: string

  constructor(
    code: BlockErrorCode,
    message: string,
    options: { errno?: string; fields?: VmmErrorFields; cause?: unknown } = {},
  ) {
    super(code, message, options)
    this.errno = options.errno ?? 'EIO'
  }
}

const names = new Map<number, { name: string; text: string }>()
for (const [number, [name, text]] of getSystemErrorMap()) names.set(-number, { name, text })

// What Node.js says differs from strerror(3), which the messages of QEMU quote.
const STRERROR: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EBADF: 'Bad file descriptor',
  EBUSY: 'Device or resource busy',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EINVAL: 'Invalid argument',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  ENXIO: 'No such device or address',
  EOPNOTSUPP: 'Operation not supported',
  ENOTSUP: 'Operation not supported',
  EPERM: 'Operation not permitted',
  EROFS: 'Read-only file system',
  ETXTBSY: 'Text file busy',
}

/** The name of an errno of the host. */
export function errnoName(errno: number): string {
  return names.get(errno)?.name ?? 'EIO'
}

/** The number of an errno of the host; that of `EIO` for a name that it does not have. */
export function errnoNumber(name: string): number {
  for (const [number, found] of names) if (found.name === name) return number
  return name === 'ENOTSUP' ? 95 : 5
}

/** What strerror(3) says. */
export function strerror(name: string): string {
  return STRERROR[name] ?? name
}

/** The errno that an error of Node.js or of ours carries; `EIO` when it has none. */
export function errnoOf(error: unknown): string {
  if (error instanceof BlockError) return error.errno
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    return /^E[A-Z0-9]+$/.test(error.code) ? error.code : 'EIO'
  }
  return 'EIO'
}

/** A failed request, as a typed error. */
export function ioError(what: string, filename: string, error: unknown): BlockError {
  if (error instanceof BlockError) return error
  const errno = errnoOf(error)
  return new BlockError('E_BLOCK_IO', `${what} '${filename}': ${strerror(errno)}`, {
    errno,
    fields: { filename, errno },
    cause: error,
  })
}

/** A file that cannot be opened, in QEMU's words. */
export function openError(filename: string, reason: string, errno: string = 'EIO'): BlockError {
  return new BlockError('E_BLOCK_OPEN', `Could not open '${filename}': ${reason}`, {
    errno,
    fields: { filename, errno },
  })
}
