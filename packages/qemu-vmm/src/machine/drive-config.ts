import type { ThrottleLimits } from '../block/throttle/limits.ts'

/** How the host caches an image; with QEMU's meanings. */
export const CACHE_MODES = ['writeback', 'none', 'writethrough', 'directsync', 'unsafe'] as const
/** Who waits for the host: a pool of threads, or the kernel, through io_uring. */
export const AIO_MODES = ['threads', 'native', 'io_uring'] as const
export const DISCARD_MODES = ['ignore', 'unmap'] as const
/** What a failed request does: the guest is told, or not, or the machine stops until resumed. */
export const ERROR_ACTIONS = ['report', 'ignore', 'stop', 'enospc'] as const

/** Limits of a drive, which it may share with others. Plain data. */
export interface DriveThrottle {
  /** Drives with the same name of a group have its limits together. Default: the drive's id. */
  group?: string
  /** Default: those that the group has. */
  limits?: ThrottleLimits
}

/** A disk image and how it is opened. Plain data. */
export interface DriveConfig {
  /** Name by which devices find it. */
  id: string
  /** Without one it is empty: a medium may come while the machine runs. */
  file?: string
  /** By its content when absent. */
  format?: 'raw' | 'qcow2'
  /** Default `writeback`. */
  cache?: (typeof CACHE_MODES)[number]
  /** Default `io_uring` where the host allows that, else `threads`. `native` needs a `cache` of `none` or `directsync`. */
  aio?: (typeof AIO_MODES)[number]
  readOnly?: boolean
  /** Writes go to a temporary file. */
  snapshot?: boolean
  /** Default `ignore`. */
  discard?: (typeof DISCARD_MODES)[number]
  /** Default `enospc`: stop when the host has no space, else tell the guest. */
  werror?: (typeof ERROR_ACTIONS)[number]
  /** Default `report`. */
  rerror?: 'report' | 'ignore' | 'stop'
  /** It goes with the device that it was given to, as drives of `-drive` do. Default false. */
  deleteWithDevice?: boolean
  /** Whether the image is locked against other programs. Default true. */
  locking?: boolean
  /** Bytes and requests per second. Default: as many as there are. */
  throttle?: DriveThrottle
}
