import { VmmError, formatBytes } from '../errors.ts'
import type { MemoryMap } from '../machine/memory-map.ts'
import type { ImageFile } from './image.ts'

const PAGE = 4096

/**
 * Places an initial RAM disk as high as it may go: below `limit`, the end of low RAM, and above
 * the kernel, which ends at `kernelEnd` once it has unpacked itself. Throws `E_INITRD_TOO_LARGE`.
 */
export function placeInitrd(
  map: MemoryMap,
  initrd: ImageFile,
  kernelEnd: number,
  limit: number,
): number {
  const end = Math.min(map.lowRamEnd, limit)
  const gpa = Math.floor((end - initrd.size) / PAGE) * PAGE
  if (gpa >= kernelEnd) return gpa
  const room = Math.max(0, end - kernelEnd)
  const neededMib = Math.ceil((kernelEnd + initrd.size + PAGE) / (1 << 20))
  throw new VmmError(
    'E_INITRD_TOO_LARGE',
    `the initrd ${initrd.path} has ${formatBytes(initrd.size)}, and ${formatBytes(room)} are free ` +
      `between the kernel and 0x${end.toString(16)}; ` +
      (limit < map.lowRamEnd
        ? 'this kernel cannot take it at a higher address'
        : `give the guest at least ${neededMib} MiB of memory`),
    { fields: { path: initrd.path, size: initrd.size, room, limit: end } },
  )
}

/** Encodes a command line with its final NUL. Throws `E_CMDLINE_TOO_LONG`. */
export function encodeCommandLine(text: string, maxBytes: number): Uint8Array {
  const bytes = new TextEncoder().encode(text)
  if (bytes.includes(0)) {
    throw new VmmError('E_CONFIG', 'the kernel command line contains a NUL character')
  }
  if (bytes.length > maxBytes) {
    throw new VmmError(
      'E_CMDLINE_TOO_LONG',
      `the kernel command line has ${bytes.length} bytes; this kernel takes at most ${maxBytes}`,
      { fields: { length: bytes.length, limit: maxBytes } },
    )
  }
  const terminated = new Uint8Array(bytes.length + 1)
  terminated.set(bytes)
  return terminated
}
