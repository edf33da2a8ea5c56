import { setU64, viewOf } from './bytes.ts'
import { MAX_L1_BYTES, MAX_SNAPSHOTS, formatError } from './header.ts'
import { addReferences, refreshCopied } from './share.ts'
import { completeEntry, encodeSnapshot } from './snapshots.ts'
import type { Snapshot } from './snapshots.ts'
import { freeTable, loadStructure, settleTables, writeActive, writeTable } from './structure.ts'
import type { Structure } from './structure.ts'

const COPIED = 0x80000000

export interface NewSnapshot {
  readonly name: string
  readonly date: { readonly sec: number; readonly nsec: number }
}

/** Keeps what the disk holds now. Uses are counted before anything names them: a crash leaks at worst. */
export async function createSnapshot(
  image: Structure,
  present: readonly Snapshot[],
  { name, date }: NewSnapshot,
): Promise<void> {
  if (present.length >= MAX_SNAPSHOTS) throw formatError('Too many snapshots', 'EFBIG')
  const id = `${1 + present.reduce((most, one) => Math.max(most, Number.parseInt(one.id) || 0), 0)}`
  if (Buffer.byteLength(name) > 0xffff) throw formatError('Snapshot name too long')
  const { metadata, header } = image
  const l1 = withoutCopied(metadata.tables.l1, metadata.tables.l1Entries)
  const l1Offset = await writeTable(image, l1)
  await addReferences(image, viewOf(l1), 1)
  await settleTables(image)
  await refreshCopied(image)
  await settleTables(image)
  const place = { l1Offset, l1Entries: metadata.tables.l1Entries, diskBytes: header.sizeBytes }
  const entry = encodeSnapshot({ id, name, date, ...place })
  await writeSnapshotTable(image, present, [...present.map((one) => one.entry), entry])
}

/** Makes the disk what it was, its size included. What it was until now is gone. */
export async function applySnapshot(image: Structure, snapshot: Snapshot): Promise<void> {
  const { file, header, clusterBytes: cs, metadata } = image
  const sizeBytes = snapshot.diskBytes ?? header.sizeBytes
  const needed = Math.ceil(sizeBytes / (cs * (cs / 8)))
  const l1Entries = Math.max(needed, snapshot.l1Entries)
  if (!Number.isSafeInteger(sizeBytes) || l1Entries * 8 > MAX_L1_BYTES) {
    throw formatError(`Snapshot '${snapshot.name}' has an impossible disk size`, 'EFBIG')
  }
  const l1 = withoutCopied(await readL1(image, snapshot), l1Entries)
  const l1Offset = await writeTable(image, l1)
  await addReferences(image, viewOf(l1), 1)
  await settleTables(image)
  await writeActive(image, { sizeBytes, l1Entries, l1Offset })
  const now = await loadStructure(file, image.options)
  await addReferences(now, metadata.tables.l1, -1)
  freeTable(now, header.l1Offset, header.l1Entries * 8)
  await settleTables(now)
  await refreshCopied(now)
  await settleTables(now)
}

/** Forgets a snapshot, and frees what nothing else uses. */
export async function deleteSnapshot(
  image: Structure,
  present: readonly Snapshot[],
  snapshot: Snapshot,
): Promise<void> {
  const l1 = await readL1(image, snapshot)
  const rest = present.filter((one) => one !== snapshot)
  await writeSnapshotTable(
    image,
    present,
    rest.map((one) => one.entry),
  )
  await addReferences(image, l1, -1)
  freeTable(image, snapshot.l1Offset, l1.byteLength)
  await settleTables(image)
  await refreshCopied(image)
  await settleTables(image)
}

/** Before an image becomes one of version 3: all entries say how large the disk was, which had one size then. */
export async function completeSnapshots(
  image: Structure,
  present: readonly Snapshot[],
): Promise<void> {
  if (present.every(({ diskBytes }) => diskBytes !== undefined)) return
  const entries = present.map((one) => completeEntry(one, image.header.sizeBytes))
  await writeSnapshotTable(image, present, entries)
}

async function readL1({ file }: Structure, { l1Offset, l1Entries }: Snapshot): Promise<DataView> {
  const bytes = new Uint8Array(l1Entries * 8)
  if (l1Offset + bytes.byteLength > file.sizeBytes) {
    throw formatError('Snapshot L1 table is outside the file')
  }
  await file.readv(l1Offset, [bytes])
  return viewOf(bytes)
}

/** An L1 table's entries as those of one that shares its L2 tables. */
function withoutCopied(l1: DataView, entries: number): Uint8Array {
  const bytes = new Uint8Array(entries * 8)
  bytes.set(new Uint8Array(l1.buffer, l1.byteOffset, Math.min(l1.byteLength, bytes.byteLength)))
  const view = viewOf(bytes)
  for (let at = 0; at < bytes.byteLength; at += 8) {
    view.setUint32(at, (view.getUint32(at) & ~COPIED) >>> 0)
  }
  return bytes
}

/** Puts another table of snapshots in the place of the present one. */
async function writeSnapshotTable(
  image: Structure,
  present: readonly Snapshot[],
  entries: readonly Uint8Array[],
): Promise<void> {
  const bytes = new Uint8Array(entries.reduce((sum, entry) => sum + aligned(entry), 0))
  let at = 0
  for (const entry of entries) {
    bytes.set(entry, at)
    at += aligned(entry)
  }
  const offset = await writeTable(image, bytes)
  await settleTables(image)
  // Count and offset are neighbours.
  const fields = new Uint8Array(12)
  viewOf(fields).setUint32(0, entries.length)
  setU64(viewOf(fields), 4, offset)
  await image.file.writev(60, [fields])
  await image.file.flush()
  const old = present.reduce((sum, one) => sum + aligned(one.entry), 0)
  freeTable(image, image.header.snapshotsOffset, old)
  await settleTables(image)
}

const aligned = (entry: Uint8Array): number => Math.ceil(entry.byteLength / 8) * 8
