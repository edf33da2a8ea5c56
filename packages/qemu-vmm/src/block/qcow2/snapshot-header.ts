import type { BlockFile } from '../file/protocol.ts'
import { BlockError } from '../errors.ts'
import { formatError } from './header.ts'
import type { Qcow2Header } from './header.ts'
import { readSnapshots } from './snapshots.ts'
import type { Snapshot } from './snapshots.ts'

/** The snapshot with an id, else that with a name. */
export function findSnapshot(
  snapshots: readonly Snapshot[],
  idOrName: string,
): Snapshot | undefined {
  return (
    snapshots.find(({ id }) => id === idOrName) ?? snapshots.find(({ name }) => name === idOrName)
  )
}

/**
 * A header as if the disk still were what a snapshot keeps, for reading only.
 * @throws BlockError E_BLOCK_OPTION when there is no such snapshot
 */
export async function snapshotHeader(
  file: BlockFile,
  header: Qcow2Header,
  idOrName: string,
): Promise<Qcow2Header> {
  const snapshot = findSnapshot(await readSnapshots(file, header), idOrName)
  if (snapshot === undefined) {
    throw new BlockError('E_BLOCK_OPTION', `Failed to load snapshot: Can't find snapshot`, {
      errno: 'ENOENT',
      fields: { snapshot: idOrName },
    })
  }
  const { l1Offset, l1Entries, diskBytes: sizeBytes = header.sizeBytes } = snapshot
  const needed = Math.ceil(sizeBytes / 2 ** (2 * header.clusterBits - 3))
  if (!Number.isSafeInteger(sizeBytes) || needed > l1Entries) {
    throw formatError(`Snapshot '${snapshot.name}' has a smaller L1 table than its disk needs`)
  }
  if (l1Offset + l1Entries * 8 > file.sizeBytes) {
    throw formatError('Snapshot L1 table is outside the file')
  }
  return { ...header, sizeBytes, l1Offset, l1Entries }
}
