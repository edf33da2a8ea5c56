import type { BlockFile } from '../file/protocol.ts'
import { parseHeader } from './header.ts'
import type { Qcow2Header } from './header.ts'

/** Reads and judges the header of an image. */
export async function readHeader(file: BlockFile): Promise<Qcow2Header> {
  const first = new Uint8Array(Math.min(512, file.sizeBytes))
  await file.readv(0, [first])
  // Only the whole first cluster has all of the header's parts.
  const bits = first.byteLength >= 24 ? new DataView(first.buffer).getUint32(20) : 0
  const most = bits >= 9 && bits <= 21 ? 2 ** bits : 512
  const cluster = new Uint8Array(Math.min(most, file.sizeBytes))
  await file.readv(0, [cluster])
  return parseHeader(cluster, file.sizeBytes)
}
