import type { BlockFile } from '../file/protocol.ts'
import { hex, viewOf } from './bytes.ts'
import { corrupt } from './claims.ts'
import type { Structure } from './structure.ts'

const COPIED = 0x80000000
const COMPRESSED = 0x40000000
const OFFSET_HIGH = 0x00ffffff
const SECTOR = 512
/** So many clusters wait to be freed at most. */
const MOST_FREED = 1 << 20

/** Adds to the uses of all L2 tables that an L1 table names, and of all clusters that these name. */
export async function addReferences(image: Structure, l1: DataView, delta: 1 | -1): Promise<void> {
  const { clusterBytes: cs, file, header, metadata } = image
  const { refcounts } = metadata
  const sectorBits = header.clusterBits - 8
  const use = async (cluster: number): Promise<void> => {
    // What is used less is freed by the next write of the tables, after nothing names it any more.
    if (delta < 0) metadata.freed.push(cluster)
    else await refcounts.add(cluster, 1)
  }
  for (let at = 0; at < l1.byteLength; at += 8) {
    const table = offsetOf(l1.getUint32(at), l1.getUint32(at + 4))
    if (table === 0) continue
    const l2 = await readTable(file, table, cs)
    await use(table / cs)
    for (let entry = 0; entry < cs; entry += 8) {
      const high = l2.getUint32(entry)
      const low = l2.getUint32(entry + 4)
      if ((high & COMPRESSED) !== 0) {
        const field = high & 0x3fffffff
        const host = (field % 2 ** (30 - sectorBits)) * 2 ** 32 + low
        const sectors = Math.floor(field / 2 ** (30 - sectorBits)) + 1
        const end = host - (host % SECTOR) + sectors * SECTOR
        for (let one = Math.floor(host / cs); one * cs < end; one++) await use(one)
        continue
      }
      const host = offsetOf(high, low)
      if (host === 0) continue
      if (host % cs !== 0) throw corrupt(`Cluster offset ${hex(host)} unaligned`)
      await use(host / cs)
    }
    const crowded = delta < 0 ? metadata.freed.length > MOST_FREED : refcounts.cache.crowded
    if (crowded) await metadata.flush()
  }
}

/** Makes the flag "copied" of all entries of the active tables say what the refcounts say. */
export async function refreshCopied(image: Structure): Promise<void> {
  const { clusterBytes: cs, file, metadata } = image
  const { refcounts, tables } = metadata
  const once = async (cluster: number): Promise<boolean> =>
    (refcounts.peek(cluster) ?? (await refcounts.get(cluster))) === 1
  for (let index = 0; index < tables.l1Entries; index++) {
    const table = tables.tableOffset(index)
    if (table === 0) continue
    const l2 = await readTable(file, table, cs)
    let changed = false
    for (let entry = 0; entry < cs; entry += 8) {
      const high = l2.getUint32(entry)
      const host = offsetOf(high, l2.getUint32(entry + 4))
      if ((high & COMPRESSED) !== 0 || host === 0) continue
      const copied = await once(host / cs)
      if (copied === ((high & COPIED) !== 0)) continue
      l2.setUint32(entry, (copied ? high | COPIED : high & ~COPIED) >>> 0)
      changed = true
    }
    if (changed) {
      await file.writev(table, [new Uint8Array(l2.buffer)])
      tables.cache.drop(table, cs)
    }
    tables.setTableCopied(index, await once(table / cs))
  }
}

async function readTable(file: BlockFile, table: number, clusterBytes: number): Promise<DataView> {
  if (table % clusterBytes !== 0 || table >= file.sizeBytes) {
    throw corrupt(`L2 table offset ${hex(table)} is unaligned or outside the file`)
  }
  const bytes = new Uint8Array(clusterBytes)
  await file.readv(table, [bytes])
  return viewOf(bytes)
}

function offsetOf(high: number, low: number): number {
  return (high & OFFSET_HIGH) * 2 ** 32 + (low - (low % SECTOR))
}
