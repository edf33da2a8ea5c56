import type { BlockFile } from '../file/protocol.ts'
import type { FormatInfo, FormatNode, MapEntry, SnapshotInfo } from '../node.ts'
import { COMPAT_LAZY_REFCOUNTS, INCOMPAT_CORRUPT, INCOMPAT_DIRTY } from './header.ts'
import type { Qcow2Header } from './header.ts'
import type { Metadata } from './metadata.ts'
import { Kind } from './tables.ts'
import type { Mapping } from './tables.ts'

/** What `qemu-img info` tells of an image. */
export function describe(header: Qcow2Header, snapshots: readonly SnapshotInfo[]): FormatInfo {
  const specific: Record<string, string | number | boolean> =
    header.version === 2
      ? { compat: '0.10', 'compression-type': 'zlib', 'refcount-bits': 16 }
      : {
          compat: '1.1',
          'compression-type': header.compression,
          'lazy-refcounts': (header.compatible & COMPAT_LAZY_REFCOUNTS) !== 0,
          'refcount-bits': 1 << header.refcountOrder,
          corrupt: (header.incompatible & INCOMPAT_CORRUPT) !== 0,
          'extended-l2': false,
        }
  return {
    clusterSize: 2 ** header.clusterBits,
    dirty: (header.incompatible & INCOMPAT_DIRTY) !== 0,
    specific,
    ...(header.backingFile === undefined ? {} : { backingFile: header.backingFile }),
    ...(header.backingFormat === undefined ? {} : { backingFormat: header.backingFormat }),
    ...(snapshots.length === 0 ? {} : { snapshots }),
  }
}

/**
 * Whether many clusters are in use that the host has no storage for, as after a preallocation of
 * the tables alone: then it is worth asking which of them are holes.
 */
export async function isSparse(file: BlockFile, { refcounts }: Metadata): Promise<boolean> {
  const cs = refcounts.clusterBytes
  const stored = Math.floor((await file.storedBytes()) / cs)
  const threshold = Math.max(Math.floor((stored * 10) / 9), stored + 2)
  const end = Math.ceil(file.sizeBytes / cs)
  let used = 0
  for (let cluster = 0; cluster < end && used < threshold; cluster++) {
    if ((refcounts.peek(cluster) ?? (await refcounts.get(cluster))) > 0) used++
  }
  return used >= threshold
}

/**
 * What a mapping of the image is to its user, who does not know L2 entries.
 * @param holes the file that is asked which of its parts are holes, if any
 */
export async function mapEntry(
  mapping: Mapping,
  offset: number,
  backing: FormatNode | undefined,
  holes: BlockFile | undefined,
): Promise<MapEntry> {
  const { kind } = mapping
  if (kind === Kind.Unallocated && backing !== undefined && offset < backing.sizeBytes) {
    const most = Math.min(mapping.length, backing.sizeBytes - offset)
    const below = await backing.map(offset, most)
    return { ...below, depth: below.depth + 1 }
  }
  const data = kind === Kind.Data || kind === Kind.Compressed
  let zero = !data
  let { length } = mapping
  if (kind === Kind.Data && holes !== undefined) {
    const found = await holes.allocation(mapping.host, length)
    zero = !found.data
    length = found.length
  }
  return {
    start: offset,
    length,
    depth: 0,
    present: kind !== Kind.Unallocated,
    zero,
    data,
    compressed: kind === Kind.Compressed,
    ...(kind === Kind.Data || kind === Kind.ZeroAllocated ? { offset: mapping.host } : {}),
  }
}
