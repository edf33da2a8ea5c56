/** Names of the errno values that KVM's calls return here. */
export type Errno =
  | 'ENOENT'
  | 'EINTR'
  | 'EIO'
  | 'ENXIO'
  | 'E2BIG'
  | 'EBADF'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EACCES'
  | 'EFAULT'
  | 'EBUSY'
  | 'EEXIST'
  | 'EINVAL'
  | 'ENOSPC'
  | 'ENOTTY'
  | 'EOPNOTSUPP'

/**
 * An error of the KVM interface. `errno` is what the ioctl would return; `code` is the same unless
 * the error is not one of KVM's (`E_NO_HOST_ENGINE`, `E_NO_ADDON`). The message has the value and
 * the limit.
 */
export class KvmError extends Error {
  override readonly name: string = 'KvmError'
  readonly errno: Errno
  readonly code: string

  constructor(errno: Errno, reason: string, code: string = errno, options?: ErrorOptions) {
    super(`${code}: ${reason}`, options)
    this.errno = errno
    this.code = code
  }
}

const known = new Set<string>([
  'ENOENT',
  'EINTR',
  'EIO',
  'ENXIO',
  'E2BIG',
  'EBADF',
  'EAGAIN',
  'ENOMEM',
  'EACCES',
  'EFAULT',
  'EBUSY',
  'EEXIST',
  'EINVAL',
  'ENOSPC',
  'ENOTTY',
  'EOPNOTSUPP',
])

/** An error that the addon threw, as what callers are promised. */
export function kvmError(error: unknown): unknown {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    const { code } = error
    if (known.has(code)) return new KvmError(code as Errno, error.message)
    // A value of the wrong JavaScript type does not reach the checks of the addon.
    if (/Arg$|Expected$/.test(code)) return new KvmError('EINVAL', error.message)
  }
  return error
}

/** Calls the addon. */
export function native<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw kvmError(error)
  }
}

export function invalid(reason: string): KvmError {
  return new KvmError('EINVAL', reason)
}
