/** Bytes of `struct virtio_net_hdr_v1` (VirtIO 1.2, section 5.1.6). */
export const VIRTIO_NET_HDR_BYTES = 12

/** `flags` */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
export const VIRTIO_NET_HDR_F_DATA_VALID = 2
export const VIRTIO_NET_HDR_F_RSC_INFO = 4

/** `gso_type` */
export const VIRTIO_NET_HDR_GSO_NONE = 0
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1
export const VIRTIO_NET_HDR_GSO_UDP = 3
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5
export const VIRTIO_NET_HDR_GSO_ECN = 0x80

/** Offsets of the fields in the header. */
export const HDR_FLAGS = 0
export const HDR_GSO_TYPE = 1
export const HDR_HDR_LEN = 2
export const HDR_GSO_SIZE = 4
export const HDR_CSUM_START = 6
export const HDR_CSUM_OFFSET = 8
export const HDR_NUM_BUFFERS = 10

/** What an end of a link can take in the headers of frames. */
export const ACCEPTS_CSUM = 0x01
export const ACCEPTS_TSO4 = 0x02
export const ACCEPTS_TSO6 = 0x04
export const ACCEPTS_ECN = 0x08
export const ACCEPTS_UFO = 0x10
export const ACCEPTS_USO = 0x20

/** What a frame with these header bytes needs its receiver to accept; `undefined` for a header that makes no sense. */
export function neededBy(flags: number, gsoType: number): number | undefined {
  const csum = (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 ? ACCEPTS_CSUM : 0
  if (gsoType === VIRTIO_NET_HDR_GSO_NONE) return csum
  const ecn = (gsoType & VIRTIO_NET_HDR_GSO_ECN) !== 0
  const kind = gsoNeed(gsoType & ~VIRTIO_NET_HDR_GSO_ECN)
  if (kind === 0 || (ecn && (kind & (ACCEPTS_TSO4 | ACCEPTS_TSO6)) === 0)) return undefined
  return csum | kind | (ecn ? ACCEPTS_ECN : 0)
}

function gsoNeed(kind: number): number {
  switch (kind) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return ACCEPTS_TSO4
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return ACCEPTS_TSO6
    case VIRTIO_NET_HDR_GSO_UDP:
      return ACCEPTS_UFO
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return ACCEPTS_USO
    default:
      return 0
  }
}
