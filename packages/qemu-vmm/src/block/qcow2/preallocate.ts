import type { BlockFile } from '../file/protocol.ts'
import { setU64, viewOf } from './bytes.ts'
import { formatError } from './header.ts'

/**
 * What a new image has already: nothing, the tables that name its clusters, storage for the
 * clusters, or clusters that were written.
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full'

/** The upper half of an entry whose cluster is used once. */
const COPIED = 0x80000000

/** Where everything of an image goes, in clusters of `cs` bytes that are counted already. */
export interface PreallocationPlan {
  readonly preallocation: Preallocation
  readonly l1Offset: number
  readonly l1Entries: number
  /** Of the L2 tables, which the clusters of the disk follow in their order. */
  readonly offset: number
  readonly dataClusters: number
  readonly cs: number
}

/** Writes the tables that name the clusters of a new image, and sees to the clusters. */
export async function preallocate(file: BlockFile, plan: PreallocationPlan): Promise<void> {
  const { preallocation, l1Offset, l1Entries, offset, dataClusters, cs } = plan
  const dataOffset = offset + l1Entries * cs
  const dataBytes = dataClusters * cs
  const l1 = new Uint8Array(l1Entries * 8)
  for (let table = 0; table < l1Entries; table++) {
    setEntry(viewOf(l1), table, offset + table * cs)
    const entries = new Uint8Array(cs)
    const first = (table * cs) / 8
    const count = Math.min(cs / 8, dataClusters - first)
    for (let i = 0; i < count; i++) setEntry(viewOf(entries), i, dataOffset + (first + i) * cs)
    await file.writev(offset + table * cs, [entries])
  }
  if (l1Entries > 0) await file.writev(l1Offset, [l1])
  if (dataBytes === 0) return
  if (preallocation === 'falloc' && !(await file.allocate(dataOffset, dataBytes))) {
    throw formatError('preallocation=falloc is not supported by this file system', 'ENOTSUP')
  }
  // A device holds what its last user left there, which the disk must not show.
  if (preallocation === 'full' || !file.zeroInit) {
    await file.writeZeroes(dataOffset, dataBytes, false)
  }
}

function setEntry(view: DataView, index: number, host: number): void {
  setU64(view, index * 8, host)
  view.setUint32(index * 8, (view.getUint32(index * 8) | COPIED) >>> 0)
}
