// Reads that are answered at once, from what the host has in memory.
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import test from 'ava'
import { ErrorPolicy, createImage, openImage } from '../src/block/index.ts'
import { cacheReader } from '../src/native/hostio.ts'
import { emptyImage, openMemory, readNow, temporary } from './support/disks.ts'

const { EAGAIN, EBADF, EINVAL } = constants.errno

test('the addon fills parts of buffers and refuses those that are none', (t) => {
  const path = temporary(t)
  const bytes = Uint8Array.from({ length: 8192 }, (_, i) => i % 251)
  writeFileSync(path('file'), bytes)
  const fd = openSync(path('file'), 'r')
  t.teardown(() => closeSync(fd))
  const buffers = [new Uint8Array(100), new Uint8Array(5000).subarray(8, 4104)]
  const read = (offset: number, parts: number[], count = parts.length / 3): number =>
    cacheReader().read(fd, offset, buffers, Uint32Array.from(parts), count)
  const first = read(5, [0, 90, 10, 1, 4000, 96, 0, 0, 1])
  if (first === -constants.errno.EOPNOTSUPP) return t.pass('the file system cannot tell')
  t.is(first, 107)
  t.deepEqual(buffers[0]!.subarray(90), bytes.subarray(5, 15))
  t.deepEqual(buffers[1]!.subarray(4000), bytes.subarray(15, 111))
  t.is(buffers[0]![0], bytes[111])
  t.is(read(8190, [0, 0, 100]), 2)
  t.is(read(0, []), 0)
  for (const part of [
    [2, 0, 1],
    [0, 100, 1],
    [0, 0, 101],
    [1, 0xffff_ffff, 0xffff_ffff],
    [0, 0xffff_ffff, 1],
  ]) {
    t.is(read(0, part), -EINVAL)
    t.is(read(0, [0, 0, 1, ...part]), -EINVAL)
  }
  t.is(read(0, [0, 0, 1], 2), -EINVAL)
  t.is(read(0, [0, 0, 1], 0xffff_ffff), -EINVAL)
  const many = Array.from({ length: 1025 }, () => [0, 0, 1]).flat()
  t.is(read(0, many, 1024), 1024)
  t.is(read(0, many), -EINVAL)
  t.is(cacheReader().read(-1, 0, buffers, Uint32Array.of(0, 0, 1), 1), -EBADF)
  t.true([1, -EAGAIN].includes(read(0, [0, 0, 1])))
  return undefined
})

test('a long read fills its parts in their order, up to the end of the file', (t) => {
  const path = temporary(t)
  const bytes = Uint8Array.from({ length: 1_500_000 }, (_, i) => (i % 251) ^ (i >> 12))
  writeFileSync(path('file'), bytes)
  const fd = openSync(path('file'), 'r')
  t.teardown(() => closeSync(fd))
  const buffers = [new Uint8Array(800_000), new Uint8Array(700_000)]
  const parts = Uint32Array.of(1, 100, 300_000, 0, 0, 800_000, 1, 400_000, 300_000)
  const read = cacheReader().read(fd, 77, buffers, parts, 3)
  if (read === -constants.errno.EOPNOTSUPP) return t.pass('the file system cannot tell')
  t.is(read, 1_400_000)
  const found = [buffers[1]!.subarray(100, 300_100), buffers[0]!, buffers[1]!.subarray(400_000)]
  t.is(Buffer.compare(Buffer.concat(found), bytes.subarray(77, 1_400_077)), 0)
  t.is(cacheReader().read(fd, 900_000, buffers, parts, 3), 600_000)
  return undefined
})

test('a raw disk answers at once what is cached, through all layers', async (t) => {
  const path = temporary(t)
  const bytes = Uint8Array.from({ length: 65_636 }, (_, i) => i >> 8)
  writeFileSync(path('disk'), bytes)
  const open = async (cache: string) => {
    const node = await openImage({ filename: path('disk'), format: 'raw', cache })
    return new ErrorPolicy(node, { onStop() {} })
  }
  for (const cache of ['writeback', 'writethrough', 'unsafe']) {
    const node = await open(cache)
    const found = readNow(node, 1024, 4096)
    if (found !== undefined) t.deepEqual(found, Buffer.from(bytes.subarray(1024, 5120)))
    t.is(readNow(node, 65_024, 1024), undefined, 'the end of the file needs zeros')
    await node.close()
  }
  const direct = await open('none')
  t.is(readNow(direct, 0, 4096), undefined)
  await direct.close()
})

test('a qcow2 image answers at once what lies together under a table in memory', async (t) => {
  const file = await emptyImage(1 << 20, { clusterSize: 4096 })
  const first = await openMemory(file)
  await first.writev(8192, [new Uint8Array(4096).fill(2)])
  await first.writev(0, [new Uint8Array(8192).fill(1)])
  await first.close()
  const node = await openMemory(file)
  t.is(readNow(node, 0, 8192), undefined, 'the table was not read')
  await node.readv(0, [new Uint8Array(512)])
  t.is(
    readNow(node, 512, 7680)?.every((byte) => byte === 1),
    true,
  )
  t.is(
    readNow(node, 8192, 4096)?.every((byte) => byte === 2),
    true,
  )
  t.is(readNow(node, 0, 12_288), undefined, 'in two places')
  t.is(readNow(node, 65_536, 4096), undefined, 'nowhere')
  const clearing = node.writeZeroes(0, 4096, false)
  t.is(readNow(node, 0, 4096), undefined, 'being changed')
  t.truthy(readNow(node, 4096, 4096))
  await clearing
  await node.close()
})

test('an impossible table entry is left to the read that reports it', async (t) => {
  const path = temporary(t)
  await createImage({ filename: path('disk'), format: 'qcow2', sizeBytes: 1 << 20 })
  const file = await emptyImage(1 << 20, { clusterSize: 4096 })
  const node = await openMemory(file)
  await node.writev(0, [new Uint8Array(4096).fill(1)])
  file.sizeBytes = 4096
  t.is(readNow(node, 0, 4096), undefined)
  await t.throwsAsync(node.readv(0, [new Uint8Array(4096)]), { code: 'E_BLOCK_CORRUPT' })
})
