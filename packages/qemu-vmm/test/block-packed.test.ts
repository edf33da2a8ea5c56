import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { createImage, openImage } from '../src/block/index.ts'
import type { Preallocation } from '../src/block/index.ts'
import { emptyImage, openMemory, peer, readAll, temporary, tool } from './support/disks.ts'

// Compressed clusters and preallocated images, which Debian's qemu-img judges where it is installed.
const main = fileURLToPath(new URL('../src/qemu-img/main.ts', import.meta.url))
const ours = (...args: string[]) => tool(process.execPath, '--import=tsx', main, ...args)

/** Bytes that pack well in some clusters, not at all in others, and zeros in between. */
function mixed(length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = 1
  for (let i = 0; i < length; i++) {
    const kind = (i >> 15) % 4
    if (kind === 1) bytes[i] = (i >> 5) % 251
    else if (kind === 2) {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
      bytes[i] = state >> 16
    } else if (kind === 3 && i % 4096 < 100) bytes[i] = i
  }
  return bytes
}

test('convert -c makes an image that is smaller and reads the same', async (t) => {
  const path = temporary(t)
  // The last cluster is not whole, neither here nor there.
  const model = mixed((4 << 20) + 1536)
  writeFileSync(path('raw'), model)
  const made = ours('convert', '-c', '-f', 'raw', '-O', 'qcow2', path('raw'), path('image'))
  t.is(made.status, 0, made.stderr)
  t.true(readFileSync(path('image')).byteLength < model.byteLength / 2)
  t.is(ours('check', path('image')).status, 0)
  t.is(ours('compare', path('raw'), path('image')).status, 0)
  t.is(ours('convert', '-c', path('image'), path('other')).status, 1, 'raw has no such clusters')
  if (peer) {
    const checked = tool('qemu-img', 'check', path('image'))
    t.is(checked.status, 0, checked.stdout + checked.stderr)
    t.is(tool('qemu-img', 'compare', path('raw'), path('image')).status, 0)
  }
  const node = await openImage({ filename: path('image'), format: 'qcow2', discard: 'unmap' })
  const written = new Uint8Array(70_144).fill(7)
  for (const offset of [0, 98_304, 1 << 20, model.byteLength - 70_144]) {
    await node.writev(offset, [written])
    model.set(written, offset)
  }
  t.is(Buffer.compare(await readAll(node), model), 0)
  await node.close()
  t.is(ours('check', path('image')).status, 0)
  if (peer) t.is(tool('qemu-img', 'check', path('image')).status, 0)
})

for (const [clusterSize, refcountBits] of [
  [4096, 16],
  [4096, 1],
  [1 << 16, 2],
  [512, 16],
] as const) {
  test(`clusters of ${clusterSize} bytes are packed with refcounts of ${refcountBits} bits`, async (t) => {
    const sizeBytes = clusterSize === 512 ? 1 << 17 : 1 << 19
    const file = await emptyImage(sizeBytes, { clusterSize, refcountBits })
    const model = mixed(sizeBytes)
    const node = await openMemory(file)
    const cluster = (at: number): Uint8Array => model.subarray(at, at + clusterSize)
    const all = Array.from({ length: model.byteLength / clusterSize }, (_, i) => i * clusterSize)
    await Promise.all(all.map((at) => node.writeCompressed(at, cluster(at))))
    t.is(Buffer.compare(await readAll(node), model), 0)
    // Once more in another order, among ordinary writes: what was packed before is freed.
    model.reverse()
    for (const [i, at] of all.toReversed().entries()) {
      if (i % 3 === 0) await node.writev(at, [cluster(at)])
      else await node.writeCompressed(at, cluster(at))
      if (i % 50 === 0) await node.flush()
    }
    t.is(Buffer.compare(await readAll(node), model), 0)
    const found = (await node.check())!
    t.is(found.corruptions, 0)
    t.is(found.leaks, 0)
    await node.close()
  })
}

test('only whole clusters are packed', async (t) => {
  const node = await openMemory(await emptyImage(1 << 16))
  await t.throwsAsync(node.writeCompressed(100, new Uint8Array(512)), { code: 'E_BLOCK_OPTION' })
  await t.throwsAsync(node.writeCompressed(512, new Uint8Array(100)), { code: 'E_BLOCK_OPTION' })
})

for (const preallocation of ['metadata', 'falloc', 'full'] as const satisfies Preallocation[]) {
  test(`an image with preallocation=${preallocation} has all its clusters`, async (t) => {
    const path = temporary(t)
    for (const clusterSize of [512, 4096, 1 << 16]) {
      const sizeBytes = (1 << 18) + 512
      const filename = path(`${clusterSize}`)
      await createImage({ filename, format: 'qcow2', sizeBytes, clusterSize, preallocation })
      const node = await openImage({ filename, format: 'qcow2' })
      const before = readFileSync(filename).byteLength
      t.like(await node.map(0, sizeBytes), { present: true, data: true, depth: 0 })
      t.true((await readAll(node)).every((byte) => byte === 0))
      const bytes = new Uint8Array(sizeBytes).fill(9)
      await node.writev(0, [bytes])
      t.is(Buffer.compare(await readAll(node), bytes), 0)
      await node.close()
      t.is(readFileSync(filename).byteLength, before, 'nothing had to be allocated')
      t.is(ours('check', filename).status, 0)
      if (peer) t.is(tool('qemu-img', 'check', filename).status, 0)
    }
    await t.throwsAsync(
      createImage({
        filename: path('overlay'),
        format: 'qcow2',
        backingFile: '512',
        backingFormat: 'qcow2',
        preallocation,
      }),
      { code: 'E_BLOCK_OPTION', message: /Backing file and preallocation/ },
    )
  })
}

test('create -o help lists the options of the format', (t) => {
  const qcow2 = ours('create', '-f', 'qcow2', '-o', 'help')
  t.is(qcow2.status, 0, qcow2.stderr)
  t.regex(
    qcow2.stdout,
    /^Supported qcow2 options:\n {2}backing_file=<str> {5}- File name of a base/,
  )
  t.regex(qcow2.stdout, /extended_l2=<bool \(on\/off\)> - Extended L2 tables \(only off\)/)
  const raw = ours('create', '-o', 'size=1M,?', 'x')
  t.regex(raw.stdout, /^Supported raw options:\n {2}preallocation=<str> .*\n {2}size=<size>/)
  t.regex(ours('create', '-f', 'qcow3', '-o', 'help').stderr, /Unknown file format 'qcow3'/)
})
