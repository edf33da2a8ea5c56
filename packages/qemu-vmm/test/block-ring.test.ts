// Files through io_uring.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { cacheMode } from '../src/block/file/cache-mode.ts'
import { openIo } from '../src/block/file/aio.ts'
import { PosixFile } from '../src/block/file/posix-file.ts'
import { Ring } from '../src/block/file/ring.ts'
import { checkFile, createImage, openImage } from '../src/block/index.ts'
import type { NativeRing } from '../src/native/ring.ts'
import { ringRefusal } from '../src/native/ring.ts'
import { peer, readAll, temporary, tool } from './support/disks.ts'
import { random } from './support/random.ts'

const refusal = ringRefusal()
/** Where the host forbids it there is nothing to be tested. */
const ringTest = refusal === undefined ? test : test.skip
const addon = fileURLToPath(new URL('../native/qemu-vmm.linux-x64-gnu.node', import.meta.url))
const { EBADF, EINVAL, ENOSPC, EIO } = constants.errno

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

test('where the host forbids io_uring, that is said with what to do', (t) => {
  const file = { fd: -1, filename: 'x', written() {} }
  const forbidden = (): never => {
    throw Object.assign(new Error('io_uring: Operation not permitted'), { code: 'EPERM' })
  }
  t.throws(() => openIo(file, 'io_uring', false, forbidden), {
    code: 'E_BLOCK_OPTION',
    message: /^Unable to use io_uring: .*Operation not permitted.*use aio=threads/,
  })
  t.throws(() => openIo(file, 'native', true, forbidden), { message: /aio=native, which needs/ })
  t.notThrows(() => openIo(file, 'threads', false, forbidden))
})

/** What the host's side is asked, and what it answers. */
class FakeNative implements NativeRing {
  ready = (): void => {}
  submits = 0
  answer = 0
  queued: number[] = []
  done: [number, number][] = []
  isOpen = true
  watch(onReady: () => void): void {
    this.ready = onReady
  }
  queue(): number {
    this.queued.push(this.queued.length)
    return this.queued.length - 1
  }
  submit(): number {
    this.submits++
    return this.answer
  }
  take(completions: Float64Array): number {
    const some = this.done.splice(0, completions.length / 2)
    completions.set(some.flat())
    return some.length
  }
  close(): void {
    this.isOpen = false
  }
}

test('requests of one turn reach the host together', async (t) => {
  const native = new FakeNative()
  const ring = new Ring(native)
  const results: number[] = []
  const ask = (): void => ring.read(3, 0, [], (result) => results.push(result))
  ask()
  t.is(native.submits, 1)
  ring.plug()
  ring.plug()
  for (let i = 0; i < 10; i++) ask()
  ring.unplug()
  t.is(native.submits, 1)
  ring.unplug()
  t.is(native.submits, 2)
  ring.plug()
  ring.unplug()
  t.is(native.submits, 2, 'nothing was asked')
  // More than are taken in one call, and what they lead to is one more batch.
  for (let i = 0; i < 600; i++) ask()
  const before = native.submits
  native.done = Array.from({ length: 611 }, (_, i) => [i, i * 2])
  ring.read(3, 0, [], () => {})
  native.ready()
  t.deepEqual(
    results,
    Array.from({ length: 611 }, (_, i) => i * 2),
  )
  void Promise.resolve().then(() => ask())
  void Promise.resolve().then(() => ask())
  await new Promise((resolve) => setImmediate(resolve))
  t.true(native.submits > before)
})

test('a ring that the host gives up fails what waits, once', async (t) => {
  const native = new FakeNative()
  const ring = new Ring(native)
  const results: number[] = []
  const ask = (): void => ring.read(3, 0, [], (result) => results.push(result))
  ask()
  native.answer = -EIO
  ask()
  t.deepEqual(results, [-EIO, -EIO])
  t.false(native.isOpen)
  ask()
  await Promise.resolve()
  t.deepEqual(results, [-EIO, -EIO, -EIO])
  t.is(native.queued.length, 2)
})

test('what the host has no memory for is tried again', async (t) => {
  const native = new FakeNative()
  native.answer = 1
  const ring = new Ring(native)
  ring.read(3, 0, [], () => {})
  ring.read(3, 0, [], () => {})
  t.is(native.submits, 2)
  native.answer = 0
  while (native.submits < 3) await new Promise((resolve) => setTimeout(resolve, 1))
  await new Promise((resolve) => setTimeout(resolve, 10))
  t.is(native.submits, 3)
})

/** Queues writes of buffers that nothing else knows of. */
const WRITER = `
  const fs = require('node:fs')
  const { IoRing } = require(process.argv[2] ?? require('node:worker_threads').workerData.addon)
  function start(file, blocks, done) {
    const fd = fs.openSync(file, 'r+')
    const ring = new IoRing()
    let left = blocks
    const completions = new Float64Array(64)
    ring.watch(() => {
      const count = ring.take(completions)
      for (let i = 0; i < count; i++) if (completions[2 * i + 1] !== 1 << 20) throw new Error('short')
      left -= count
      if (left === 0) done()
    })
    for (let i = 0; i < blocks; i++) {
      ring.queue(1, fd, i << 20, [new Uint8Array(1 << 20).fill(i + 1)])
    }
    ring.submit()
  }
`

ringTest('buffers live, and the event loop goes on, until requests have ended', (t) => {
  const path = temporary(t)
  writeFileSync(path('file'), '')
  const code = `${WRITER}
    start(process.argv[1], 16, () => fs.writeSync(1, 'done'))
    gc()
    for (let i = 0; i < 16; i++) new Uint8Array(1 << 20).fill(255)
    gc()`
  const args = ['--expose-gc', '-e', code, path('file'), addon]
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  t.is(stdout, 'done', stderr)
  t.is(status, 0)
  const bytes = readFileSync(path('file'))
  t.is(bytes.length, 16 << 20)
  for (let i = 0; i < 16; i++) {
    t.true(bytes.subarray(i << 20, (i + 1) << 20).every((byte) => byte === i + 1))
  }
})

ringTest('an isolate that is ended waits for what the host does with its memory', async (t) => {
  const path = temporary(t)
  for (let round = 0; round < 4; round++) {
    writeFileSync(path('file'), new Uint8Array(32 << 20))
    const code = `${WRITER}
      const { workerData, parentPort } = require('node:worker_threads')
      start(workerData.file, 32, () => {})
      parentPort.postMessage('started')`
    const workerData = { addon, file: path('file') }
    const worker = new Worker(code, { eval: true, workerData, argv: [] })
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    await worker.terminate()
    const bytes = readFileSync(path('file'))
    for (let i = 0; i < 32; i++) {
      const block = bytes.subarray(i << 20, (i + 1) << 20)
      t.true(
        block.every((byte) => byte === i + 1 || byte === 0),
        `block ${i}`,
      )
    }
    t.true(readFileSync(path('file')).equals(bytes), 'nothing is written afterwards')
  }
})
