import type { MemoryParts } from 'virtio'

import { Accounting } from '../block/accounting.ts'
import type { BlockOperation, BlockStats } from '../block/accounting.ts'
import { VmmError } from '../errors.ts'
import type { DriveConfig } from './drive-config.ts'

/** A disk's contents as a device uses them. Rejected promises are I/O errors. */
export interface Drive {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number
  /** Fills the parts at once; false where only `readv` can. */
  readNow?(offset: number, target: MemoryParts): boolean
  readv(offset: number, iov: readonly Uint8Array[]): Promise<void>
  writev(offset: number, iov: readonly Uint8Array[]): Promise<void>
  flush(): Promise<void>
  discard(offset: number, length: number): Promise<void>
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>
  /** Set by a device whose disk may change its size while the machine runs. */
  onResized?: (() => void) | undefined
  /** The device has refused a request that cannot be. */
  refused?(operation: BlockOperation): void
}

/** An open drive, and what it does besides. */
export interface OpenDrive extends Drive {
  /** What was found in the file. */
  readonly image?: { readonly format: 'raw' | 'qcow2'; readonly backingDepth: number }
  /** How many requests failed and wait. */
  readonly waiting: number
  /** Submits again what failed and waits since `onStop` was called. */
  retry(): void
  /** Rejects what waits: the machine ends. */
  abandon(): void
  /** Makes the disk larger or smaller; nothing is under way meanwhile. */
  resize?(sizeBytes: number): Promise<void>
  close(): Promise<void>
}

/** What a drive tells the machine. */
export interface DriveEvents {
  /** A request failed, and waits for the machine to be resumed. */
  onStop(error: Error): void
  log(message: string): void
}

/** Opens an image. */
export type DriveOpener = (config: DriveConfig, events: DriveEvents) => Promise<OpenDrive>

/** A drive as it was opened. Plain data. */
export interface DriveInfo extends DriveConfig {
  sizeBytes: number
  readOnly: boolean
  /** Images below the one that is written to. */
  backingDepth?: number
  /** Failed requests wait for the machine to be resumed. */
  isWaiting: boolean
  /** What its device has asked of it so far. */
  stats: BlockStats
  /** The device that has it. */
  owner?: string
}

interface Entry {
  readonly drive: OpenDrive
  /** The same, as devices have it. */
  readonly counted: Accounting
  readonly config: DriveConfig
  owner: string | undefined
}

/** What drives tell the machine, by their ids. */
export interface DrivesEvents {
  onStop(drive: string, error: Error): void
  log(message: string): void
  /** The host's time, from any moment on, for what requests take. */
  nowNs(): number
}

/** The drives of a machine. Each belongs to one device at most. */
export class Drives {
  readonly #entries = new Map<string, Entry>()
  readonly #open: DriveOpener
  readonly #events: DrivesEvents

  private constructor(open: DriveOpener, events: DrivesEvents) {
    this.#open = open
    this.#events = events
  }

  /** Opens all; when one cannot be opened none stays open. */
  static async open(
    configs: readonly DriveConfig[],
    open: DriveOpener,
    events: DrivesEvents,
  ): Promise<Drives> {
    const drives = new Drives(open, events)
    try {
      for (const config of configs) await drives.add(config)
    } catch (error) {
      await drives.close()
      throw error
    }
    return drives
  }

  /** Opens one more. Rejects with `E_CONFIG` for an id that another has, and as images do. */
  async add(config: DriveConfig): Promise<void> {
    const { id } = config
    if (this.#entries.has(id)) {
      throw new VmmError('E_CONFIG', `Duplicate nodes with node-name='${id}'`, {
        fields: { drive: id },
      })
    }
    const drive = await this.#open(config, {
      onStop: (error) => this.#events.onStop(id, error),
      log: (message) => this.#events.log(message),
    })
    const counted = new Accounting(drive, () => this.#events.nowNs())
    this.#entries.set(id, { drive, counted, config, owner: undefined })
  }

  /** Closes one. Rejects with `E_NO_DRIVE` when there is none, `E_IN_USE` while a device has it. */
  async remove(id: string): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) {
      throw new VmmError('E_NO_DRIVE', `Failed to find node with node-name='${id}'`, {
        fields: { drive: id },
      })
    }
    if (entry.owner !== undefined) {
      throw new VmmError('E_IN_USE', `Node ${id} is in use by ${entry.owner}; remove that first`, {
        fields: { drive: id, owner: entry.owner },
      })
    }
    this.#entries.delete(id)
    await entry.drive.close()
  }

  /** What there is, and whose. */
  list(): DriveInfo[] {
    return Array.from(this.#entries.values(), ({ drive, counted, config, owner }) => ({
      ...config,
      ...drive.image,
      sizeBytes: drive.sizeBytes,
      readOnly: drive.readOnly,
      isWaiting: drive.waiting > 0,
      stats: counted.stats(),
      ...(owner === undefined ? {} : { owner }),
    }))
  }

  /** Gives a drive to a device. Throws `E_DEVICE_OPTION` when there is none, or it is in use. */
  take(id: string, owner: string): Drive {
    const entry = this.#entries.get(id)
    if (entry === undefined) {
      const known = [...this.#entries.keys()].join(', ') || 'none'
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Property '${owner}.drive' can't find value '${id}' (drives: ${known})`,
        { fields: { device: owner, drive: id } },
      )
    }
    if (entry.owner !== undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Drive '${id}' is already in use by ${entry.owner}; give ${owner} another`,
        { fields: { device: owner, drive: id, owner: entry.owner } },
      )
    }
    entry.owner = owner
    return entry.counted
  }

  /**
   * Makes a disk larger or smaller, and its device tells the guest. Rejects with `E_NO_DRIVE`, `E_IN_USE` where the
   * device cannot tell, and as images do.
   */
  async resize(id: string, sizeBytes: number): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) throw new VmmError('E_NO_DRIVE', `Cannot find device='${id}'`)
    const { drive, counted, owner } = entry
    if (drive.resize === undefined || (owner !== undefined && counted.onResized === undefined)) {
      throw new VmmError(
        'E_IN_USE',
        `Node ${id} is in use by ${owner}, whose disks keep their sizes; use it without a machine`,
        { fields: { drive: id, owner: owner ?? '' } },
      )
    }
    if (drive.readOnly) throw new VmmError('E_READ_ONLY', 'Image is read-only')
    const block = drive.logicalBlockBytes
    // As QEMU does it, the disk has whole blocks.
    const size = Math.ceil(sizeBytes / block) * block
    await counted.resize(() => drive.resize!(size))
  }

  /** Its device is gone: another may have it, if it does not go with the device. */
  async release(id: string): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    entry.owner = undefined
    entry.counted.onResized = undefined
    if (entry.config.deleteWithDevice === true) await this.remove(id)
  }

  /** Fails what waits of one. */
  abandonOne(id: string): void {
    this.#entries.get(id)?.drive.abandon()
  }

  /** Lets requests go on that failed and were kept. */
  retry(): void {
    for (const { drive } of this.#entries.values()) drive.retry()
  }

  /** The first drive of which failed requests wait. */
  get waiting(): string | undefined {
    for (const [id, { drive }] of this.#entries) if (drive.waiting > 0) return id
    return undefined
  }

  /** Rejects what waits: the machine ends. */
  abandon(): void {
    for (const { drive } of this.#entries.values()) drive.abandon()
  }

  /** Closes all; what was written is in the images then. */
  async close(): Promise<void> {
    const entries = [...this.#entries.values()]
    this.#entries.clear()
    const results = await Promise.allSettled(entries.map(({ drive }) => drive.close()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}
