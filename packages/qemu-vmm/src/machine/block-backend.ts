import { BlockCounters } from '../block/accounting.ts'
import type { BlockStats } from '../block/accounting.ts'
import type { DriveConfig, DriveThrottle } from './drive-config.ts'
import type { Drive } from './drive.ts'

/** A device whose medium comes and goes. */
export interface MediaDevice {
  /** CD drives have a tray, floppy drives have none. */
  readonly hasTray: boolean
  readonly isTrayOpen: boolean
  /** The guest keeps the tray closed. */
  readonly isLocked: boolean
  /** Puts a medium in, or takes it out. Throws `E_MEDIUM` for one that it cannot have. */
  setMedium(medium: Drive | undefined): void
  /** The host moves the tray, and the guest will see it. */
  moveTray(open: boolean): void
  /** Tells the guest that the medium is wanted; with `force` the tray is not locked any more. */
  requestEject(force: boolean): void
  /** Told when the guest moves the tray; set by who follows it. */
  onTrayMoved: (open: boolean) => void
}

/** What stands between a device and its medium, and stays where the medium goes. */
export interface BlockBackend {
  /** Of a drive of `-drive`; empty for a device that names a node. */
  readonly name: string
  readonly config: Omit<DriveConfig, 'file'>
  readonly counters: BlockCounters
  /** What messages call the device. */
  owner: string | undefined
  /** Its id, or its path in QEMU's object model; of a virtio device that of the object behind it. */
  qdev: string | undefined
  /** Only of devices whose medium can be another one. */
  media: MediaDevice | undefined
  /** The node that is its medium. */
  node: string | undefined
  /** Limits that wait for a medium. */
  throttle: DriveThrottle | undefined
  /** Whether the last medium that was taken out had been opened without writes, or the drive is to be so. */
  wasReadOnly: boolean | undefined
}

/** A backend as monitors tell of it. Plain data. */
export interface BackendInfo {
  name: string
  qdev?: string
  /** Its medium can be changed, as that of a drive without a device. */
  isRemovable: boolean
  isLocked: boolean
  /** Absent where there is no tray. */
  isTrayOpen?: boolean
  /** Whether its device stops the machine for failed requests where that is wished. */
  hasIoStatus: boolean
  node?: string
  stats: BlockStats
}

/** A tray has moved, by the guest's doing or the host's. Plain data. */
export interface TrayMoved {
  /** The drive's name; empty for a device that names a node. */
  device: string
  /** The device's id, or its path in QEMU's object model. */
  id: string
  isOpen: boolean
}

export function createBackend(
  name: string,
  { file: _file, ...config }: DriveConfig,
  node: string | undefined,
): BlockBackend {
  return {
    name,
    config,
    counters: new BlockCounters(),
    owner: undefined,
    qdev: undefined,
    media: undefined,
    node,
    throttle: node === undefined ? config.throttle : undefined,
    wasReadOnly: name === '' ? undefined : (config.readOnly ?? false),
  }
}

/** What a monitor is told; `nowNs` is the time that counters are asked for. */
export function describeBackend(backend: BlockBackend, nowNs: number): BackendInfo {
  const { name, qdev, owner, media, node, counters } = backend
  return {
    name,
    ...(qdev === undefined ? {} : { qdev }),
    isRemovable: owner === undefined || media !== undefined,
    isLocked: media?.isLocked ?? false,
    ...(media?.hasTray === true ? { isTrayOpen: media.isTrayOpen } : {}),
    hasIoStatus: owner !== undefined && media?.hasTray !== false,
    ...(node === undefined ? {} : { node }),
    stats: counters.stats(nowNs),
  }
}

/** A virtio device may be called by its id as well as by the object that has the drive. */
export function isDevice({ qdev }: { qdev?: string | undefined }, id: string): boolean {
  return qdev === id || qdev === `/machine/peripheral/${id}/virtio-backend`
}
