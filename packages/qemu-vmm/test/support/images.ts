import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A new folder for one test file. */
export function scratchFolder(): string {
  return mkdtempSync(join(tmpdir(), 'qemu-vmm-test-'))
}

/** Writes a file into the folder and returns its path. */
export function writeImage(folder: string, name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

interface BzImageOptions {
  version?: number
  loadflags?: number
  xloadflags?: number
  relocatable?: boolean
  alignment?: number
  prefGpa?: number
  initBytes?: number
  initrdMax?: number
  cmdlineMax?: number
  payload?: Uint8Array
}

/** A bzImage with one setup sector besides the boot sector, and any payload. */
export function bzImage(options: BzImageOptions = {}): Uint8Array {
  const payload = options.payload ?? Uint8Array.from({ length: 8192 }, (_, i) => i & 0xff)
  const setupBytes = 2 * 512
  const image = new Uint8Array(setupBytes + payload.length)
  const view = new DataView(image.buffer)
  view.setUint8(0x1f1, 1)
  view.setUint32(0x1f4, payload.length / 16, true)
  view.setUint16(0x1fe, 0xaa55, true)
  view.setUint8(0x201, 0x66)
  view.setUint32(0x202, 0x5372_6448, true)
  view.setUint16(0x206, options.version ?? 0x20f, true)
  view.setUint8(0x211, options.loadflags ?? 1)
  view.setUint32(0x22c, options.initrdMax ?? 0x7fff_ffff, true)
  view.setUint32(0x230, options.alignment ?? 0x20_0000, true)
  view.setUint8(0x234, (options.relocatable ?? true) ? 1 : 0)
  view.setUint16(0x236, options.xloadflags ?? 1, true)
  view.setUint32(0x238, options.cmdlineMax ?? 2047, true)
  view.setUint32(0x258, options.prefGpa ?? 0x100_0000, true)
  view.setUint32(0x260, options.initBytes ?? 0x10_0000, true)
  image.set(payload, setupBytes)
  return image
}

interface ElfOptions {
  is64?: boolean
  machine?: number
  entry?: number
  gpa?: number
  payload?: Uint8Array
  memoryBytes?: number
  /** The PVH entry note; none when undefined. */
  pvhEntry?: number
}

/** An ELF executable with one segment and, where asked, a Xen note. */
export function elf(options: ElfOptions = {}): Uint8Array {
  const is64 = options.is64 ?? true
  const payload = options.payload ?? Uint8Array.from({ length: 512 }, (_, i) => i & 0xff)
  const image = new Uint8Array(0x1000 + payload.length)
  const view = new DataView(image.buffer)
  const word = (at: number, value: number): void => {
    view.setUint32(at, value, true)
  }
  const tableAt = is64 ? 64 : 52
  const entryBytes = is64 ? 56 : 32
  image.set([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, 1, 1])
  view.setUint16(16, 2, true)
  view.setUint16(18, options.machine ?? (is64 ? 62 : 3), true)
  word(24, options.entry ?? 0x10_0000)
  word(is64 ? 32 : 28, tableAt)
  view.setUint16(is64 ? 54 : 42, entryBytes, true)
  view.setUint16(is64 ? 56 : 44, options.pvhEntry === undefined ? 1 : 2, true)
  const segment = (
    index: number,
    type: number,
    offset: number,
    gpa: number,
    fileBytes: number,
    memoryBytes: number,
  ): void => {
    const at = tableAt + index * entryBytes
    word(at, type)
    for (const [from, value] of is64
      ? ([
          [8, offset],
          [24, gpa],
          [32, fileBytes],
          [40, memoryBytes],
        ] as const)
      : ([
          [4, offset],
          [12, gpa],
          [16, fileBytes],
          [20, memoryBytes],
        ] as const)) {
      word(at + from, value)
    }
  }
  const memoryBytes = options.memoryBytes ?? payload.length
  segment(0, 1, 0x1000, options.gpa ?? 0x10_0000, payload.length, memoryBytes)
  if (options.pvhEntry !== undefined) {
    segment(1, 4, 0x800, 0, 20, 20)
    word(0x800, 4)
    word(0x804, 4)
    word(0x808, 18)
    image.set([0x58, 0x65, 0x6e, 0], 0x80c)
    word(0x810, options.pvhEntry)
  }
  image.set(payload, 0x1000)
  return image
}

/**
 * A multiboot-1 image with address fields, loaded at 1 MiB: header first, then `code`, which is
 * the entry point.
 */
export function multiboot(code: Uint8Array, flags = 0x1_0003): Uint8Array {
  const headerBytes = 32
  const base = 0x10_0000
  const image = new Uint8Array(headerBytes + code.length)
  const view = new DataView(image.buffer)
  const words = [
    0x1bad_b002,
    flags,
    -(0x1bad_b002 + flags) >>> 0,
    base,
    base,
    base + image.length,
    base + image.length + 0x100,
    base + headerBytes,
  ]
  for (const [i, value] of words.entries()) view.setUint32(i * 4, value, true)
  image.set(code, headerBytes)
  return image
}
