import type { BlockFile } from '../file/protocol.ts'
import type { FormatNode } from '../node.ts'
import { CompressedClusters } from './compressed.ts'
import type { Qcow2Header } from './header.ts'
import { Metadata } from './metadata.ts'
import type { Qcow2Options, Qcow2Parts } from './parts.ts'
import { readSnapshots } from './snapshots.ts'

/** Brings into memory what a node works with. */
export async function loadParts(
  file: BlockFile,
  header: Qcow2Header,
  backing: FormatNode | undefined,
  options: Qcow2Options,
): Promise<Qcow2Parts> {
  const snapshots = await readSnapshots(file, header)
  const compressed = new CompressedClusters(file, 2 ** header.clusterBits, header.compression)
  const metadata = await loadMetadata(file, header, options)
  return { file, header, metadata, compressed, snapshots, backing }
}

/** Clusters that nobody uses any more are holes in the file if the options say so. */
export function loadMetadata(
  file: BlockFile,
  header: Qcow2Header,
  options: Qcow2Options,
): Promise<Metadata> {
  return Metadata.load(file, header, (offset, length) =>
    options.unmap ? file.punchHole(offset, length) : Promise.resolve(),
  )
}
