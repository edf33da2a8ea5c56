import { hostio } from '../../native/hostio.ts'
import { BlockError, errnoOf } from '../errors.ts'

/**
 * What a user of an image does with it, and what it lets others do meanwhile. The bits and their
 * places in the file are those that QEMU's processes lock, so that both respect each other.
 */
export const PERM_CONSISTENT_READ = 1
export const PERM_WRITE = 2
export const PERM_WRITE_UNCHANGED = 4
export const PERM_RESIZE = 8

const NAMES = ['consistent read', 'write', 'write unchanged', 'resize']
/** Byte 100 + n is locked by who has permission n, byte 200 + n by who shares it with nobody. */
const PERM_BASE = 100
const SHARED_BASE = 200

export interface LockRequest {
  /** Sum of the permissions that are used. */
  readonly used: number
  /** Sum of the permissions that nobody else may use meanwhile. */
  readonly unshared: number
}

/** `auto` does without where the host's file system has no such locks. */
export type Locking = 'auto' | 'on' | 'off'

/**
 * Locks an open file. The locks end with the descriptor.
 * @throws BlockError E_BLOCK_LOCKED when another open file is in the way
 */
export function lockFile(fd: number, filename: string, request: LockRequest, mode: Locking): void {
  if (mode === 'off') return
  try {
    place(fd, request)
    for (let bit = 0; bit < NAMES.length; bit++) {
      const mask = 1 << bit
      if (request.used & mask && !free(fd, SHARED_BASE + bit)) throw locked(filename, '', bit)
      if (request.unshared & mask && !free(fd, PERM_BASE + bit)) {
        throw locked(filename, 'shared ', bit)
      }
    }
  } catch (error) {
    if (error instanceof BlockError) throw error
    if (mode === 'auto' && lacksLocks(error)) return
    throw new BlockError('E_BLOCK_LOCKED', `Failed to lock '${filename}': ${String(error)}`, {
      errno: errnoOf(error),
      fields: { filename },
      cause: error,
    })
  }
}

/** Shared locks on all bytes of the request: they exclude nobody, they are seen by who tests. */
function place(fd: number, request: LockRequest): void {
  for (let bit = 0; bit < NAMES.length; bit++) {
    if (request.used & (1 << bit)) hostio().ofdSetLock(fd, 1, PERM_BASE + bit, 1)
    if (request.unshared & (1 << bit)) hostio().ofdSetLock(fd, 1, SHARED_BASE + bit, 1)
  }
}

const free = (fd: number, byte: number): boolean => hostio().ofdTestLock(fd, true, byte, 1)

function locked(filename: string, shared: string, bit: number): BlockError {
  const name = NAMES[bit]!
  return new BlockError(
    'E_BLOCK_LOCKED',
    `Failed to get ${shared}"${name}" lock\nIs another process using the image [${filename}]?`,
    { errno: 'EAGAIN', fields: { filename, permission: name } },
  )
}

function lacksLocks(error: unknown): boolean {
  return ['EINVAL', 'ENOLCK', 'ENOSYS', 'EOPNOTSUPP'].includes(errnoOf(error))
}
