// The ring between a device's turn and the host.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Accounting } from '../src/block/accounting.ts'
import { Ring } from '../src/block/file/ring.ts'
import { openImage } from '../src/block/index.ts'
import type { NativeRing } from '../src/native/ring.ts'
import { ringRefusal } from '../src/native/ring.ts'
import { temporary } from './support/disks.ts'

/** Where the host forbids it there is nothing to be tested. */
const ringTest = ringRefusal() === undefined ? test : test.skip
const addon = fileURLToPath(new URL('../native/qemu-vmm.linux-x64-gnu.node', import.meta.url))
const { EIO } = constants.errno

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

ringTest('what a device asks in one turn waits for the end of that', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), new Uint8Array(8192))
  const node = await openImage({ filename: path('disk'), format: 'raw', aio: 'io_uring' })
  const device = new Accounting(node, () => 0)
  let ended = 0
  device.plug()
  const reads = [0, 512].map((at) => device.readv(at, [new Uint8Array(512)]).then(() => ended++))
  // The loop turns often enough for requests that the host knows of.
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  t.is(ended, 0)
  device.unplug()
  await Promise.all(reads)
  t.is(ended, 2)
  await node.close()
  device.plug()
  device.unplug()
})

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
