import type { BlockFile } from '../file/protocol.ts'
import { BlockError } from '../errors.ts'
import { setU64, viewOf } from './bytes.ts'
import type { Qcow2Header } from './header.ts'
import { loadMetadata } from './load-parts.ts'
import type { Metadata } from './metadata.ts'
import type { Qcow2Options } from './parts.ts'
import { readHeader } from './read-header.ts'

/**
 * An image whose structure is about to change: size, snapshots, tables. Nothing else uses it
 * meanwhile, its file holds all that was written, and whoever has it open loads it again afterwards.
 */
export interface Structure {
  readonly file: BlockFile
  readonly header: Qcow2Header
  readonly metadata: Metadata
  readonly clusterBytes: number
  readonly options: Qcow2Options
}

export async function loadStructure(file: BlockFile, options: Qcow2Options): Promise<Structure> {
  const header = await readHeader(file)
  const metadata = await loadMetadata(file, header, options)
  return { file, header, metadata, clusterBytes: 2 ** header.clusterBits, options }
}

/** Writes all tables, and what became free by it. */
export async function settleTables({ metadata }: Structure): Promise<void> {
  await metadata.flush()
  // The first time has found what to free, the second one writes that.
  if (metadata.refcounts.cache.dirty) await metadata.flush()
}

/** Where the active L1 table is and how large the disk: the one write that switches to another. */
export async function writeActive(
  { file }: Structure,
  active: { sizeBytes: number; l1Entries: number; l1Offset: number },
): Promise<void> {
  // Size, encryption (none), L1 entries and L1 offset are neighbours, and all in one sector.
  const fields = new Uint8Array(24)
  const view = viewOf(fields)
  setU64(view, 0, active.sizeBytes)
  view.setUint32(12, active.l1Entries)
  setU64(view, 16, active.l1Offset)
  await file.writev(24, [fields])
  await file.flush()
}

/** Puts bytes into new clusters in a row, and returns their offset; 0 for no bytes. */
export async function writeTable(image: Structure, bytes: Uint8Array): Promise<number> {
  if (bytes.byteLength === 0) return 0
  const { clusterBytes: cs, file, metadata } = image
  const count = Math.ceil(bytes.byteLength / cs)
  const row = await metadata.refcounts.allocateRow(count)
  const whole = new Uint8Array(count * cs)
  whole.set(bytes)
  await file.writev(row.cluster * cs, [whole])
  return row.cluster * cs
}

/** The clusters of a table are no longer used once the tables are written. */
export function freeTable(image: Structure, offset: number, length: number): void {
  const { clusterBytes: cs, metadata } = image
  if (length === 0) return
  const end = Math.ceil((offset + length) / cs)
  for (let cluster = offset / cs; cluster < end; cluster++) metadata.freed.push(cluster)
}

/** Cuts off what is behind the last cluster in use. */
export async function truncateTail(image: Structure): Promise<void> {
  const { clusterBytes: cs, file, metadata } = image
  await metadata.refcounts.dropEmptyBlocks()
  await settleTables(image)
  const end = Math.ceil(file.sizeBytes / cs)
  let used = end
  while (used > 1) {
    const count = metadata.refcounts.peek(used - 1) ?? (await metadata.refcounts.get(used - 1))
    if (count > 0) break
    used--
  }
  if (used < end) await file.truncate(used * cs)
}

export function unsupported(message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno: 'ENOTSUP' })
}
