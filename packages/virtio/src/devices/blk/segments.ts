import type { DescriptorChain } from '../../queue/chain.ts'
import {
  HEADER_BYTES,
  MAX_SEGMENTS,
  MAX_SEGMENT_SECTORS,
  SECTOR_BYTES,
  SEGMENT_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_UNSUPP,
  WRITE_ZEROES_FLAG_UNMAP,
} from './protocol.ts'

/** A range of a discard or write-zeroes request, in bytes. */
export interface Segment {
  offset: number
  length: number
  unmap: boolean
}

/**
 * The ranges of a request, all of them checked before the first is carried out, or the status that
 * says what is wrong (VirtIO 1.2, section 5.2.6.2).
 */
export function parseSegments(
  chain: DescriptorChain,
  discard: boolean,
  inRange: (sector: number, length: number) => boolean,
): Segment[] | number {
  const bytes = chain.readableBytes - HEADER_BYTES
  if (bytes === 0 || bytes % SEGMENT_BYTES !== 0) return VIRTIO_BLK_S_IOERR
  if (bytes > SEGMENT_BYTES * MAX_SEGMENTS) return VIRTIO_BLK_S_IOERR
  const table = new Uint8Array(bytes)
  chain.read(HEADER_BYTES, table)
  const view = new DataView(table.buffer)
  const segments: Segment[] = []
  for (let at = 0; at < bytes; at += SEGMENT_BYTES) {
    const sector = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
    const sectors = view.getUint32(at + 8, true)
    const flags = view.getUint32(at + 12, true)
    // Discarding has no flags; the reserved ones are refused for both.
    if (flags & ~(discard ? 0 : WRITE_ZEROES_FLAG_UNMAP)) return VIRTIO_BLK_S_UNSUPP
    const length = sectors * SECTOR_BYTES
    if (sectors > MAX_SEGMENT_SECTORS || !inRange(sector, length)) return VIRTIO_BLK_S_IOERR
    segments.push({ offset: sector * SECTOR_BYTES, length, unmap: flags !== 0 })
  }
  return segments
}
