import type { BlockFile } from '../file/protocol.ts'
import { setU64, viewOf } from './bytes.ts'
import type { CompressionType } from './codecs.ts'
import { encodeHeader } from './encode-header.ts'
import {
  COMPAT_LAZY_REFCOUNTS,
  INCOMPAT_COMPRESSION,
  MAX_L1_BYTES,
  MAX_REFTABLE_BYTES,
  formatError,
} from './header.ts'
import { preallocate } from './preallocate.ts'
import type { Preallocation } from './preallocate.ts'
import { writeRefcount } from './refcount-bits.ts'

export interface Qcow2CreateOptions {
  readonly sizeBytes: number
  readonly clusterSize: number
  readonly version: 2 | 3
  readonly refcountBits: number
  readonly lazyRefcounts: boolean
  /** `off` by default. */
  readonly preallocation?: Preallocation
  /** `zlib` by default. */
  readonly compression?: CompressionType
  readonly backingFile?: string
  readonly backingFormat?: string
}

/**
 * Writes an empty image: header, refcount table, refcount blocks, the L1 table, and where clusters
 * are preallocated the L2 tables and the clusters behind them.
 */
export async function writeEmptyImage(file: BlockFile, options: Qcow2CreateOptions): Promise<void> {
  const { clusterSize: cs, sizeBytes } = options
  const order = Math.log2(options.refcountBits)
  const l1Entries = Math.ceil(sizeBytes / (cs * (cs / 8)))
  if (l1Entries * 8 > MAX_L1_BYTES) {
    throw formatError(
      'Image size is too big for this cluster size: use a larger cluster_size',
      'EFBIG',
    )
  }
  const l1Clusters = Math.ceil((l1Entries * 8) / cs)
  const preallocation = options.preallocation ?? 'off'
  const dataClusters = preallocation === 'off' ? 0 : Math.ceil(sizeBytes / cs)
  const l2Clusters = preallocation === 'off' ? 0 : l1Entries
  const perBlock = (cs * 8) >> order
  let blocks = 1
  let tableClusters = 1
  const others = 1 + l1Clusters + l2Clusters + dataClusters
  for (;;) {
    const total = others + tableClusters + blocks
    const needed = Math.ceil(total / perBlock)
    const table = Math.max(1, Math.ceil((needed * 8) / cs))
    if (needed <= blocks && table <= tableClusters) break
    blocks = Math.max(blocks, needed)
    tableClusters = Math.max(tableClusters, table)
  }
  if (tableClusters * cs > MAX_REFTABLE_BYTES) {
    throw formatError(
      'Image size is too big to be preallocated with this cluster size: use a larger cluster_size',
      'EFBIG',
    )
  }
  const total = others + tableClusters + blocks
  const tableOffset = cs
  const blocksOffset = tableOffset + tableClusters * cs
  const l1Offset = blocksOffset + blocks * cs
  const bytes = new Uint8Array((1 + tableClusters) * cs)
  const view = viewOf(bytes)
  for (let block = 0; block < blocks; block++) {
    setU64(view, tableOffset + block * 8, blocksOffset + block * cs)
    const entries = new Uint8Array(cs)
    const used = Math.min(perBlock, total - block * perBlock)
    for (let i = 0; i < used; i++) writeRefcount(viewOf(entries), i, order, 1)
    await file.writev(blocksOffset + block * cs, [entries])
  }
  const { version, lazyRefcounts, backingFile, backingFormat } = options
  encodeHeader(bytes.subarray(0, cs), {
    version,
    clusterBits: Math.log2(cs),
    sizeBytes,
    l1Entries,
    l1Offset,
    refcountTableOffset: tableOffset,
    refcountTableClusters: tableClusters,
    snapshots: 0,
    snapshotsOffset: 0,
    incompatible: options.compression === 'zstd' ? INCOMPAT_COMPRESSION : 0,
    compatible: lazyRefcounts ? COMPAT_LAZY_REFCOUNTS : 0,
    refcountOrder: order,
    compression: options.compression ?? 'zlib',
    backingFile,
    backingFormat,
    extensions: [],
  })
  await file.writev(0, [bytes])
  await file.truncate(total * cs)
  if (!file.zeroInit) await file.writeZeroes(l1Offset, l1Clusters * cs, false)
  if (preallocation !== 'off') {
    const offset = l1Offset + l1Clusters * cs
    await preallocate(file, { preallocation, l1Offset, offset, l1Entries, dataClusters, cs })
  }
  await file.flush()
}
