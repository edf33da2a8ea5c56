import type { VirtioDevice } from '../../device.ts'

/** Types of virtio structures (VirtIO 1.2, section 4.1.4). */
export const VIRTIO_PCI_CAP_COMMON_CFG = 1
export const VIRTIO_PCI_CAP_NOTIFY_CFG = 2
export const VIRTIO_PCI_CAP_ISR_CFG = 3
export const VIRTIO_PCI_CAP_DEVICE_CFG = 4
export const VIRTIO_PCI_CAP_PCI_CFG = 5

/** The BAR with all structures, and where they are in it. */
export const VIRTIO_PCI_BAR = 4
export const BAR_BYTES = 0x4000
export const COMMON_OFFSET = 0x0000
export const ISR_OFFSET = 0x1000
export const DEVICE_OFFSET = 0x2000
export const NOTIFY_OFFSET = 0x3000
/** Bytes between the notify addresses of two queues. */
export const NOTIFY_OFF_MULTIPLIER = 4

const PCI_CAP_ID_VNDR = 0x09
const CAP_BYTES = 16
const EXTENDED_CAP_BYTES = 20

/** A capability of the configuration space. The embedder links them: byte 1 is left 0. */
export interface PciCapability {
  /** `cap_vndr`, `cap_next`, `cap_len`, `cfg_type`, ... */
  readonly bytes: Uint8Array
  /** A bit is set where the driver may write. */
  readonly writable: Uint8Array
  /** Takes accesses instead of the plain bytes; offsets count from the capability. */
  readonly access?: {
    read(offset: number, size: number): number
    write(offset: number, size: number, value: number): void
  }
}

/** The fixed facts of the PCI function. */
export interface VirtioPciIdentity {
  vendor: number
  device: number
  revision: number
  /** 24 bits: base class, subclass, programming interface. */
  classCode: number
  subsystemVendor: number
  subsystem: number
  interruptPin: number
}

/** Class codes as QEMU has them, by device type; others are "unclassified". */
const classCodes = new Map([
  [1, 0x02_00_00],
  [2, 0x01_00_00],
  [3, 0x07_80_00],
])

/** Transitional device ids (section 4.1.2.1), by device type. */
const transitionalIds = new Map([
  [1, 0x1000],
  [2, 0x1001],
  [3, 0x1003],
  [4, 0x1005],
  [5, 0x1002],
  [8, 0x1004],
])

export function pciIdentity(device: VirtioDevice, transitional: boolean): VirtioPciIdentity {
  const { type } = device.model
  const old = transitional ? transitionalIds.get(type) : undefined
  return {
    vendor: 0x1af4,
    device: old ?? 0x1040 + type,
    revision: old === undefined ? 1 : 0,
    classCode: classCodes.get(type) ?? 0x00_ff_00,
    subsystemVendor: 0x1af4,
    // Drivers of transitional devices take the type from here.
    subsystem: old === undefined ? 0x1100 : type,
    interruptPin: 1,
  }
}

/** The bytes of `struct virtio_pci_cap` and what follows it. */
export function virtioCapability(cfgType: number, offset: number, length: number): PciCapability {
  const extended = cfgType === VIRTIO_PCI_CAP_NOTIFY_CFG || cfgType === VIRTIO_PCI_CAP_PCI_CFG
  const bytes = new Uint8Array(extended ? EXTENDED_CAP_BYTES : CAP_BYTES)
  const view = new DataView(bytes.buffer)
  bytes[0] = PCI_CAP_ID_VNDR
  bytes[2] = bytes.length
  bytes[3] = cfgType
  bytes[4] = cfgType === VIRTIO_PCI_CAP_PCI_CFG ? 0 : VIRTIO_PCI_BAR
  view.setUint32(8, offset, true)
  view.setUint32(12, length, true)
  if (cfgType === VIRTIO_PCI_CAP_NOTIFY_CFG) view.setUint32(16, NOTIFY_OFF_MULTIPLIER, true)
  return { bytes, writable: new Uint8Array(bytes.length) }
}
