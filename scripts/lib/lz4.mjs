// Unpacks the legacy LZ4 frame, the one that Linux kernel images use: a magic number, then blocks of a 32-bit
// compressed length and LZ4 data that unpacks to at most 8 MiB, up to the end.
import { Buffer } from 'node:buffer'

export const lz4Magic = 0x184c2102
const blockSize = 8 << 20

/**
 * @param {Buffer} input from the magic number on
 * @returns {Buffer}
 * @throws {RangeError} when the data is damaged
 */
export function unlz4(input) {
  /** @type {Buffer[]} */
  const blocks = []
  // What is left after the last block may be shorter than a length: kernel images end in their unpacked size.
  for (let at = 4; at + 4 < input.length;) {
    const length = input.readUInt32LE(at)
    at += 4
    if (length > input.length - at) throw new RangeError('an LZ4 block is longer than its file')
    blocks.push(unpackBlock(input.subarray(at, at + length)))
    at += length
  }
  return Buffer.concat(blocks)
}

/** @param {Buffer} input */
function unpackBlock(input) {
  const output = Buffer.allocUnsafe(blockSize)
  let from = 0
  let to = 0
  const byte = () => {
    const value = input[from++]
    if (value === undefined) throw new RangeError('an LZ4 block ends too early')
    return value
  }
  const extended = (/** @type {number} */ length) => {
    if (length !== 15) return length
    let total = 15
    for (let more = 255; more === 255; total += more) more = byte()
    return total
  }
  while (from < input.length) {
    const token = byte()
    const literals = extended(token >> 4)
    if (literals > input.length - from || literals > blockSize - to) {
      throw new RangeError('an LZ4 literal run leaves its block')
    }
    input.copy(output, to, from, from + literals)
    from += literals
    to += literals
    if (from === input.length) break
    const distance = byte() | (byte() << 8)
    const length = extended(token & 15) + 4
    if (distance === 0 || distance > to || length > blockSize - to) {
      throw new RangeError('an LZ4 match leaves its block')
    }
    // A match may overlap what it produces; then it repeats, byte by byte.
    if (distance >= length) output.copyWithin(to, to - distance, to - distance + length)
    else
      for (let i = 0; i < length; i++)
        output[to + i] = /** @type {number} */ (output[to + i - distance])
    to += length
  }
  return output.subarray(0, to)
}
