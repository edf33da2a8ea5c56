import type { BlockFile } from '../file/protocol.ts'
import type { SnapshotInfo } from '../node.ts'
import { getU64, setU64, viewOf } from './bytes.ts'
import { MAX_L1_BYTES, formatError } from './header.ts'
import type { Qcow2Header } from './header.ts'

/** An internal snapshot with the place of its L1 table. */
export interface Snapshot extends SnapshotInfo {
  readonly l1Offset: number
  readonly l1Entries: number
  /** Size of the disk then; undefined in old tables, which have no such number. */
  readonly diskBytes: number | undefined
  /** The entry as it is in the table. */
  readonly entry: Uint8Array
}

const FIXED = 40
const EXTRA = 24
const MAX_EXTRA = 1024
/** QEMU's limit for the whole table, in bytes for each snapshot. */
const MAX_TABLE = 64 << 20

/**
 * Reads the snapshot table.
 * @throws BlockError E_BLOCK_FORMAT for a table that leaves the file or its limits
 */
export async function readSnapshots(
  file: BlockFile,
  header: Qcow2Header,
): Promise<readonly Snapshot[]> {
  const found: Snapshot[] = []
  let at = header.snapshotsOffset
  for (let i = 0; i < header.snapshots; i++) {
    at = Math.ceil(at / 8) * 8
    const fixed = new Uint8Array(FIXED)
    await file.readv(at, [fixed])
    const view = viewOf(fixed)
    const idLength = view.getUint16(12)
    const nameLength = view.getUint16(14)
    const extraLength = view.getUint32(36)
    if (extraLength > MAX_EXTRA)
      throw formatError('Too much extra metadata in snapshot table entry')
    const rest = new Uint8Array(extraLength + idLength + nameLength)
    at += FIXED + rest.byteLength
    if (at > file.sizeBytes || at - header.snapshotsOffset > MAX_TABLE) {
      throw formatError(`Snapshot table is too large or outside the file (snapshot ${i})`)
    }
    await file.readv(at - rest.byteLength, [rest])
    found.push(parse(view, rest, extraLength, idLength))
  }
  for (const { l1Offset, l1Entries } of found) {
    if (l1Entries * 8 > MAX_L1_BYTES) throw formatError('Snapshot L1 table is too large', 'EFBIG')
    if (l1Offset % 2 ** header.clusterBits !== 0)
      throw formatError('Snapshot L1 table offset invalid')
  }
  return found
}

function parse(view: DataView, rest: Uint8Array, extra: number, idLength: number): Snapshot {
  const text = (from: number, to?: number): string =>
    Buffer.from(rest.subarray(from, to))
      .toString()
      .replaceAll(/[\x00-\x1f\x7f]/g, '?')
  const restView = viewOf(rest)
  const entry = new Uint8Array(FIXED + rest.byteLength)
  entry.set(new Uint8Array(view.buffer, view.byteOffset, FIXED))
  entry.set(rest, FIXED)
  const icount = extra >= 24 ? restView.getBigUint64(16) : 0xffffffffffffffffn
  return {
    l1Offset: getU64(view, 0),
    l1Entries: view.getUint32(8),
    id: text(extra, extra + idLength),
    name: text(extra + idLength),
    vmStateBytes: extra >= 8 ? getU64(restView, 0) : view.getUint32(32),
    date: { sec: view.getUint32(16), nsec: view.getUint32(20) },
    vmClockNsec: view.getBigUint64(24),
    diskBytes: extra >= 16 ? getU64(restView, 8) : undefined,
    entry,
    ...(icount === 0xffffffffffffffffn ? {} : { icount }),
  }
}

/** The entry with all that version 3 wants of one: version 2 has no size of the disk. */
export function completeEntry(snapshot: Snapshot, diskBytes: number): Uint8Array {
  const { entry } = snapshot
  if (snapshot.diskBytes !== undefined) return entry
  const fixed = viewOf(entry)
  const names = entry.subarray(FIXED + fixed.getUint32(36))
  const whole = new Uint8Array(FIXED + EXTRA + names.byteLength)
  whole.set(entry.subarray(0, FIXED))
  whole.set(names, FIXED + EXTRA)
  const view = viewOf(whole)
  view.setUint32(36, EXTRA)
  setU64(view, FIXED, snapshot.vmStateBytes)
  setU64(view, FIXED + 8, diskBytes)
  return whole
}

/** The table's entry for a snapshot without the state of a machine. */
export function encodeSnapshot(
  snapshot: Pick<Snapshot, 'id' | 'name' | 'date' | 'l1Offset' | 'l1Entries' | 'diskBytes'>,
): Uint8Array {
  const id = Buffer.from(snapshot.id)
  const name = Buffer.from(snapshot.name)
  const entry = new Uint8Array(FIXED + EXTRA + id.byteLength + name.byteLength)
  const view = viewOf(entry)
  setU64(view, 0, snapshot.l1Offset)
  view.setUint32(8, snapshot.l1Entries)
  view.setUint16(12, id.byteLength)
  view.setUint16(14, name.byteLength)
  view.setUint32(16, snapshot.date.sec)
  view.setUint32(20, snapshot.date.nsec)
  view.setUint32(36, EXTRA)
  setU64(view, FIXED + 8, snapshot.diskBytes ?? 0)
  entry.set(id, FIXED + EXTRA)
  entry.set(name, FIXED + EXTRA + id.byteLength)
  return entry
}
