// Writes that are answered at once, as the host's memory takes them.
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import test from 'ava'
import { Accounting } from '../src/block/accounting.ts'
import { ErrorPolicy, openImage, snapshotCreate } from '../src/block/index.ts'
import { WritePace } from '../src/block/file/write-pace.ts'
import { hostio } from '../src/native/hostio.ts'
import { emptyImage, openMemory, readAll, temporary, writeNow } from './support/disks.ts'

const { EBADF, EINVAL } = constants.errno

const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251)

test('the addon writes parts of buffers and refuses those that are none', (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), new Uint8Array(64))
  const fd = openSync(path('file'), 'r+')
  t.teardown(() => closeSync(fd))
  const buffers = [pattern(100, 1), pattern(5000, 2).subarray(8, 4104)]
  const write = (offset: number, parts: number[], count = parts.length / 3): number =>
    hostio().writeHere(fd, offset, buffers, Uint32Array.from(parts), count)
  t.is(write(5, [0, 90, 10, 1, 4000, 96]) >> 1, 106)
  const bytes = readFileSync(path('file'))
  t.deepEqual(new Uint8Array(bytes.subarray(5, 15)), buffers[0]!.slice(90))
  t.deepEqual(new Uint8Array(bytes.subarray(15, 111)), buffers[1]!.slice(4000))
  t.is(bytes.length, 111)
  for (const part of [
    [2, 0, 1],
    [0, 100, 1],
    [1, 0xffff_ffff, 0xffff_ffff],
  ]) {
    t.is(write(0, [0, 0, 1, ...part]), -EINVAL)
  }
  t.is(write(0, [0, 0, 1], 2), -EINVAL)
  t.is(hostio().writeHere(-1, 0, buffers, Uint32Array.of(0, 0, 1), 1), -EBADF)
  t.deepEqual(readFileSync(path('file')), bytes)
})

test('a raw disk takes whole pages at once, through all layers that may', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), new Uint8Array(65_536))
  const open = async (options: object): Promise<Accounting & { close(): Promise<void> }> => {
    const node = await openImage({ filename: path('disk'), format: 'raw', ...options })
    const policy = new ErrorPolicy(node, { onStop() {} })
    const counted = new Accounting(policy, () => 0)
    return Object.assign(counted, { close: () => policy.close() })
  }
  const node = await open({})
  t.true(writeNow(node, 4096, pattern(8192, 3)))
  t.false(writeNow(node, 512, pattern(4096, 4)), 'part of a page')
  t.false(writeNow(node, 4096, pattern(4608, 4)), 'part of a page')
  t.false(writeNow(node, 61_440, pattern(8192, 4)), 'behind the end')
  t.like(node.stats(), { write: { operations: 1, bytes: 8192 }, highestWrite: 12_288 })
  await node.close()
  const expected = new Uint8Array(65_536)
  expected.set(pattern(8192, 3), 4096)
  t.deepEqual(new Uint8Array(readFileSync(path('disk'))), expected)
  for (const options of [{ cache: 'none' }, { cache: 'writethrough' }, { readonly: true }]) {
    const other = await open(options)
    t.false(writeNow(other, 4096, pattern(4096, 4)), JSON.stringify(options))
    await other.close()
  }
  // The first sector of a disk whose format was guessed decides what it is taken for.
  const guessed = await open({ format: undefined })
  t.false(writeNow(guessed, 0, pattern(4096, 4)))
  t.true(writeNow(guessed, 4096, pattern(4096, 4)))
  await guessed.close()
})

test('a qcow2 image takes at once what is in one place and nobody else has', async (t) => {
  const file = await emptyImage(1 << 20, { clusterSize: 4096 })
  const node = await openMemory(file)
  t.false(writeNow(node, 0, pattern(4096, 1)), 'it has no place yet')
  await node.writev(0, [pattern(8192, 1)])
  t.true(writeNow(node, 0, pattern(8192, 2)))
  t.true(writeNow(node, 4608, pattern(1024, 3)))
  t.false(writeNow(node, 4096, pattern(8192, 4)), 'one half has no place')
  const clearing = node.writeZeroes(0, 4096, false)
  t.false(writeNow(node, 0, pattern(4096, 4)), 'being changed')
  await clearing
  const expected = new Uint8Array(1 << 20)
  expected.set(pattern(8192, 2))
  expected.set(pattern(1024, 3), 4608)
  expected.fill(0, 0, 4096)
  t.deepEqual(await readAll(node), expected)
  // What a snapshot has, too, is not written to.
  await snapshotCreate(node, { name: 's', date: { sec: 0, nsec: 0 } })
  t.false(writeNow(node, 4096, pattern(4096, 5)))
  await node.writev(4096, [pattern(4096, 5)])
  t.true(writeNow(node, 4096, pattern(4096, 6)))
  expected.set(pattern(4096, 6), 4096)
  t.deepEqual(await readAll(node), expected)
  await node.close()
  t.like(await (await openMemory(file)).check(), { corruptions: 0, leaks: 0 })
})

test('an impossible table entry is left to the write that reports it', async (t) => {
  const file = await emptyImage(1 << 20, { clusterSize: 4096 })
  const node = await openMemory(file)
  await node.writev(0, [pattern(4096, 1)])
  file.sizeBytes = 4096
  t.false(writeNow(node, 0, pattern(4096, 2)))
  await t.throwsAsync(node.writev(0, [pattern(4096, 2)]), { code: 'E_BLOCK_CORRUPT' })
})

test('a slow write keeps others from being made at once, the longer the more there are', (t) => {
  let now = 0
  const pace = new WritePace(() => now)
  const write = (ms: number, slept = 1): number | undefined =>
    pace.run(() => {
      now += ms
      return 14 + slept
    })
  t.is(write(0.5), 7)
  t.is(write(50, 0), 7, 'others had the processor')
  t.is(
    pace.run(() => -5),
    undefined,
  )
  t.is(write(5), 7)
  const rests: number[] = []
  for (let i = 0; i < 12; i++) {
    let rest = 0
    while (write(5) === undefined) {
      now += 50
      rest += 50
    }
    rests.push(rest)
  }
  t.deepEqual(rests.slice(0, 4), [100, 200, 400, 800])
  t.is(rests.at(-1), 30_000)
  now += 30_000
  for (let i = 0; i < 1000; i++) t.is(write(0.01), 7)
  write(5)
  now += 100
  t.is(write(0.01), 7, 'what was slow before is forgotten')
})
