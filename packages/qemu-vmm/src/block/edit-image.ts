import { BlockError } from './errors.ts'
import type { FormatNode } from './node.ts'
import { Qcow2Node } from './qcow2/image.ts'
import { changeHeader } from './qcow2/rewrite-header.ts'
import type { HeaderChange } from './qcow2/rewrite-header.ts'
import {
  applySnapshot,
  completeSnapshots,
  createSnapshot,
  deleteSnapshot,
} from './qcow2/snapshot-edit.ts'
import type { NewSnapshot } from './qcow2/snapshot-edit.ts'
import { findSnapshot } from './qcow2/snapshot-header.ts'
import { loadStructure } from './qcow2/structure.ts'
import { Writethrough } from './writethrough.ts'

export type { HeaderChange, NewSnapshot }

/**
 * Keeps what an image holds now as an internal snapshot.
 * @throws BlockError E_BLOCK_OPTION with errno ENOTSUP for formats that have none
 */
export async function snapshotCreate(node: FormatNode, snapshot: NewSnapshot): Promise<void> {
  const image = qcow2(node, 'Operation not supported')
  await image.restructure((structure) => createSnapshot(structure, image.snapshots, snapshot))
}

/** Brings back what an image held when the snapshot with this id, or else this name, was made. */
export async function snapshotApply(node: FormatNode, idOrName: string): Promise<void> {
  const image = qcow2(node, 'Block driver does not support snapshots')
  const snapshot = findSnapshot(image.snapshots, idOrName)
  if (snapshot === undefined) throw noSnapshot('Failed to load snapshot: No such file or directory')
  if (snapshot.diskBytes !== undefined && snapshot.diskBytes !== image.sizeBytes) {
    image.mustBeResizable()
  }
  await image.restructure((structure) => applySnapshot(structure, snapshot))
}

/** Deletes the first snapshot with this name. */
export async function snapshotDelete(node: FormatNode, name: string): Promise<void> {
  const image = node.format === 'qcow2' ? qcow2(node, '') : undefined
  const snapshot = image?.snapshots.find((one) => one.name === name)
  if (image === undefined || snapshot === undefined) throw noSnapshot('snapshot not found')
  await image.restructure((structure) => deleteSnapshot(structure, image.snapshots, snapshot))
}

/** Changes what an image's header says of its backing file and of its features. */
export async function changeImage(node: FormatNode, change: HeaderChange): Promise<void> {
  const image = qcow2(node, 'Operation not supported')
  await image.restructure(async (structure) => {
    if (change.version === 3) await completeSnapshots(structure, image.snapshots)
    // The table may have moved.
    await changeHeader(await loadStructure(structure.file, structure.options), change)
  })
}

function qcow2(node: FormatNode, otherwise: string): Qcow2Node {
  const inner = node instanceof Writethrough ? node.inner : node
  if (inner instanceof Qcow2Node) return inner
  throw new BlockError('E_BLOCK_OPTION', otherwise, { errno: 'ENOTSUP' })
}

function noSnapshot(message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno: 'ENOENT' })
}
