import type { FormatInfo, FormatNode, MapEntry, SnapshotInfo } from '../node.ts'
import { COMPAT_LAZY_REFCOUNTS, INCOMPAT_CORRUPT, INCOMPAT_DIRTY } from './header.ts'
import type { Qcow2Header } from './header.ts'
import { Kind } from './tables.ts'
import type { Mapping } from './tables.ts'

/** What `qemu-img info` tells of an image. */
export function describe(header: Qcow2Header, snapshots: readonly SnapshotInfo[]): FormatInfo {
  const specific: Record<string, string | number | boolean> =
    header.version === 2
      ? { compat: '0.10', 'compression-type': 'zlib', 'refcount-bits': 16 }
      : {
          compat: '1.1',
          'compression-type': 'zlib',
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

/** What a mapping of the image is to its user, who does not know L2 entries. */
export async function mapEntry(
  mapping: Mapping,
  offset: number,
  backing: FormatNode | undefined,
): Promise<MapEntry> {
  const { kind } = mapping
  if (kind === Kind.Unallocated && backing !== undefined && offset < backing.sizeBytes) {
    const most = Math.min(mapping.length, backing.sizeBytes - offset)
    const below = await backing.map(offset, most)
    return { ...below, depth: below.depth + 1 }
  }
  const data = kind === Kind.Data || kind === Kind.Compressed
  return {
    start: offset,
    length: mapping.length,
    depth: 0,
    present: kind !== Kind.Unallocated,
    zero: !data,
    data,
    compressed: kind === Kind.Compressed,
    ...(kind === Kind.Data || kind === Kind.ZeroAllocated ? { offset: mapping.host } : {}),
  }
}
