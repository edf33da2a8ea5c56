/** Device status bits (VirtIO 1.2, section 2.1). */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 0x01
export const VIRTIO_CONFIG_S_DRIVER = 0x02
export const VIRTIO_CONFIG_S_DRIVER_OK = 0x04
export const VIRTIO_CONFIG_S_FEATURES_OK = 0x08
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40
export const VIRTIO_CONFIG_S_FAILED = 0x80

/** Numbers of the feature bits that belong to queues and transports (section 6). */
export const VIRTIO_F_INDIRECT_DESC = 28
export const VIRTIO_F_EVENT_IDX = 29
export const VIRTIO_F_VERSION_1 = 32
export const VIRTIO_F_RING_RESET = 40

/** Device types (section 5). */
export const VIRTIO_ID_NET = 1
export const VIRTIO_ID_BLOCK = 2
export const VIRTIO_ID_CONSOLE = 3
export const VIRTIO_ID_RNG = 4
export const VIRTIO_ID_BALLOON = 5

/** Descriptor flags (section 2.7.5). */
export const VIRTQ_DESC_F_NEXT = 1
export const VIRTQ_DESC_F_WRITE = 2
export const VIRTQ_DESC_F_INDIRECT = 4

/** Ring flags (sections 2.7.6 and 2.7.8). */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1
export const VIRTQ_USED_F_NO_NOTIFY = 1

/** Descriptors of one chain, and of one queue, at most: QEMU's limit, which drivers rely on. */
export const VIRTQUEUE_MAX_SIZE = 1024

/** The feature word with one bit set. */
export function featureBit(number: number): bigint {
  return 1n << BigInt(number)
}
