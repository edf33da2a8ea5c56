import { deflateRaw, inflateRaw } from 'node:zlib'
import { zstdCompress, zstdDecompress } from '../../native/codec.ts'

/** How clusters of an image are compressed. The library that does it is not in every Node.js for zstd. */
export type CompressionType = 'zlib' | 'zstd'

export const COMPRESSION_TYPES: readonly CompressionType[] = ['zlib', 'zstd']

export interface Codec {
  /** Undefined when that saves nothing. */
  pack(cluster: Uint8Array): Promise<Uint8Array | undefined>
  /** Rejects for what does not become exactly `length` bytes; bytes may follow what was packed. */
  unpack(packed: Uint8Array, length: number): Promise<Uint8Array>
}

/** What QEMU unpacks with: references go back 4 KiB at most. */
const WINDOW_BITS = 12

const zlib: Codec = {
  pack: (cluster) =>
    new Promise((resolve, reject) => {
      deflateRaw(cluster, { windowBits: WINDOW_BITS }, (error, bytes) => {
        if (error === null) resolve(bytes)
        else reject(error)
      })
    }),
  unpack: (packed, length) =>
    new Promise((resolve, reject) => {
      inflateRaw(packed, { maxOutputLength: length }, (error, bytes) => {
        if (error !== null) reject(error)
        else if (bytes.byteLength !== length) reject(new Error(`${bytes.byteLength} bytes`))
        else resolve(bytes)
      })
    }),
}

const zstd: Codec = { pack: zstdCompress, unpack: zstdDecompress }

export function codecOf(type: CompressionType): Codec {
  return type === 'zstd' ? zstd : zlib
}
