import type { MemoryParts } from 'virtio'
import type { Iovec } from '../iovec.ts'

/** Bytes of a file that are to be copied to another. */
export interface FileCopy {
  readonly file: BlockFile
  readonly from: number
  readonly length: number
  /** Before a block of so many bytes that is all zeros, counted from `from`, the copy ends; 0 copies zeros as well. */
  readonly blockBytes: number
  /** What the bytes pass through, at least a block long. */
  readonly buffer: Uint8Array
}

/**
 * What formats store their bytes in: a file or a block device. Bytes behind the end read as zeros;
 * a write behind the end makes it longer, unless it is a device.
 */
export interface BlockFile {
  readonly filename: string
  readonly readOnly: boolean
  /** Storage that was never written reads as zeros. A device holds what its last user left there. */
  readonly zeroInit: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number
  /** Bytes. It grows with writes behind it. */
  readonly sizeBytes: number
  /** Fills the parts at once; false where only `readv` can. */
  readNow?(offset: number, target: MemoryParts): boolean
  /**
   * Copies what the host has in memory from another file, on the calling thread: how many bytes, down to none where that cannot be.
   * @throws BlockError E_BLOCK_IO when they cannot be written
   */
  copyNow?(offset: number, copy: FileCopy): number
  readv(offset: number, iov: Iovec): Promise<void>
  /** Writes the parts at once; false, with some of them written perhaps, where `writev` is to be asked. */
  writeNow?(offset: number, source: MemoryParts): boolean
  writev(offset: number, iov: Iovec): Promise<void>
  /** Makes all completed writes survive a crash of the host. */
  flush(): Promise<void>
  /** Gives storage back where the host can; the range reads as zeros then. Resolves to whether it did. */
  punchHole(offset: number, length: number): Promise<boolean>
  /** The range reads as zeros afterwards, written if nothing else works. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>
  /** Storage for the range, which keeps its contents. Resolves to whether the host could. */
  allocate(offset: number, length: number): Promise<boolean>
  truncate(sizeBytes: number): Promise<void>
  /** Whether the range's beginning has data stored, and for how many bytes that is so. */
  allocation(offset: number, length: number): Promise<{ data: boolean; length: number }>
  /** Bytes of storage that the host counts for it. */
  storedBytes(): Promise<number>
  close(): Promise<void>
}
