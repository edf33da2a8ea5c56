import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import test from 'ava'
import {
  ErrorPolicy,
  BlockError,
  cacheMode,
  createImage,
  onError,
  openImage,
} from '../src/block/index.ts'
import type { BlockNode } from '../src/block/index.ts'
import { emptyImage, openMemory, readAll, temporary } from './support/disks.ts'
import { MemoryFile } from './support/memory-file.ts'

/** A small image with data in its first cluster. */
async function sample(): Promise<Uint8Array> {
  const file = await emptyImage(1 << 20, { clusterSize: 4096 })
  const node = await openMemory(file)
  await node.writev(0, [new Uint8Array(65536).fill(7)])
  await node.close()
  return file.contents
}

function patched(image: Uint8Array, at: number, bits: 32 | 64, value: number | bigint): MemoryFile {
  const bytes = image.slice()
  const view = new DataView(bytes.buffer)
  if (bits === 32) view.setUint32(at, Number(value))
  else view.setBigUint64(at, BigInt(value))
  return new MemoryFile(bytes)
}

const headers: readonly (readonly [string, number, 32 | 64, number | bigint, RegExp])[] = [
  ['a bad magic', 0, 32, 0x12345678, /not in qcow2 format/],
  ['version 4', 4, 32, 4, /Unsupported qcow2 version 4/],
  ['tiny clusters', 20, 32, 8, /Unsupported cluster size: 2\^8/],
  ['huge clusters', 20, 32, 63, /Unsupported cluster size: 2\^63/],
  ['encryption', 32, 32, 1, /Encrypted/],
  ['a size of 2^63', 24, 64, 2n ** 63n, /too big/],
  ['a giant L1 table', 36, 32, 0xffffffff, /Active L1 table is too large/],
  ['an L1 table that is too small', 36, 32, 0, /L1 table is too small/],
  ['an unaligned L1 table', 40, 64, 0x3001, /Active L1 table offset invalid/],
  ['an L1 table outside the file', 40, 64, 2n ** 40n, /outside the file/],
  ['an unaligned refcount table', 48, 64, 0x1001, /Reference count table offset invalid/],
  ['a refcount table outside the file', 48, 64, 2n ** 41n, /outside the file/],
  ['a giant refcount table', 56, 32, 0x7fffffff, /reference count table is too large/],
  ['no refcount table', 56, 32, 0, /does not contain a reference count table/],
  ['a giant snapshot table', 60, 32, 0xffffffff, /Snapshot table is too large/],
  ['an unknown incompatible feature', 72, 64, 1n << 40n, /Unknown incompatible feature/],
  ['an external data file', 72, 64, 4, /external data file/],
  ['extended L2 entries', 72, 64, 16, /extended L2 entries/],
  ['wide refcounts', 96, 32, 7, /may not exceed 64 bits/],
  ['a short header', 100, 32, 72, /header too short/],
  ['a long header', 100, 32, 1 << 20, /exceeds cluster size/],
  ['a backing file name outside the header', 8, 64, 1n << 20n, /Invalid backing file offset/],
]

for (const [what, at, bits, value, message] of headers) {
  test(`refuses ${what}`, async (t) => {
    const error = await t.throwsAsync(async () =>
      openMemory(patched(await sample(), at, bits, value)),
    )
    t.true(error instanceof BlockError)
    t.regex(error!.message, message)
  })
}

test('refuses an image that ends anywhere in its header or tables', async (t) => {
  const image = await sample()
  for (const length of [0, 3, 4, 20, 71, 72, 103, 104, 111, 512, 4096, 8192]) {
    await t.throwsAsync(async () => openMemory(new MemoryFile(image.slice(0, length))), {
      instanceOf: BlockError,
    })
  }
})

/** Places in `sample()`: header, refcount table, refcount block, L1 table, then what was written. */
const L1 = 3 * 4096

