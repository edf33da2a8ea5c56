/** The addon's codecs. */

import { addon } from './addon.ts'

/** What the addon exports. Its Rust sources say what each call does. */
interface Codec {
  zstdCompress(cluster: Uint8Array): Promise<Uint8Array | null>
  zstdDecompress(packed: Uint8Array, length: number): Promise<Uint8Array>
}

/** One Zstandard frame of a cluster; undefined when it is not smaller than that. */
export async function zstdCompress(cluster: Uint8Array): Promise<Uint8Array | undefined> {
  return (await addon<Codec>().zstdCompress(cluster)) ?? undefined
}

/** The `length` bytes of a frame, whatever follows it. Rejects for anything else. */
export function zstdDecompress(packed: Uint8Array, length: number): Promise<Uint8Array> {
  return addon<Codec>().zstdDecompress(packed, length)
}
