import type { MemoryParts } from 'virtio'

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
}

/** An open drive, and what it does besides. */
export interface OpenDrive extends Drive {
  /** How many requests failed and wait. */
  readonly waiting: number
  /** Submits again what failed and waits since `onStop` was called. */
  retry(): void
  /** Rejects what waits: the machine ends. */
  abandon(): void
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

interface Entry {
  readonly drive: OpenDrive
  owner: string | undefined
}

/** The drives of a machine. Each belongs to one device at most. */
export class Drives {
  readonly #entries = new Map<string, Entry>()

  /** Opens all; when one cannot be opened none stays open. */
  static async open(
    configs: readonly DriveConfig[],
    open: DriveOpener,
    events: { onStop(drive: string, error: Error): void; log(message: string): void },
  ): Promise<Drives> {
    const drives = new Drives()
    try {
      for (const config of configs) {
        const drive = await open(config, {
          onStop: (error) => events.onStop(config.id, error),
          log: (message) => events.log(message),
        })
        drives.#entries.set(config.id, { drive, owner: undefined })
      }
    } catch (error) {
      await drives.close()
      throw error
    }
    return drives
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
    return entry.drive
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
