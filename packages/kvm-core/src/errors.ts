/** Names of the errno values that KVM's calls return here. */
export type Errno =
  | 'ENOENT'
  | 'EINTR'
  | 'EIO'
  | 'ENXIO'
  | 'E2BIG'
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

const brand = Symbol.for('kvm-core.KvmError')

/**
 * An error of the KVM interface. `errno` is what the ioctl would return; `code` is the same unless
 * the error is not one of KVM's (`E_NO_HOST_ENGINE`, `E_NO_ADDON`). The message has the value and
 * the limit.
 */
export class KvmError extends Error {
  override readonly name: string = 'KvmError'
  readonly errno: Errno
  readonly code: string
  readonly [brand]: true = true

  constructor(errno: Errno, reason: string, code: string = errno, options?: ErrorOptions) {
    super(`${code}: ${reason}`, options)
    this.errno = errno
    this.code = code
  }

  /** True for errors of this class, also of another copy of the package. */
  static is(error: unknown): error is KvmError {
    return typeof error === 'object' && error !== null && brand in error
  }
}

export function invalid(reason: string): KvmError {
  return new KvmError('EINVAL', reason)
}
