// Files through io_uring.
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import test from 'ava'
import { cacheMode } from '../src/block/file/cache-mode.ts'
import { openIo } from '../src/block/file/aio.ts'
import { ThreadIo } from '../src/block/file/file-io.ts'
import { PosixFile } from '../src/block/file/posix-file.ts'
import { RingIo } from '../src/block/file/ring-io.ts'
import { Ring } from '../src/block/file/ring.ts'
import { checkFile, createImage, openImage } from '../src/block/index.ts'
import { ringRefusal } from '../src/native/ring.ts'
import { peer, readAll, temporary, tool } from './support/disks.ts'
import { random } from './support/random.ts'

const refusal = ringRefusal()
/** Where the host forbids it there is nothing to be tested. */
const ringTest = refusal === undefined ? test : test.skip
const { EBADF, EINVAL, ENOSPC } = constants.errno

function openFile(filename: string, cache = 'writeback', readOnly = false): PosixFile {
  const lock = { used: 0, unshared: 0 }
  const mode = cacheMode(cache)
  return new PosixFile(filename, { readOnly, cache: mode, lock, locking: 'off', aio: 'io_uring' })
}

const pattern = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251)

ringTest('the end of a file reads as zeros, and writes move it', async (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), pattern(1000, 1))
  const file = openFile(path('file'))
  const parts = [new Uint8Array(700).fill(9), new Uint8Array(0), new Uint8Array(700).fill(9)]
  await file.readv(100, parts)
  const expected = new Uint8Array(1400)
  expected.set(pattern(1000, 1).subarray(100))
  t.deepEqual(new Uint8Array(Buffer.concat(parts)), expected)
  await file.readv(5000, [parts[0]!])
  t.true(parts[0]!.every((byte) => byte === 0))
  // As large as those that are read apart.
  const large = new Uint8Array(1 << 20).fill(9)
  await file.readv(10, [large])
  t.is(Buffer.compare(large.subarray(0, 990), pattern(1000, 1).subarray(10)), 0)
  t.true(large.subarray(990).every((byte) => byte === 0))
  await file.writev(2000, [pattern(100, 2), pattern(50, 3)])
  t.is(file.sizeBytes, 2150)
  await file.flush()
  t.deepEqual(new Uint8Array(readFileSync(path('file')).subarray(2100)), pattern(50, 3))
  await file.readv(0, [])
  await file.writev(0, [new Uint8Array(0)])
  await file.close()
  await file.close()
})

ringTest('more parts than the host takes at once are one request', async (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), '')
  const file = openFile(path('file'))
  const bytes = pattern(9000, 5)
  const pieces = (all: Uint8Array): Uint8Array[] =>
    Array.from({ length: 3000 }, (_, i) => all.subarray(i * 3, i * 3 + 3))
  await file.writev(7, pieces(bytes))
  const back = new Uint8Array(9000)
  await file.readv(7, pieces(back))
  t.deepEqual(back, bytes)
  await file.close()
})

ringTest('errors are those of the host', async (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), 'x')
  const readOnly = openFile(path('file'), 'writeback', true)
  const block = new Uint8Array(16)
  await t.throwsAsync(readOnly.writev(0, [block]), { code: 'E_BLOCK_IO', message: /Bad file desc/ })
  await readOnly.close()
  const ring = new Ring()
  const result = (start: (done: (result: number) => void) => void): Promise<number> =>
    new Promise((resolve) => start(resolve))
  t.is(await result((done) => ring.read(-1, 0, [block], done)), -EBADF)
  t.is(await result((done) => ring.flush(-1, done)), -EBADF)
  t.is(await result((done) => ring.read(0, -5, [block], done)), -EINVAL)
  const strange = [new Float64Array(4)] as unknown as Uint8Array[]
  t.is(await result((done) => ring.read(0, 0, strange, done)), -EINVAL)
  const full = openSync('/dev/full', 'w')
  t.is(await result((done) => ring.write(full, 0, [block], done)), -ENOSPC)
  closeSync(full)
  ring.close()
  t.is(await result((done) => ring.read(0, 0, [block], done)), -EBADF)
})

ringTest('any number of requests may be under way, also when the file is closed', async (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), '')
  const file = openFile(path('file'))
  const blocks = Array.from({ length: 3000 }, (_, i) => pattern(512, i))
  let ended = 0
  const writes = blocks.map((block, i) => file.writev(i * 512, [block]).then(() => ended++))
  await file.close()
  t.is(ended, 3000)
  await Promise.all(writes)
  t.is(Buffer.compare(readFileSync(path('file')), Buffer.concat(blocks)), 0)
})

ringTest('past the page cache requests of any alignment arrive', async (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), pattern(20_000, 1))
  const shadow = new Uint8Array(1 << 16)
  shadow.set(pattern(20_000, 1))
  let file: PosixFile
  try {
    file = openFile(path('file'), 'none')
  } catch {
    return t.pass('the file system has no O_DIRECT')
  }
  const below = random(1)
  for (let i = 0; i < 60; i++) {
    const at = below(50_000)
    const bytes = pattern(1 + below(9000), i)
    await file.writev(at, [bytes.subarray(0, 100), bytes.subarray(100)])
    shadow.set(bytes, at)
    const back = new Uint8Array(5000)
    await file.readv(at, [back.subarray(0, 77), back.subarray(77)])
    t.is(Buffer.compare(back, shadow.subarray(at, at + 5000)), 0)
  }
  await file.close()
  return undefined
})

