import { readFileSync } from 'node:fs'

import { VmmError, formatBytes } from '../../errors.ts'
import type { PciBar } from './function.ts'

/** What the address register can tell apart. */
const LEAST = 2048
const MOST = 2 << 20
/** Bytes behind the image, as an unprogrammed chip has them. */
const ERASED = 0xff

/** The memory of an expansion ROM: the image, filled up to a power of two. */
export function createRom(owner: string, image: Uint8Array): PciBar {
  checkRom(owner, image.length)
  let size = LEAST
  while (size < image.length) size *= 2
  const bytes = new Uint8Array(size).fill(ERASED)
  bytes.set(image)
  return {
    space: 'mmio',
    size,
    handler: {
      read(offset, length) {
        let value = 0
        for (let i = 0; i < length; i++) value |= (bytes[offset + i] ?? ERASED) << (i * 8)
        return value >>> 0
      },
      write() {},
    },
  }
}

/** Reads an image. Throws `E_FILE`, or `E_FIRMWARE_SIZE` for what no ROM can be. */
export function readRom(path: string): Uint8Array {
  let image: Uint8Array
  try {
    image = readFileSync(path)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new VmmError('E_FILE', `failed to find romfile "${path}": ${reason}`, {
      fields: { path },
      cause: error,
    })
  }
  checkRom(`romfile "${path}"`, image.length)
  return image
}

/** 0x55, 0xaa, as each image of a ROM begins. */
const SIGNATURE = 0xaa55
const CHECKSUM_AT = 6
const POINTER_AT = 0x18
/** "PCIR", the data structure of PCI, with vendor and device behind it. */
const PCIR = 0x52494350
const PCIR_IDS_BYTES = 8

/**
 * Writes a card's ids into the first image of a ROM, where they are others, and keeps its sum of zero
 * (PCI Firmware 3.0, 5.1). What is no image of PCI stays as it is.
 */
export function patchRomIds(rom: Uint8Array, vendor: number, device: number): void {
  const view = new DataView(rom.buffer, rom.byteOffset, rom.byteLength)
  if (rom.length < POINTER_AT + 2 || view.getUint16(0, true) !== SIGNATURE) return
  const at = view.getUint16(POINTER_AT, true)
  if (at + PCIR_IDS_BYTES > rom.length || view.getUint32(at, true) !== PCIR) return
  const sum = (): number => rom.subarray(at + 4, at + PCIR_IDS_BYTES).reduce((a, b) => a + b, 0)
  const before = sum()
  view.setUint16(at + 4, vendor, true)
  view.setUint16(at + 6, device, true)
  rom[CHECKSUM_AT] = (rom[CHECKSUM_AT]! + before - sum()) & 0xff
}

function checkRom(what: string, size: number): void {
  if (size >= 1 && size <= MOST) return
  throw new VmmError(
    'E_FIRMWARE_SIZE',
    `${what} has ${size} bytes; an option ROM has 1 to ${formatBytes(MOST)}`,
    { fields: { size, limit: MOST } },
  )
}
