import type { MemoryParts } from '../../memory.ts'

/**
 * Where the blocks are. Offsets and lengths are bytes, multiples of `logicalBlockBytes` and within
 * `sizeBytes`. Several calls may be outstanding; a rejected one becomes VIRTIO_BLK_S_IOERR.
 *
 * Every promise must settle for a reset to end: one that holds requests back, until somebody makes
 * room on a disk for instance, rejects them when the machine is reset.
 */
export interface BlkBackend {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number
  /**
   * Fills the parts before it returns, if that is possible without waiting; false, with nothing known
   * about their contents, where `readv` is to be asked.
   */
  readNow?(offset: number, target: MemoryParts): boolean
  /** Fills the views, which are guest memory itself. */
  readv(offset: number, iov: readonly Uint8Array[]): Promise<void>
  /**
   * Writes the parts before it returns, if that takes no time; false, with some of them written perhaps, where `writev` is
   * to be asked.
   */
  writeNow?(offset: number, source: MemoryParts): boolean
  writev(offset: number, iov: readonly Uint8Array[]): Promise<void>
  /** What was written before is on stable storage afterwards. */
  flush(): Promise<void>
  /** The contents do not matter any more. */
  discard(offset: number, length: number): Promise<void>
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>
  /** What is asked until `unplug`, in the same turn, may be held back, to be carried out together. */
  plug?(): void
  unplug?(): void
  /** A request of this kind was none that could be carried out, and was refused: for those who count. */
  refused?(operation: 'read' | 'write' | 'unmap'): void
}
