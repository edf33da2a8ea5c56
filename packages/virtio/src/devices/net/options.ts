import { featureBit } from '../../constants.ts'
import type { VirtioDeviceOptions } from '../../device.ts'
import { VirtioError } from '../../errors.ts'
import {
  ACCEPTS_CSUM,
  ACCEPTS_ECN,
  ACCEPTS_TSO4,
  ACCEPTS_TSO6,
  ACCEPTS_UFO,
} from '../../net/header.ts'
import type { LinkSide } from '../../net/link.ts'
import {
  MAC_BYTES,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GSO,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_UFO,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_UFO,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
} from './protocol.ts'

/** More pairs than that no machine of ours has processors for. */
export const MAX_QUEUE_PAIRS = 64
/** Least and most of what the specification and IPv4 allow. */
const MTU_RANGE = [68, 65_535] as const

/** Features that can be left out, by the names that QEMU's properties have; all are on by default. */
export interface NetFeatures {
  csum?: boolean
  gso?: boolean
  guestCsum?: boolean
  guestTso4?: boolean
  guestTso6?: boolean
  guestEcn?: boolean
  guestUfo?: boolean
  guestAnnounce?: boolean
  hostTso4?: boolean
  hostTso6?: boolean
  hostEcn?: boolean
  hostUfo?: boolean
  mrgRxbuf?: boolean
  status?: boolean
  ctrlVq?: boolean
  ctrlRx?: boolean
  ctrlVlan?: boolean
  ctrlRxExtra?: boolean
  ctrlMacAddr?: boolean
  ctrlGuestOffloads?: boolean
}

export interface NetOptions extends VirtioDeviceOptions {
  /** Where it is plugged in. The back end should be there already: it decides on offloads. */
  side: LinkSide
  /** 6 bytes, the address of one station. */
  mac: Uint8Array
  /** Pairs of queues, 1 to 64; default 1. More than one are offered as MQ. */
  queuePairs?: number
  /** Descriptors of each queue, a power of two of 64 to 1024; default 256. */
  rxQueueSize?: number
  txQueueSize?: number
  /** What the guest shall use at most, 68 to 65535; without it the guest decides. */
  hostMtu?: number
  enable?: NetFeatures
  /**
   * By what native code reaches guest memory and interrupts: with it the data queues are lent to a back end that serves them by
   * itself.
   */
  nativeCalls?: unknown
}

/** What a device with these options offers, connected to an end that accepts `peerAccepts`. */
export function netFeatures(options: NetOptions, peerAccepts: number): bigint {
  const { enable = {}, queuePairs = 1, hostMtu } = options
  let features = featureBit(VIRTIO_NET_F_MAC)
  const add = (feature: number, wished: boolean | undefined, possible: boolean = true): boolean => {
    const isOffered = possible && (wished ?? true)
    if (isOffered) features |= featureBit(feature)
    return isOffered
  }
  const accepts = (kinds: number): boolean => (peerAccepts & kinds) === kinds
  const csum = add(VIRTIO_NET_F_CSUM, enable.csum, accepts(ACCEPTS_CSUM))
  const tso4 = add(VIRTIO_NET_F_HOST_TSO4, enable.hostTso4, csum && accepts(ACCEPTS_TSO4))
  const tso6 = add(VIRTIO_NET_F_HOST_TSO6, enable.hostTso6, csum && accepts(ACCEPTS_TSO6))
  const ecn = add(VIRTIO_NET_F_HOST_ECN, enable.hostEcn, (tso4 || tso6) && accepts(ACCEPTS_ECN))
  const ufo = add(VIRTIO_NET_F_HOST_UFO, enable.hostUfo, csum && accepts(ACCEPTS_UFO))
  // It promises all kinds at once.
  add(VIRTIO_NET_F_GSO, enable.gso, tso4 && tso6 && ecn && ufo)
  // An end that takes no headers has none to send either.
  const guest = add(VIRTIO_NET_F_GUEST_CSUM, enable.guestCsum, accepts(ACCEPTS_CSUM))
  const guest4 = add(VIRTIO_NET_F_GUEST_TSO4, enable.guestTso4, guest)
  const guest6 = add(VIRTIO_NET_F_GUEST_TSO6, enable.guestTso6, guest)
  add(VIRTIO_NET_F_GUEST_ECN, enable.guestEcn, guest4 || guest6)
  add(VIRTIO_NET_F_GUEST_UFO, enable.guestUfo, guest)
  add(VIRTIO_NET_F_MRG_RXBUF, enable.mrgRxbuf)
  add(VIRTIO_NET_F_STATUS, enable.status)
  add(VIRTIO_NET_F_MTU, undefined, hostMtu !== undefined)
  const control = add(VIRTIO_NET_F_CTRL_VQ, enable.ctrlVq)
  add(VIRTIO_NET_F_CTRL_RX, enable.ctrlRx, control)
  add(VIRTIO_NET_F_CTRL_VLAN, enable.ctrlVlan, control)
  add(VIRTIO_NET_F_CTRL_RX_EXTRA, enable.ctrlRxExtra, control)
  add(VIRTIO_NET_F_CTRL_MAC_ADDR, enable.ctrlMacAddr, control)
  add(VIRTIO_NET_F_GUEST_ANNOUNCE, enable.guestAnnounce, control && (enable.status ?? true))
  add(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, enable.ctrlGuestOffloads, control && guest)
  add(VIRTIO_NET_F_MQ, undefined, control && queuePairs > 1)
  return features
}

export function checkNetOptions(options: NetOptions): void {
  const { mac, queuePairs = 1, rxQueueSize = 256, txQueueSize = 256, hostMtu } = options
  const refuse = (what: string): never => {
    throw new VirtioError('E_CONFIG', `virtio-net cannot have ${what}`)
  }
  const isPower = (value: number): boolean => value > 0 && (value & (value - 1)) === 0
  if (mac.length !== MAC_BYTES) refuse(`an address of ${mac.length} bytes: use 6`)
  if ((mac[0]! & 1) !== 0) refuse('the address of a group: the lowest bit of the first byte is 0')
  if (!Number.isInteger(queuePairs) || queuePairs < 1 || queuePairs > MAX_QUEUE_PAIRS) {
    refuse(`${queuePairs} pairs of queues: use 1 to ${MAX_QUEUE_PAIRS}`)
  }
  if (queuePairs > 1 && options.enable?.ctrlVq === false) {
    refuse('several pairs of queues without the control queue')
  }
  for (const size of [rxQueueSize, txQueueSize]) {
    if (!isPower(size) || size < 64 || size > 1024) {
      refuse(`queues of ${size}: use a power of two of 64 to 1024`)
    }
  }
  const [least, most] = MTU_RANGE
  if (
    hostMtu !== undefined &&
    !(Number.isInteger(hostMtu) && hostMtu >= least && hostMtu <= most)
  ) {
    refuse(`an MTU of ${hostMtu}: use ${least} to ${most}`)
  }
}