test('entries that point outside the file, or at other tables, fail requests and mark the image', async (t) => {
  const image = await sample()
  const view = new DataView(image.buffer, image.byteOffset)
  const l2 = Number(view.getBigUint64(L1) & 0x00fffffffffffe00n)
  const copied = 1n << 63n
  const wrong: readonly (readonly [string, number, bigint, RegExp])[] = [
    ['L2 table outside', L1, copied | (1n << 40n), /outside the file/],
    ['L2 table unaligned', L1, copied | BigInt(l2 + 512), /unaligned/],
    ['L2 table is the header', L1, copied, /./],
    ['L2 table is the refcount table', L1, copied | 4096n, /overlaps other metadata/],
    ['L2 table is a refcount block', L1, copied | 8192n, /overlaps other metadata/],
    ['L2 table is the L1 table', L1, copied | BigInt(L1), /overlaps other metadata/],
    ['data outside', l2, copied | (1n << 50n), /outside the file/],
    ['data unaligned', l2, copied | BigInt(l2 + 4096 + 512), /unaligned/],
    ['data is the refcount table', l2, copied | 4096n, /overlaps with refcount table/],
    ['data is the refcount block', l2, copied | 8192n, /overlaps with refcount block/],
    ['data is the L1 table', l2, copied | BigInt(L1), /overlaps with active L1 table/],
    ['data is its own L2 table', l2, copied | BigInt(l2), /overlaps with active L2 table/],
  ]
  for (const [what, at, value, message] of wrong) {
    const file = patched(image, at, 64, value)
    const node = await openMemory(file)
    if (what === 'L2 table is the header') {
      // An entry without an offset is an empty one.
      await node.writev(0, [new Uint8Array(512).fill(1)])
      continue
    }
    const error = await t.throwsAsync(
      node.writev(0, [new Uint8Array(512).fill(1)]),
      undefined,
      what,
    )
    t.regex(error!.message, message, what)
    t.regex(error!.message, /marked as corrupt/)
    await t.throwsAsync(node.writev(8192, [new Uint8Array(512)]), { code: 'E_BLOCK_CORRUPT' })
    await t.throwsAsync(
      openMemory(new MemoryFile(file.contents)),
      { message: /Image is corrupt/ },
      what,
    )
    t.true(
      (await openMemory(new MemoryFile(file.contents, true))).info().specific!['corrupt'] === true,
    )
  }
})

test('refcount blocks outside the file or on other tables stop allocations', async (t) => {
  const image = await sample()
  for (const value of [1n << 40n, 8193n * 512n, BigInt(L1)]) {
    const node = await openMemory(patched(image, 4096, 64, value))
    await t.throwsAsync(node.writev(1 << 19, [new Uint8Array(512).fill(1)]), {
      code: 'E_BLOCK_CORRUPT',
    })
  }
})

test('a free cluster that is a table is not given out', async (t) => {
  const image = await sample()
  // The refcount of the L1 table's cluster says that it is free.
  const bytes = image.slice()
  new DataView(bytes.buffer).setUint16(8192 + 3 * 2, 0)
  const node = await openMemory(new MemoryFile(bytes))
  await t.throwsAsync(node.writev(1 << 19, [new Uint8Array(512).fill(1)]), {
    message: /Preventing invalid write on metadata \(overlaps with active L1 table\)/,
  })
})

test('files that cannot be opened are told apart', async (t) => {
  const path = temporary(t)
  mkdirSync(path('folder'))
  await t.throwsAsync(openImage({ filename: path('folder') }), {
    code: 'E_BLOCK_OPEN',
    message: /to be a regular file/,
  })
  await t.throwsAsync(openImage({ filename: path('none') }), {
    message: /No such file or directory/,
  })
  await t.throwsAsync(openImage({ filename: '/dev/null' }), { message: /to be a regular file/ })
  writeFileSync(path('raw'), new Uint8Array(1024))
  await t.throwsAsync(openImage({ filename: path('raw'), format: 'qcow2' }), {
    message: /not in qcow2 format/,
  })
  await t.throwsAsync(openImage({ filename: path('raw'), format: 'qcow' }), {
    message: /did you mean 'qcow2'/,
  })
  await t.throwsAsync(openImage({ filename: path('raw'), cache: 'writebak' }), {
    message: /did you mean 'writeback'/,
  })
  chmodSync(path('raw'), 0)
  if (process.getuid?.() !== 0) {
    await t.throwsAsync(openImage({ filename: path('raw') }), { message: /Permission denied/ })
  }
  writeFileSync(path('vmdk'), Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(1020)]))
  await t.throwsAsync(openImage({ filename: path('vmdk') }), { message: /vmdk is not supported/ })
})

test('missing, circular and endless backing chains are refused', async (t) => {
  const path = temporary(t)
  const make = (name: string, backing: string) =>
    createImage({
      filename: path(name),
      format: 'qcow2',
      sizeBytes: 65536,
      backingFile: backing,
      backingFormat: 'qcow2',
    })
  await make('lost', 'gone')
  await t.throwsAsync(openImage({ filename: path('lost') }), {
    message: /Could not open backing file.*No such file/,
  })
  await make('a', 'b')
  await make('b', 'a')
  await t.throwsAsync(openImage({ filename: path('a') }), { message: /creates an infinite loop/ })
  symlinkSync(path('self'), path('link'))
  await make('self', 'link')
  await t.throwsAsync(openImage({ filename: path('self') }), {
    message: /creates an infinite loop/,
  })
})

