/** Finds and loads the addon's hostio module. No other file knows where it is. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { VmmError } from '../errors.ts'

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
   * preadv2(2) without waiting, into `count` parts of buffers. Returns how many bytes were read, or a
   * negative errno when the bytes are not in memory or cannot be had so.
   */
  readCached(
    fd: number,
    offset: number,
    buffers: readonly Uint8Array[],
    parts: Uint32Array,
    count: number,
  ): number
  /** fallocate(2): resolves to 0 or a negative errno. */
  fallocate(fd: number, mode: number, offset: number, length: number): Promise<number>
  /** lseek(2) with SEEK_HOLE or SEEK_DATA: resolves to an offset or a negative errno. */
  seekAllocation(fd: number, offset: number, hole: boolean): Promise<number>
}

/** Modes of fallocate(2), from linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 1
export const FALLOC_FL_PUNCH_HOLE = 2
export const FALLOC_FL_ZERO_RANGE = 16

const require = createRequire(import.meta.url)
let loaded: HostIo | undefined

/**
 * The addon, loaded at the first call.
 * @throws VmmError E_NO_ADDON when it was not built, or does not fit this platform
 */
export function hostio(): HostIo {
  loaded ??= load()
  return loaded
}

function load(): HostIo {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    throw missing(`it exists for Linux on x86-64 only, this is ${platform} ${arch}`)
  }
  // `src/native` and `dist/native` are equally deep: the file lies in `native` beside both.
  const path = fileURLToPath(new URL('../../native/qemu-vmm.linux-x64-gnu.node', import.meta.url))
  if (!existsSync(path)) throw missing(`${path} does not exist: run \`npm run build\``)
  try {
    return require(path) as HostIo
  } catch (error) {
    throw missing(`${path} cannot be loaded: run \`npm run build\` again`, error)
  }
}

function missing(reason: string, cause?: unknown): VmmError {
  return new VmmError('E_NO_ADDON', `no native addon: ${reason}`, { cause })
}
