import type { MemoryParts } from 'virtio'

import type { BlockOperation, BlockStats } from '../block/accounting.ts'
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
  /** Writes the parts at once; false where `writev` is to be asked. */
  writeNow?(offset: number, source: MemoryParts): boolean
  writev(offset: number, iov: readonly Uint8Array[]): Promise<void>
  flush(): Promise<void>
  discard(offset: number, length: number): Promise<void>
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>
  /** What is asked until `unplug` may be held back, to reach the host together. */
  plug?(): void
  unplug?(): void
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
export type DriveOpener = (config: ImageConfig, events: DriveEvents) => Promise<OpenDrive>

/** A drive that has an image. */
export type ImageConfig = DriveConfig & { file: string }

/** A drive as it was opened. Plain data. */
export interface DriveInfo extends ImageConfig {
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
