import test from 'ava'
import { BlockError } from '../src/block/index.ts'
import type { BlockFile, FileCopy } from '../src/block/file/protocol.ts'
import type { FormatNode } from '../src/block/index.ts'
import { openQcow2 } from '../src/block/qcow2/open-qcow2.ts'
import { readHeader } from '../src/block/qcow2/read-header.ts'
import { emptyImage, openMemory, readAll } from './support/disks.ts'
import type { MemoryFile } from './support/memory-file.ts'

const CLUSTER = 512

/** A file that takes at most so many bytes of a copy, all of them ones. */
function copying(file: MemoryFile, most: () => number): BlockFile {
  const copyNow = (offset: number, { length }: FileCopy): number => {
    const bytes = Math.min(length, most())
    void file.writev(offset, [new Uint8Array(bytes).fill(1)])
    return bytes
  }
  return new Proxy(file, {
    get: (of, name) => {
      if (name === 'copyNow') return copyNow
      const value: unknown = Reflect.get(of, name, of)
      return typeof value === 'function' ? value.bind(of) : value
    },
  })
}

async function image(most: () => number, backing?: FormatNode) {
  const file = await emptyImage(64 * CLUSTER)
  const proxy = copying(file, most)
  const node = await openQcow2(proxy, await readHeader(proxy), backing, { unmap: true })
  const fill = (offset: number, length: number): Promise<number> =>
    node.fill(offset, { file: proxy, from: 0, length, blockBytes: 0, buffer: new Uint8Array(512) })
  return { node, fill, file }
}

test('clusters are filled as far as the file copies, and the others given back', async (t) => {
  let most = 10_000
  const { node, fill } = await image(() => most)
  t.is(await fill(0, 4 * CLUSTER), 4 * CLUSTER)
  most = CLUSTER + 100
  t.is(await fill(8 * CLUSTER, 8 * CLUSTER), most)
  most = 0
  t.is(await fill(20 * CLUSTER, 4 * CLUSTER), 0)
  const bytes = await readAll(node)
  const ones = (from: number, to: number): boolean =>
    bytes.subarray(from, to).every((byte) => byte === 1)
  t.true(ones(0, 4 * CLUSTER) && ones(8 * CLUSTER, 9 * CLUSTER + 100))
  t.is(bytes.filter((byte) => byte !== 0).length, 5 * CLUSTER + 100)
  t.like(await node.check(), { corruptions: 0, leaks: 0, allocatedClusters: 6 })
})

test('what has data or a backing file, or begins in a cluster, is left to ordinary writes', async (t) => {
  const { node, fill, file } = await image(() => 10_000)
  await node.writev(0, [new Uint8Array(CLUSTER).fill(2)])
  const { writtenBytes } = file
  t.is(await fill(0, 4 * CLUSTER), 0)
  t.is(await fill(5 * CLUSTER + 1, 4 * CLUSTER), 0)
  const onTop = await image(() => 10_000, await openMemory(await emptyImage(64 * CLUSTER)))
  t.is(await onTop.fill(0, 4 * CLUSTER), 0)
  // A cluster that someone has written to, and nobody has any more.
  await node.discard(0, CLUSTER)
  await node.flush()
  t.is(await fill(40 * CLUSTER, CLUSTER), 0)
  t.true((await readAll(node)).every((byte) => byte === 0))
  t.true(file.writtenBytes >= writtenBytes)
  t.like(await node.check(), { corruptions: 0, leaks: 0 })
})

test('a file that cannot be written to leaves nothing behind', async (t) => {
  const { node, fill } = await image(() => {
    throw new BlockError('E_BLOCK_IO', 'no room', { errno: 'ENOSPC' })
  })
  await t.throwsAsync(fill(0, 8 * CLUSTER), { code: 'E_BLOCK_IO', message: 'no room' })
  t.like(await node.check(), { corruptions: 0, leaks: 0, allocatedClusters: 0 })
})
