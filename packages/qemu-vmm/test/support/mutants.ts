import { createSnapshot } from '../../src/block/qcow2/snapshot-edit.ts'
import type { Qcow2CreateOptions } from '../../src/block/qcow2/create-qcow2.ts'
import { emptyImage, openMemory } from './disks.ts'

/** Numbers that fields of tables are sensitive to. */
const INTERESTING = [0n, 1n, 2n, 40n, 0x1ffn, 0x200n, 0xffffffffn, 0x7fffffffffffffffn]
for (const bit of [16n, 31n, 32n, 40n, 53n, 56n, 62n, 63n]) INTERESTING.push(1n << bit)

export const DISK_BYTES = 1 << 16

const LAYOUTS: readonly Partial<Qcow2CreateOptions>[] = [
  { clusterSize: 512 },
  { clusterSize: 512, version: 2 },
  { clusterSize: 512, refcountBits: 1 },
  { clusterSize: 512, refcountBits: 64, backingFile: 'below', backingFormat: 'raw' },
  { clusterSize: 4096, compression: 'zstd' },
  { clusterSize: 4096, refcountBits: 4 },
]

/** Small images with all that a table can name: data, zeros, compressed clusters, snapshots. */
export async function originals(): Promise<Uint8Array[]> {
  const images: Uint8Array[] = []
  for (const layout of LAYOUTS) {
    const file = await emptyImage(DISK_BYTES, layout)
    const node = await openMemory(file)
    const cs = layout.clusterSize!
    await node.writev(0, [new Uint8Array(6000).fill(7)])
    if (layout.refcountBits !== 1) {
      for (const at of [5, 6]) await node.writeCompressed(at * 4096, new Uint8Array(cs).fill(at))
      const date = { sec: 1, nsec: 2 }
      await node.restructure((image) =>
        createSnapshot(image, node.snapshots, { name: 'kept', date }),
      )
    }
    await node.writev(3000, [new Uint8Array(9000).fill(9)])
    await node.writeZeroes(40_960, 8192, true)
    await node.close()
    images.push(file.contents)
  }
  return images
}

/** A copy with one to three places changed, or cut off. */
export function mutated(image: Uint8Array, below: (limit: number) => number): Uint8Array {
  const bytes = below(20) === 0 ? image.slice(0, below(image.length)) : image.slice()
  if (bytes.length < 8) return bytes
  const view = new DataView(bytes.buffer)
  for (let n = 1 + below(3); n > 0; n--) {
    // Most of what matters is in the header and at the beginning of a cluster.
    const cluster = below(3) === 0 ? 0 : below(Math.ceil(bytes.length / 512)) * 512
    const within = below(3) === 0 ? below(512) : below(16) * 8
    const at = Math.min(cluster + within, bytes.length - 8)
    const kind = below(4)
    if (kind === 0) view.setBigUint64(at, INTERESTING[below(INTERESTING.length)]!)
    else if (kind === 1)
      view.setUint32(at, Number(INTERESTING[below(INTERESTING.length)]! & 0xffffffffn))
    // Another place of the file, where it is something else.
    else if (kind === 2)
      view.setBigUint64(at, BigInt(below(bytes.length / 512 + 2) * 512) | flags(below))
    else bytes[at + below(8)] = below(256)
  }
  return bytes
}

const flags = (below: (limit: number) => number): bigint =>
  (BigInt(below(4)) << 62n) | BigInt(below(2))
