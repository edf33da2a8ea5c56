import { featureBit } from '../../constants.ts'
import type { DeviceContext } from '../../model.ts'
import {
  ACCEPTS_CSUM,
  ACCEPTS_ECN,
  ACCEPTS_TSO4,
  ACCEPTS_TSO6,
  ACCEPTS_UFO,
} from '../../net/header.ts'
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
} from './protocol.ts'

/** Features that a driver turns off and on again with GUEST_OFFLOADS. */
export const ALL_GUEST_OFFLOADS: readonly number[] = [
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_UFO,
]

/** What the driver takes. Without checksums it takes nothing else (VirtIO 1.2, section 5.1.3.1). */
export function guestAccepts(offloads: bigint): number {
  return accepted((feature) => (offloads & featureBit(feature)) !== 0n, ALL_GUEST_OFFLOADS)
}

/** What the driver may ask for. */
export function hostAccepts(context: Pick<DeviceContext, 'hasFeature'>): number {
  const all = context.hasFeature(VIRTIO_NET_F_GSO)
  return accepted(
    (feature) => all || context.hasFeature(feature),
    [
      VIRTIO_NET_F_CSUM,
      VIRTIO_NET_F_HOST_TSO4,
      VIRTIO_NET_F_HOST_TSO6,
      VIRTIO_NET_F_HOST_ECN,
      VIRTIO_NET_F_HOST_UFO,
    ],
  )
}

const KINDS = [ACCEPTS_CSUM, ACCEPTS_TSO4, ACCEPTS_TSO6, ACCEPTS_ECN, ACCEPTS_UFO]

function accepted(has: (feature: number) => boolean, features: readonly number[]): number {
  if (!has(features[0]!)) return 0
  return features.reduce((word, feature, i) => (has(feature) ? word | KINDS[i]! : word), 0)
}
