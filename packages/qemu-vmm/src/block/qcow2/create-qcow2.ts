import type { BlockFile } from '../file/protocol.ts'
import { setU64, viewOf } from './bytes.ts'
import {
  COMPAT_LAZY_REFCOUNTS,
  EXT_BACKING_FORMAT,
  EXT_FEATURE_NAMES,
  MAX_L1_BYTES,
  MAX_REFTABLE_BYTES,
  QCOW2_MAGIC,
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
  readonly backingFile?: string
  readonly backingFormat?: string
}

const FEATURES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
]

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
  writeHeader(bytes.subarray(0, cs), options, { l1Entries, l1Offset, tableOffset, tableClusters })
  await file.writev(0, [bytes])
  await file.truncate(total * cs)
  if (!file.zeroInit) await file.writeZeroes(l1Offset, l1Clusters * cs, false)
  if (preallocation !== 'off') {
    const offset = l1Offset + l1Clusters * cs
    await preallocate(file, { preallocation, l1Offset, offset, l1Entries, dataClusters, cs })
  }
  await file.flush()
}

interface Places {
  readonly l1Entries: number
  readonly l1Offset: number
  readonly tableOffset: number
  readonly tableClusters: number
}

function writeHeader(cluster: Uint8Array, options: Qcow2CreateOptions, places: Places): void {
  const view = viewOf(cluster)
  const { version } = options
  const headerLength = version === 2 ? 72 : 112
  view.setUint32(0, QCOW2_MAGIC)
  view.setUint32(4, version)
  view.setUint32(20, Math.log2(options.clusterSize))
  setU64(view, 24, options.sizeBytes)
  view.setUint32(36, places.l1Entries)
  setU64(view, 40, places.l1Offset)
  setU64(view, 48, places.tableOffset)
  view.setUint32(56, places.tableClusters)
  if (version === 3) {
    view.setUint32(84, options.lazyRefcounts ? COMPAT_LAZY_REFCOUNTS : 0)
    view.setUint32(96, Math.log2(options.refcountBits))
    view.setUint32(100, headerLength)
  }
  let at = headerLength
  const extension = (type: number, data: Uint8Array): void => {
    if (at + 16 + data.byteLength > cluster.byteLength) throw tooLong()
    view.setUint32(at, type)
    view.setUint32(at + 4, data.byteLength)
    cluster.set(data, at + 8)
    at += 8 + Math.ceil(data.byteLength / 8) * 8
  }
  if (options.backingFormat !== undefined) {
    extension(EXT_BACKING_FORMAT, Buffer.from(options.backingFormat))
  }
  const table = featureTable()
  // Small clusters have no room for the names, which are for people only.
  if (version === 3 && at + table.byteLength + 1100 < cluster.byteLength) {
    extension(EXT_FEATURE_NAMES, table)
  }
  at += 8
  if (options.backingFile === undefined) return
  const name = Buffer.from(options.backingFile)
  if (name.byteLength > 1023 || at + name.byteLength > cluster.byteLength) throw tooLong()
  setU64(view, 8, at)
  view.setUint32(16, name.byteLength)
  cluster.set(name, at)
}

const tooLong = () => formatError('Backing file name too long for the header cluster')

function featureTable(): Uint8Array {
  const table = new Uint8Array(FEATURES.length * 48)
  for (const [i, [type, bit, name]] of FEATURES.entries()) {
    table[i * 48] = type
    table[i * 48 + 1] = bit
    table.set(Buffer.from(name), i * 48 + 2)
  }
  return table
}
