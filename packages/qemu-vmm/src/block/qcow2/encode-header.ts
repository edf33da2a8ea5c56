import { setU64, viewOf } from './bytes.ts'
import { EXT_BACKING_FORMAT, EXT_FEATURE_NAMES, QCOW2_MAGIC, formatError } from './header.ts'
import type { Qcow2Header } from './header.ts'

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

/** What a header says; the rest follows from it. */
export type HeaderFields = Omit<Qcow2Header, 'autoclearSet' | 'headerLength'>

/**
 * Fills a cluster of zeros with a header, its extensions and the name of the backing file.
 * Extensions that are not known here are kept.
 * @throws BlockError E_BLOCK_FORMAT when there is not enough room
 */
export function encodeHeader(cluster: Uint8Array, fields: HeaderFields): void {
  const view = viewOf(cluster)
  const { version } = fields
  const headerLength = version === 2 ? 72 : 112
  view.setUint32(0, QCOW2_MAGIC)
  view.setUint32(4, version)
  view.setUint32(20, fields.clusterBits)
  setU64(view, 24, fields.sizeBytes)
  view.setUint32(36, fields.l1Entries)
  setU64(view, 40, fields.l1Offset)
  setU64(view, 48, fields.refcountTableOffset)
  view.setUint32(56, fields.refcountTableClusters)
  view.setUint32(60, fields.snapshots)
  setU64(view, 64, fields.snapshotsOffset)
  if (version === 3) {
    view.setUint32(76, fields.incompatible)
    view.setUint32(84, fields.compatible)
    view.setUint32(96, fields.refcountOrder)
    view.setUint32(100, headerLength)
    cluster[104] = fields.compression === 'zstd' ? 1 : 0
  }
  let at = headerLength
  const extension = (type: number, data: Uint8Array): void => {
    if (at + 16 + data.byteLength > cluster.byteLength) throw tooLong()
    view.setUint32(at, type)
    view.setUint32(at + 4, data.byteLength)
    cluster.set(data, at + 8)
    at += 8 + Math.ceil(data.byteLength / 8) * 8
  }
  const { backingFile, backingFormat } = fields
  if (backingFormat !== undefined) extension(EXT_BACKING_FORMAT, Buffer.from(backingFormat))
  for (const { type, data } of fields.extensions) {
    if (type !== EXT_BACKING_FORMAT && type !== EXT_FEATURE_NAMES) extension(type, data)
  }
  const table = featureTable()
  // Small clusters have no room for the names, which are for people only.
  if (version === 3 && at + table.byteLength + 1100 < cluster.byteLength) {
    extension(EXT_FEATURE_NAMES, table)
  }
  at += 8
  if (backingFile === undefined) return
  const name = Buffer.from(backingFile)
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
