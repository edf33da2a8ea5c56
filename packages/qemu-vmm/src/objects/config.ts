/** A source of random bytes for devices: a file of the host. */
export interface RngRandomConfig {
  type: 'rng-random'
  id: string
  /** A character device, a FIFO or a file; by default `/dev/urandom`. */
  filename?: string
}

/** A source of random bytes for devices: the machine's own. */
export interface RngBuiltinConfig {
  type: 'rng-builtin'
  id: string
}

/** What guest memory is made of; the machine names it with `memoryBackend`. */
export interface MemoryBackendConfig {
  type: 'memory-backend-ram' | 'memory-backend-memfd' | 'memory-backend-file'
  id: string
  /** Bytes. */
  size: number
  /**
   * Whether other processes that have the file see the guest's writes. By default only for
   * `memory-backend-memfd`.
   */
  share?: boolean
  /** Take all memory from the host before the machine starts. */
  prealloc?: boolean
  /** Large pages that the host keeps for it. Only `memory-backend-memfd`. */
  hugetlb?: boolean
  /** Bytes of a large page. Only with `hugetlb`. */
  hugetlbsize?: number
  /** A file, or a folder for one without a name. Only `memory-backend-file`. */
  memPath?: string
}

/** Writes the frames of a network to a file. */
export interface FilterDumpConfig {
  type: 'filter-dump'
  id: string
  netdev: string
  /** A capture in the format of libpcap, which is made anew. */
  file: string
  /** Bytes of a frame that are written, 1 to 2^32 - 1; 65536 by default. */
  maxlen?: number
  /** Frames from the card (`rx`), to it (`tx`), or all, as by default. */
  queue?: 'all' | 'rx' | 'tx'
}

/** Keeps the frames of a network, and lets them go together at the end of each interval. */
export interface FilterBufferConfig {
  type: 'filter-buffer'
  id: string
  netdev: string
  /** Microseconds, from 1; the host's timers are no finer than milliseconds. */
  interval: number
  /** Frames from the card (`rx`), to it (`tx`), or all, as by default. */
  queue?: 'all' | 'rx' | 'tx'
  /** Off: frames go on at once. On by default. */
  status?: 'on' | 'off'
}

/** Lets the frames of a network go no faster than a rate. QEMU has none. */
export interface FilterThrottleConfig {
  type: 'filter-throttle'
  id: string
  netdev: string
  /** Frames from the card (`rx`), to it (`tx`), or all, as by default: each direction has the rate for itself. */
  queue?: 'all' | 'rx' | 'tx'
  /** Bytes per second in the long run, from 1. */
  average: number
  /** Bytes per second at most while the burst lasts, at least the average; absent or 0 for any. */
  peak?: number
  /** Bytes that may go at once. */
  burst?: number
}

/** An object that devices or the machine refer to by `id`: plain data, which may go to a worker. */
export type ObjectConfig =
  | RngRandomConfig
  | RngBuiltinConfig
  | MemoryBackendConfig
  | FilterDumpConfig
  | FilterBufferConfig
  | FilterThrottleConfig

export function isMemoryBackend(object: ObjectConfig): object is MemoryBackendConfig {
  return object.type.startsWith('memory-backend-')
}