test('what an image does not have comes from its backing file, also a shorter one', async (t) => {
  const path = temporary(t)
  writeFileSync(path('base'), Buffer.alloc(100 * 1024, 5))
  await createImage({
    filename: path('top'),
    format: 'qcow2',
    sizeBytes: 1 << 20,
    backingFile: 'base',
    backingFormat: 'raw',
  })
  const node = await openImage({ filename: path('top') })
  await node.writev(70_144, [new Uint8Array(512).fill(9)])
  const expected = Buffer.alloc(1 << 20)
  expected.fill(5, 0, 100 * 1024).fill(9, 70_144, 70_656)
  t.is(Buffer.compare(await readAll(node), expected), 0)
  await node.writeZeroes(0, 65536, true)
  expected.fill(0, 0, 65536)
  t.is(Buffer.compare(await readAll(node), expected), 0)
  await node.close()
  t.is(Buffer.compare(readFileSync(path('base')), Buffer.alloc(100 * 1024, 5)), 0)
})

test('snapshot=on keeps writes away from the image', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), Buffer.alloc(1 << 20, 3))
  const node = await openImage({ filename: path('disk'), format: 'raw', snapshot: true })
  await node.writev(0, [new Uint8Array(4096).fill(4)])
  await node.flush()
  const bytes = await readAll(node)
  t.is(bytes[0], 4)
  t.is(bytes[4096], 3)
  await node.close()
  t.is(readFileSync(path('disk'))[0], 3)
})

test('a guessed raw disk cannot be made an image by its guest', async (t) => {
  const path = temporary(t)
  writeFileSync(path('disk'), new Uint8Array(65536))
  const said: string[] = []
  const node = await openImage({ filename: path('disk'), warn: (message) => said.push(message) })
  t.regex(said[0]!, /probing guessed raw/)
  await t.throwsAsync(
    node.writev(0, [Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), new Uint8Array(504)]),
    { message: /block 0/ },
  )
  await node.writev(0, [new Uint8Array(512).fill(1)])
  await node.close()
})

test('cache=none accepts buffers and places of any alignment', async (t) => {
  const path = temporary(t)
  const model = Buffer.alloc(1 << 20)
  await createImage({ filename: path('disk'), format: 'raw', sizeBytes: 1 << 20 })
  const node = await openImage({ filename: path('disk'), format: 'raw', cache: 'none' })
  const memory = new Uint8Array(300_000)
  const writes = Array.from({ length: 40 }, (_, i) => {
    const bytes = memory.subarray(i * 3 + 1, i * 3 + 1 + 512 * (1 + (i % 17))).slice()
    bytes.fill(i + 1)
    model.set(bytes, i * 24_576)
    return node.writev(i * 24_576, [bytes.subarray(0, 100), bytes.subarray(100)])
  })
  await Promise.all(writes)
  t.is(Buffer.compare(await readAll(node), model), 0)
  await node.close()
  t.deepEqual(cacheMode('off'), cacheMode('none'))
})

function failing(errno: string): BlockNode & { broken: boolean } {
  const act = (): Promise<void> =>
    node.broken ? Promise.reject(new BlockError('E_BLOCK_IO', errno, { errno })) : Promise.resolve()
  const node = {
    broken: true,
    sizeBytes: 512,
    readOnly: false,
    logicalBlockBytes: 512,
    physicalBlockBytes: 512,
    readv: act,
    writev: act,
    flush: act,
    discard: act,
    writeZeroes: act,
    close: () => Promise.resolve(),
  }
  return node
}

test('werror and rerror report, ignore or stop', async (t) => {
  const stops: string[] = []
  const onStop = (error: BlockError): void => void stops.push(error.errno)
  const full = failing('ENOSPC')
  const policy = new ErrorPolicy(full, { onStop })
  await t.throwsAsync(policy.readv(0, []), { code: 'E_BLOCK_IO' })
  let done = false
  const pending = policy.writev(0, []).then(() => (done = true))
  await new Promise(setImmediate)
  t.deepEqual([stops, policy.waiting, done], [['ENOSPC'], 1, false])
  policy.retry()
  await new Promise(setImmediate)
  t.deepEqual([stops.length, policy.waiting], [2, 1])
  full.broken = false
  policy.retry()
  t.true(await pending)
  await t.throwsAsync(new ErrorPolicy(failing('EIO'), { onStop }).writev(0, []))
  await t.notThrowsAsync(
    new ErrorPolicy(failing('EIO'), { onStop, werror: 'ignore' }).writev(0, []),
  )
  const closing = new ErrorPolicy(failing('EIO'), { onStop, rerror: 'stop' })
  const stuck = closing.readv(0, [])
  await new Promise(setImmediate)
  await closing.close()
  await t.throwsAsync(stuck, { message: /closed/ })
  t.throws(() => onError('enospc', 'rerror'), { message: /invalid read error action/ })
  t.throws(() => onError('stopp', 'werror'), { message: /did you mean 'stop'/ })
})
