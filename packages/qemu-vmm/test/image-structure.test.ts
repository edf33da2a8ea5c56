import test from 'ava'
import { BlockError, changeImage } from '../src/block/index.ts'
import { checkImage } from '../src/block/qcow2/check.ts'
import { readHeader } from '../src/block/qcow2/read-header.ts'
import { applySnapshot, createSnapshot, deleteSnapshot } from '../src/block/qcow2/snapshot-edit.ts'
import type { Qcow2Node } from '../src/block/qcow2/image.ts'
import { emptyImage, openMemory } from './support/disks.ts'
import { MemoryFile } from './support/memory-file.ts'
import { random } from './support/random.ts'

const DISK = 1 << 18
const date = { sec: 1, nsec: 2 }

async function image(refcountBits: number = 16): Promise<Uint8Array> {
  const file = await emptyImage(DISK, { clusterSize: 512, refcountBits })
  const node = await openMemory(file)
  await node.writev(1000, [new Uint8Array(20_000).fill(1)])
  await node.writeCompressed(51_200, new Uint8Array(512).fill(2))
  await snapshot(node, 'first')
  await node.writev(5000, [new Uint8Array(30_000).fill(3)])
  await node.writeZeroes(9216, 3072, true)
  await snapshot(node, 'second')
  await node.writev(20_000, [new Uint8Array(60_000).fill(4)])
  await node.close()
  return file.contents
}

function snapshot(node: Qcow2Node, name: string): Promise<void> {
  return node.restructure((structure) => createSnapshot(structure, node.snapshots, { name, date }))
}

async function contents(node: Qcow2Node): Promise<string> {
  const bytes = new Uint8Array(node.sizeBytes)
  await node.readv(0, [bytes])
  return Buffer.from(bytes).toString('latin1')
}

const changes: Readonly<Record<string, (node: Qcow2Node) => Promise<void>>> = {
  'a new snapshot': (node) => snapshot(node, 'third'),
  'a snapshot applied': (node) =>
    node.restructure((structure) => applySnapshot(structure, node.snapshots[0]!)),
  'a snapshot deleted': (node) =>
    node.restructure((structure) => deleteSnapshot(structure, node.snapshots, node.snapshots[1]!)),
  'a larger disk': (node) => node.resize(DISK * 70),
  'a smaller disk': (node) => node.resize(DISK / 8),
}

for (const [name, change] of Object.entries(changes)) {
  test(`${name} survives a crash at any write`, async (t) => {
    const original = await image()
    const before = await contents(await openMemory(new MemoryFile(original, true)))
    const whole = new MemoryFile(original)
    const node = await openMemory(whole)
    let writes = 0
    whole.fail = () => void writes++
    await change(node)
    const after = await contents(node)
    await node.close()
    t.is((await checkImage(whole, await readHeader(whole), {})).leaks, 0)
    const below = random(1)
    for (let stop = 0; stop <= writes; stop++) {
      const file = new MemoryFile(original)
      const cut = await openMemory(file)
      let left = stop
      file.fail = () => (left-- > 0 ? undefined : 'EIO')
      await change(cut).catch((error: unknown) => {
        if (!(error instanceof BlockError)) throw error
      })
      const survivor = file.crash(() => below(2) === 0)
      // Flags may be wrong, counts may be too high; nothing else.
      const lines: string[] = []
      const found = await checkImage(survivor, await readHeader(survivor), {
        report: (line) => void lines.push(line),
      })
      t.is(found.checkErrors, 0)
      const wrong = lines.filter((line) => line.startsWith('ERROR') && !line.includes('COPIED'))
      t.deepEqual(wrong, [], `after ${stop} writes`)
      const reopened = await openMemory(survivor)
      const now = await contents(reopened)
      const shrinking = after.length < before.length && now.length === before.length
      t.true(
        now === before || now === after || (shrinking && now.startsWith(after)),
        `contents after ${stop} writes`,
      )
      await reopened.close()
      const repaired = await checkImage(survivor, await readHeader(survivor), { repair: 'all' })
      t.is(repaired.corruptions + repaired.leaks, 0)
      const again = await checkImage(survivor, await readHeader(survivor), {})
      t.is(again.corruptions + again.leaks, 0)
    }
  })
}

test('a snapshot that the refcounts have no room for changes nothing', async (t) => {
  const file = new MemoryFile(await image(2))
  const node = await openMemory(file)
  const error = await t.throwsAsync(snapshot(node, 'third'), { code: 'E_BLOCK_OPTION' })
  t.regex(error!.message, /refcount_bits=2/)
  t.is(node.snapshots.length, 2)
  await node.writev(0, [new Uint8Array(4096).fill(8)])
  const result = await node.check()
  t.deepEqual([result.corruptions, result.leaks], [0, 0])
  await node.close()
})

test('requests wait while the structure changes', async (t) => {
  const node = await openMemory(new MemoryFile(await image()))
  const changing = node.resize(DISK * 2)
  const writing = node.writev(7000, [new Uint8Array(512).fill(9)])
  const reading = contents(node)
  await Promise.all([changing, writing, reading])
  const bytes = new Uint8Array(512)
  await node.readv(7000, [bytes])
  t.true(bytes.every((byte) => byte === 9))
  t.is(node.sizeBytes, DISK * 2)
  await node.close()
})

test('an old snapshot gets what the newer version wants of one', async (t) => {
  const file = await emptyImage(DISK, { clusterSize: 512, version: 2 })
  const old = await openMemory(file)
  await old.writev(1000, [new Uint8Array(5000).fill(1)])
  await snapshot(old, 'aged')
  await old.close()
  // An entry without extra data, as the first programs wrote them.
  const bytes = file.contents
  const at = Number(new DataView(bytes.buffer).getBigUint64(64))
  bytes.set(bytes.slice(at + 64, at + 80), at + 40)
  new DataView(bytes.buffer).setUint32(at + 36, 0)
  const again = new MemoryFile(bytes)
  const node = await openMemory(again)
  t.deepEqual([node.snapshots[0]!.name, node.snapshots[0]!.diskBytes], ['aged', undefined])
  await changeImage(node, { version: 3 })
  t.deepEqual([node.snapshots[0]!.name, node.snapshots[0]!.diskBytes], ['aged', DISK])
  await node.resize(DISK * 2)
  await node.restructure((structure) => applySnapshot(structure, node.snapshots[0]!))
  t.is(node.sizeBytes, DISK)
  const result = await node.check()
  t.deepEqual([result.corruptions, result.leaks], [0, 0])
  await node.close()
})
