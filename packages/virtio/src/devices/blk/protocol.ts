/** Numbers of `virtio_blk` (VirtIO 1.2, section 5.2). */
export const VIRTIO_BLK_F_SEG_MAX = 2
export const VIRTIO_BLK_F_RO = 5
export const VIRTIO_BLK_F_BLK_SIZE = 6
export const VIRTIO_BLK_F_FLUSH = 9
export const VIRTIO_BLK_F_TOPOLOGY = 10
export const VIRTIO_BLK_F_CONFIG_WCE = 11
export const VIRTIO_BLK_F_MQ = 12
export const VIRTIO_BLK_F_DISCARD = 13
export const VIRTIO_BLK_F_WRITE_ZEROES = 14

export const VIRTIO_BLK_T_IN = 0
export const VIRTIO_BLK_T_OUT = 1
export const VIRTIO_BLK_T_FLUSH = 4
export const VIRTIO_BLK_T_GET_ID = 8
export const VIRTIO_BLK_T_DISCARD = 11
export const VIRTIO_BLK_T_WRITE_ZEROES = 13

export const VIRTIO_BLK_S_OK = 0
export const VIRTIO_BLK_S_IOERR = 1
export const VIRTIO_BLK_S_UNSUPP = 2

export const VIRTIO_BLK_ID_BYTES = 20
export const SECTOR_BYTES = 512
/** Type, reserved word and sector. */
export const HEADER_BYTES = 16
/** `virtio_blk_discard_write_zeroes`: sector, sectors, flags. */
export const SEGMENT_BYTES = 16
export const WRITE_ZEROES_FLAG_UNMAP = 1

/** Limits that the configuration space tells: segments and sectors of one discard request. */
export const MAX_SEGMENTS = 16
export const MAX_SEGMENT_SECTORS = 0x3f_ffff