for (const [format, cache] of [
  ['raw', 'writeback'],
  ['qcow2', 'writeback'],
  ['qcow2', 'none'],
  ['raw', 'directsync'],
] as const) {
  ringTest(`a ${format} image with cache=${cache} is what threads make of it`, async (t) => {
    const path = temporary(t)
    const sizeBytes = 4 << 20
    const digest: Uint8Array[] = []
    for (const aio of ['threads', 'io_uring'] as const) {
      const filename = path(aio)
      await createImage({ filename, format, sizeBytes })
      const node = await openImage({ filename, format, cache, aio, discard: 'unmap' })
      const below = random(7)
      for (let round = 0; round < 12; round++) {
        // Requests of a round are under way together, each to a range of its own.
        await Promise.all(
          Array.from({ length: 16 }, async (_, slot) => {
            const at = slot * (sizeBytes / 16) + below(400) * 512
            const bytes = pattern(512 * (1 + below(100)), round * 16 + slot)
            const kind = below(8)
            if (kind === 0) await node.discard(at, bytes.length)
            else if (kind === 1) await node.writeZeroes(at, bytes.length, true)
            else await node.writev(at, [bytes.subarray(0, 300), bytes.subarray(300)])
            const back = new Uint8Array(bytes.length)
            await node.readv(at, [back.subarray(0, 5), back.subarray(5)])
            if (kind > 1) t.is(Buffer.compare(back, bytes), 0)
          }),
        )
        await node.flush()
      }
      digest.push(await readAll(node))
      await node.close()
      if (format === 'qcow2') {
        t.like(await checkFile(filename, format), { corruptions: 0, leaks: 0, checkErrors: 0 })
        if (peer) t.is(tool('qemu-img', 'check', filename).status, 0)
      }
    }
    t.is(Buffer.compare(digest[0]!, digest[1]!), 0)
  })
}

test('aio=native wants O_DIRECT, and says so as QEMU does', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), new Uint8Array(8192))
  const open = (cache: string) =>
    openImage({ filename: path('disk'), format: 'raw', aio: 'native', cache })
  await t.throwsAsync(open('writeback'), {
    code: 'E_BLOCK_OPTION',
    message: 'aio=native was specified, but it requires cache.direct=on, which was not specified.',
  })
  if (refusal !== undefined) return
  const node = await open('none').catch((error: Error) => t.regex(error.message, /O_DIRECT/))
  if (typeof node === 'boolean') return
  await node.writev(0, [pattern(8192, 1)])
  await node.close()
  t.deepEqual(new Uint8Array(readFileSync(path('disk'))), pattern(8192, 1))
})

test('where the host forbids io_uring, that is said with what to do', async (t) => {
  const file = { fd: -1, filename: 'x', direct: true, written() {} }
  const forbidden = (): never => {
    throw Object.assign(new Error('io_uring: Operation not permitted'), { code: 'EPERM' })
  }
  t.throws(() => openIo(file, 'io_uring', forbidden), {
    code: 'E_BLOCK_OPTION',
    message: /^Unable to use io_uring: .*Operation not permitted.*use aio=threads/,
  })
  t.throws(() => openIo(file, 'native', forbidden), { message: /aio=native, which needs/ })
  t.true(openIo(file, 'threads', forbidden) instanceof ThreadIo)
  t.true(openIo(file, undefined, forbidden) instanceof ThreadIo)
  const defect = (): never => {
    throw new TypeError('a defect')
  }
  t.throws(() => openIo(file, undefined, defect), { message: 'a defect' })
  if (refusal !== undefined) return
  const allowed = openIo({ ...file, fd: openSync('/dev/null', 'r') })
  t.true(allowed instanceof RingIo)
  await allowed.close()
})

ringTest('a temporary image is written as the image below is read', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), pattern(8192, 1))
  for (const [aio, cache] of [
    ['native', 'none'],
    ['io_uring', 'writeback'],
    ['threads', 'writeback'],
  ] as const) {
    const options = { filename: path('disk'), format: 'raw', snapshot: true, aio, cache }
    const node = await openImage(options)
    await node.writev(512, [pattern(4096, 2)])
    t.is(Buffer.compare((await readAll(node)).subarray(512, 4608), pattern(4096, 2)), 0)
    await node.close()
  }
  t.deepEqual(new Uint8Array(readFileSync(path('disk'))), pattern(8192, 1))
})

test('an image that is about to be let go of is waited for, one that is in use is not', async (t) => {
  const path = temporary(t)
  await createImage({ filename: path('disk'), format: 'qcow2', sizeBytes: 1 << 20 })
  const options = { filename: path('disk'), format: 'qcow2' }
  const first = await openImage(options)
  await t.throwsAsync(openImage(options), { code: 'E_BLOCK_LOCKED' })
  const [second] = await Promise.all([openImage(options), first.close()])
  await second.close()
})
