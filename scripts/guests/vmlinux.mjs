// Takes the uncompressed kernel out of a bzImage (Linux Documentation/arch/x86/boot.rst: payload_offset).
import { Buffer } from 'node:buffer'
import { spawnSync } from 'node:child_process'
import { gunzipSync } from 'node:zlib'
import { lz4Magic, unlz4 } from '../lib/lz4.mjs'
import { Failure } from '../lib/run.mjs'

/**
 * The ELF file inside a bzImage.
 * @param {Buffer} image
 */
export function vmlinux(image) {
  if (image.length < 0x260 || image.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new Failure('the kernel is not a bzImage')
  }
  const setupSectors = image[0x1f1] || 4
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248)
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c))
  const elf = unpack(payload)
  if (elf.toString('latin1', 0, 4) !== '\x7fELF') throw new Failure('the payload is no ELF file')
  return elf
}

/** @param {Buffer} payload compressed data, followed by its unpacked size in four bytes */
function unpack(payload) {
  const magic = payload.toString('hex', 0, 6)
  if (payload.readUInt32LE(0) === lz4Magic) return unlz4(payload)
  if (magic.startsWith('1f8b')) return gunzipSync(payload)
  if (magic.startsWith('28b52ffd')) return unpackWith('zstd', payload)
  if (magic.startsWith('fd377a58')) return unpackWith('xz', payload)
  throw new Failure(`the kernel is compressed in a way that is not known here (${magic})`)
}

/** @param {string} tool @param {Buffer} payload */
function unpackWith(tool, payload) {
  const { stdout, error } = spawnSync(tool, ['-dc'], { input: payload, maxBuffer: 1 << 29 })
  if (error) throw new Failure(`${tool} is needed to unpack this kernel: ${error.message}`)
  // The four bytes behind the data make the tool complain; the data itself is checked by the caller.
  return Buffer.from(stdout)
}
