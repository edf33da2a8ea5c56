import type { BlockFile } from '../file/protocol.ts'
import type { FormatNode } from '../node.ts'
import type { CompressedClusters } from './compressed.ts'
import type { Qcow2Header } from './header.ts'
import type { Metadata } from './metadata.ts'
import type { Snapshot } from './snapshots.ts'

export interface Qcow2Options {
  /** `discard=unmap`: discards of the guest free clusters. */
  readonly unmap: boolean
}

/** A loaded image, before it is a node. */
export interface Qcow2Parts {
  readonly file: BlockFile
  readonly header: Qcow2Header
  readonly metadata: Metadata
  readonly compressed: CompressedClusters
  readonly snapshots: readonly Snapshot[]
  readonly backing: FormatNode | undefined
}
