import type { BlkBackend } from './backend.ts'
import { MAX_SEGMENTS, MAX_SEGMENT_SECTORS, SECTOR_BYTES } from './protocol.ts'

/** Bytes of `struct virtio_blk_config` up to and with `write_zeroes_may_unmap`. */
export const CONFIG_BYTES = 60
/** Offset of `writeback`, the only register that a driver writes. */
export const CONFIG_WRITEBACK = 32

/** Configuration space (VirtIO 1.2, section 5.2.4); `writeback` is filled in by the device. */
export function blkConfig(
  backend: BlkBackend,
  options: { segments: number; queues: number },
): Uint8Array {
  const config = new Uint8Array(CONFIG_BYTES)
  const view = new DataView(config.buffer)
  const sectors = Math.floor(backend.sizeBytes / SECTOR_BYTES)
  const blockSectors = backend.logicalBlockBytes / SECTOR_BYTES
  const ratio = backend.physicalBlockBytes / backend.logicalBlockBytes
  view.setBigUint64(0, BigInt(sectors), true)
  view.setUint32(12, options.segments, true)
  view.setUint32(20, backend.logicalBlockBytes, true)
  view.setUint8(24, Math.max(0, Math.round(Math.log2(ratio))))
  view.setUint16(26, 1, true)
  view.setUint16(34, options.queues, true)
  view.setUint32(36, MAX_SEGMENT_SECTORS, true)
  view.setUint32(40, MAX_SEGMENTS, true)
  view.setUint32(44, blockSectors, true)
  view.setUint32(48, MAX_SEGMENT_SECTORS, true)
  view.setUint32(52, MAX_SEGMENTS, true)
  view.setUint8(56, 1)
  return config
}
