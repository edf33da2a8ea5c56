/** The addon's module for files. */

import { addon } from './addon.ts'

/** What the addon exports. Its Rust sources say what each call does. */
export interface HostIo {
  /** `kind`: 0 unlocks, 1 is a shared and 2 an exclusive lock. False when another open file is in the way. */
  ofdSetLock(fd: number, kind: 0 | 1 | 2, start: number, length: number): boolean
  /** Whether a lock could be had. */
  ofdTestLock(fd: number, exclusive: boolean, start: number, length: number): boolean
  /** Size in bytes, logical and physical sector size. */
  blockDeviceGeometry(fd: number): number[]
  /** The view's address modulo `alignment`, a power of two. */
  misalignment(view: Uint8Array, alignment: number): number
  /**
   * pwritev(2) on the calling thread, from parts as `CacheReader.read` fills them. Returns a negative errno, or twice the bytes, and 1
   * more when it slept meanwhile.
   */
  writeHere(
    fd: number,
    offset: number,
    buffers: readonly Uint8Array[],
    parts: Uint32Array,
    count: number,
  ): number
  /**
   * Copies bytes that are in memory from a file to another, through `buffer`. Stops before the first block of `blockBytes` (0: none
   * is looked for) that is all zeros, and before what is not in memory: how many bytes were copied, or a negative errno.
   */
  copyHere(
    fromFd: number,
    from: number,
    toFd: number,
    to: number,
    length: number,
    blockBytes: number,
    buffer: Uint8Array,
  ): number
  /** fallocate(2): resolves to 0 or a negative errno. */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<number>
  /**
   * Lengths of runs of blocks, by turns with data and all zeros, data first; returns how many of
   * `runs` were set.
   */
  zeroRuns(bytes: Uint8Array, blockBytes: number, runs: Uint32Array): number
  /** lseek(2) with SEEK_HOLE or SEEK_DATA: resolves to an offset or a negative errno. */
  seekAllocation(fd: number, offset: number, hole: boolean): Promise<number>
  /** The same on the calling thread. */
  seekAllocationHere(fd: number, offset: number, hole: boolean): number
}

/** Reads what the host has in memory. */
export interface CacheReader {
  /**
   * preadv2(2) without waiting, into `count` parts of buffers: three numbers each, which buffer, where in it, how many
   * bytes. Returns how many bytes were read, or a negative errno when the bytes are not in memory or cannot be had so.
   */
  read(
    fd: number,
    offset: number,
    buffers: readonly Uint8Array[],
    parts: Uint32Array,
    count: number,
  ): number
}

/** Modes of fallocate(2), from linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
export const FALLOC_FL_ZERO_RANGE = 16

/**
 * The module, loaded at the first call.
 * @throws VmmError E_NO_ADDON when it was not built, or does not fit this platform
 */
export const hostio = (): HostIo => addon<HostIo>()

let reader: CacheReader | undefined

/**
 * The reader of this isolate, whose second thread all files share.
 * @throws as `hostio`
 */
export function cacheReader(): CacheReader {
  reader ??= new (addon<{ CacheReader: new () => CacheReader }>().CacheReader)()
  return reader
}
