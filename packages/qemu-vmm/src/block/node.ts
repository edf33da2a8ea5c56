import type { MemoryParts } from 'virtio'
import type { BlockFile, FileCopy } from './file/protocol.ts'
import type { Preallocation } from './qcow2/preallocate.ts'

/** What part of an image a range is, and whether its bytes have storage. */
export interface MapEntry {
  readonly start: number
  readonly length: number
  /** How many backing files below the image this comes from; 0 is the image itself. */
  readonly depth: number
  /** The range exists in the chain. */
  readonly present: boolean
  /** It reads as zeros. */
  readonly zero: boolean
  /** It has data stored. */
  readonly data: boolean
  readonly compressed: boolean
  /** Where in the file it is, when it is there uncompressed. */
  readonly offset?: number
}

/** Facts of a format for `qemu-img info`. */
export interface FormatInfo {
  /** Bytes. */
  readonly clusterSize?: number
  readonly backingFile?: string
  readonly backingFormat?: string
  readonly dirty?: boolean
  readonly specific?: Readonly<Record<string, string | number | boolean>>
  readonly snapshots?: readonly SnapshotInfo[]
}

/** An internal snapshot. */
export interface SnapshotInfo {
  readonly id: string
  readonly name: string
  readonly vmStateBytes: number
  readonly date: { readonly sec: number; readonly nsec: number }
  readonly vmClockNsec: bigint
  readonly icount?: bigint
}

/** Result of a consistency check, with the names of `qemu-img check --output=json`. */
export interface CheckResult {
  corruptions: number
  leaks: number
  checkErrors: number
  corruptionsFixed: number
  leaksFixed: number
  imageEndOffset: number
  totalClusters: number
  allocatedClusters: number
  fragmentedClusters: number
  compressedClusters: number
}

/**
 * A layer of block storage: a file, or an image format on top of one.
 *
 * Offsets and lengths are bytes and lie within `sizeBytes`. Requests may overlap in time; those to
 * the same bytes complete in any order. A promise rejects with a `BlockError`, whose `errno` is
 * what the guest is told. Buffers belong to the node until the promise settles.
 */
export interface BlockNode {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number
  /**
   * Fills the parts before it returns, if that is possible without waiting; false, with nothing known
   * about their contents, where `readv` is to be asked, which also tells errors.
   */
  readNow?(offset: number, target: MemoryParts): boolean
  readv(offset: number, iov: readonly Uint8Array[]): Promise<void>
  /** Writes the parts before it returns, if that takes no time; false where `writev` is to be asked. */
  writeNow?(offset: number, source: MemoryParts): boolean
  writev(offset: number, iov: readonly Uint8Array[]): Promise<void>
  /** What was written before the call survives a crash of the host once this resolves. */
  flush(): Promise<void>
  /** The bytes may be forgotten. They read as old data or as zeros afterwards. */
  discard(offset: number, length: number): Promise<void>
  /** The bytes read as zeros afterwards; `mayUnmap` lets their storage go. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>
  /** Flushes and closes. Requests must have completed. */
  close(): Promise<void>
}

/** Where bytes of a disk are stored as they are. */
export interface BytePlace {
  readonly file: BlockFile
  readonly offset: number
}

/** A node of an image format. */
export interface FormatNode extends BlockNode {
  readonly format: 'raw' | 'qcow2'
  readonly filename: string
  /** The next image of the backing chain. */
  readonly backing: FormatNode | undefined
  info(): FormatInfo
  /** Where the bytes are, if they are in one place and that is known without waiting. */
  place?(offset: number, length: number): BytePlace | undefined
  /**
   * Fills bytes that have no data yet from a file. Resolves to how many there are of them now: fewer, down to none, where `writev` is to
   * be asked.
   */
  fill?(offset: number, copy: FileCopy): Promise<number>
  /**
   * Stores a whole cluster compressed, where that makes it smaller; missing in formats that cannot.
   * What lies behind the end of the disk is zeros.
   */
  writeCompressed?(offset: number, cluster: Uint8Array): Promise<void>
  /** Allocation of the bytes from `offset` on: one entry, at most `length` bytes long. */
  map(offset: number, length: number): Promise<MapEntry>
  /**
   * Makes the disk larger, by zeros, or smaller. Requests behind the new end must have completed.
   * @param preallocation of what is new
   */
  resize(sizeBytes: number, preallocation?: Preallocation): Promise<void>
  /** Forgets all that was written since the image was made on top of its backing file; where that exists. */
  empty?(): Promise<void>
  /** Checks the consistency; undefined when the format has nothing to check. */
  check(options?: CheckOptions): Promise<CheckResult | undefined>
}

/** What a check repairs and whom it tells. */
export interface CheckOptions {
  readonly repair?: 'leaks' | 'all'
  readonly report?: (line: string) => void
}
