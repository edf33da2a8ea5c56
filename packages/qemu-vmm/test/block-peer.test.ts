import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { createImage, openImage } from '../src/block/index.ts'
import type { FormatNode } from '../src/block/index.ts'
import { environment, peer, readAll, temporary, tool } from './support/disks.ts'
import { ours } from './support/img.ts'

// Debian's qemu-img and qemu-io judge what we write, and we read what they write.
const compared = peer ? test : test.skip
if (!peer)
  console.error('qemu-img is missing (apt-get install qemu-utils): images are not compared')

const SIZE = 8 << 20

function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >> 4) % below
  }
}

async function scribble(
  node: FormatNode,
  model: Uint8Array,
  seed: number,
  times: number,
): Promise<void> {
  const below = random(seed)
  for (let i = 0; i < times; i++) {
    const offset = below(SIZE / 512) * 512
    const length = Math.min(SIZE - offset, (1 + below(200)) * 512)
    if (below(4) === 0) {
      await node.writeZeroes(offset, length, below(2) === 0)
      model.fill(0, offset, offset + length)
    } else {
      const bytes = new Uint8Array(length).fill(1 + below(255))
      await node.writev(offset, [bytes])
      model.set(bytes, offset)
    }
  }
}

const layouts = [
  'cluster_size=512',
  'cluster_size=64k',
  'cluster_size=2M',
  'compat=0.10',
  'refcount_bits=1',
]
layouts.push('refcount_bits=64,cluster_size=4k', 'lazy_refcounts=on', 'preallocation=metadata')

for (const layout of layouts) {
  compared(`both tools agree on an image with ${layout}`, async (t) => {
    const path = temporary(t)
    const image = path('image')
    t.is(tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', layout, image, `${SIZE}`).status, 0)
    const model = new Uint8Array(SIZE)
    for (let turn = 0; turn < 3; turn++) {
      const node = await openImage({ filename: image, format: 'qcow2', discard: 'unmap' })
      t.is(Buffer.compare(await readAll(node), model), 0)
      await scribble(node, model, turn + layout.length, 40)
      await node.close()
      writeFileSync(path('model'), model)
      const checked = tool('qemu-img', 'check', image)
      t.is(checked.status, 0, checked.stdout + checked.stderr)
      const same = tool('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', path('model'), image)
      t.is(same.status, 0, same.stdout)
      // Then the other one writes.
      const offset = turn * 100_352
      t.is(
        tool('qemu-io', '-f', 'qcow2', '-c', `write -P ${turn + 1} ${offset} 70144`, image).status,
        0,
      )
      model.fill(turn + 1, offset, offset + 70_144)
      t.is(tool('qemu-io', '-f', 'qcow2', '-c', `write -z ${offset + 512} 9216`, image).status, 0)
      model.fill(0, offset + 512, offset + 512 + 9216)
    }
  })
}

compared('compressed clusters are read and written over', async (t) => {
  const path = temporary(t)
  const model = Buffer.alloc(SIZE)
  for (let i = 0; i < SIZE; i++) model[i] = (i >> 9) % 251
  writeFileSync(path('raw'), model)
  t.is(tool('qemu-img', 'convert', '-c', '-O', 'qcow2', path('raw'), path('image')).status, 0)
  const node = await openImage({ filename: path('image'), format: 'qcow2' })
  t.is(Buffer.compare(await readAll(node), model), 0)
  await scribble(node, model, 5, 60)
  t.is(Buffer.compare(await readAll(node), model), 0)
  await node.close()
  const checked = tool('qemu-img', 'check', path('image'))
  t.is(checked.status, 0, checked.stdout + checked.stderr)
})

compared('internal snapshots keep what they had', async (t) => {
  const path = temporary(t)
  const image = path('image')
  const model = new Uint8Array(SIZE)
  await createImage({ filename: image, format: 'qcow2', sizeBytes: SIZE, clusterSize: 4096 })
  let node = await openImage({ filename: image, format: 'qcow2' })
  await scribble(node, model, 1, 40)
  await node.close()
  const kept = model.slice()
  t.is(tool('qemu-img', 'snapshot', '-c', 'first', image).status, 0)
  node = await openImage({ filename: image, format: 'qcow2' })
  t.is(node.info().snapshots![0]!.name, 'first')
  await scribble(node, model, 2, 60)
  t.is(Buffer.compare(await readAll(node), model), 0)
  t.is((await node.check())!.corruptions, 0)
  await node.close()
  const checked = tool('qemu-img', 'check', image)
  t.is(checked.status, 0, checked.stdout + checked.stderr)
  t.is(tool('qemu-img', 'snapshot', '-a', 'first', image).status, 0)
  node = await openImage({ filename: image, format: 'qcow2', readonly: true })
  t.is(Buffer.compare(await readAll(node), kept), 0)
  await node.close()
})

compared('locked images are refused both ways, in the same words', async (t) => {
  const path = temporary(t)
  const image = path('image')
  await createImage({ filename: image, format: 'qcow2', sizeBytes: SIZE })
  const node = await openImage({ filename: image, format: 'qcow2' })
  const theirs = tool('qemu-io', '-f', 'qcow2', '-c', 'read 0 512', image)
  t.regex(
    theirs.stderr,
    /Failed to get "write" lock\nIs another process using the image \[.*image\]\?/,
  )
  t.regex(tool('qemu-img', 'info', image).stderr, /Failed to get shared "write" lock/)
  const again = await t.throwsAsync(openImage({ filename: image, format: 'qcow2' }), {
    code: 'E_BLOCK_LOCKED',
  })
  t.is(again!.message, `Failed to get "write" lock\nIs another process using the image [${image}]?`)
  await node.close()
  const child = spawn('qemu-io', ['-f', 'qcow2', image], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: environment,
  })
  child.stdin.write('read 0 512\n')
  await once(child.stdout, 'data')
  const refused = await t.throwsAsync(openImage({ filename: image, format: 'qcow2' }), {
    code: 'E_BLOCK_LOCKED',
  })
  t.is(refused!.message, again!.message)
  const shared = await t.throwsAsync(openImage({ filename: image, readonly: true }), {
    code: 'E_BLOCK_LOCKED',
  })
  t.regex(shared!.message, /Failed to get shared "write" lock/)
  await t.notThrowsAsync(async () =>
    (await openImage({ filename: image, readonly: true, locking: 'off' })).close(),
  )
  child.stdin.end('quit\n')
  await once(child, 'close')
  const one = await openImage({ filename: image, readonly: true })
  const two = await openImage({ filename: image, readonly: true })
  await Promise.all([one.close(), two.close()])
})

compared('qemu-img prints what the original prints', async (t) => {
  const path = temporary(t)
  const image = path('image')
  const made = await ours('create', '-f', 'qcow2', '-o', 'cluster_size=4k', image, '1G')
  t.is(
    made.stdout,
    tool(
      'qemu-img',
      'create',
      '-f',
      'qcow2',
      '-o',
      'cluster_size=4k',
      path('other'),
      '1G',
    ).stdout.replace(path('other'), image),
  )
  t.is(tool('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 1M 300k', image).status, 0)
  const top = path('top')
  t.is((await ours('create', '-q', '-f', 'qcow2', '-b', 'image', '-F', 'qcow2', top)).status, 0)
  for (const file of [image, top]) {
    for (const args of [['info'], ['check'], ['info', '--backing-chain']]) {
      const theirs = tool('qemu-img', ...args, file)
      const mine = await ours(...args, file)
      t.deepEqual([mine.status, mine.stdout], [theirs.status, theirs.stdout], args.join(' '))
    }
    for (const command of ['info', 'check']) {
      const theirs: unknown = JSON.parse(tool('qemu-img', command, '--output=json', file).stdout)
      t.deepEqual(JSON.parse((await ours(command, '--output=json', file)).stdout), theirs)
    }
  }
})

compared('qemu-img converts, compares, finds leaks and repairs them', async (t) => {
  const path = temporary(t)
  writeFileSync(path('raw'), Buffer.alloc(SIZE, 'virtual'))
  t.is((await ours('convert', '-f', 'raw', '-O', 'qcow2', path('raw'), path('image'))).status, 0)
  t.is(tool('qemu-img', 'compare', path('raw'), path('image')).status, 0)
  t.is(tool('qemu-img', 'check', path('image')).status, 0)
  t.is((await ours('compare', path('raw'), path('image'))).stdout, 'Images are identical.\n')
  t.is(tool('qemu-io', '-f', 'qcow2', '-c', 'write -P 3 1M 512', path('image')).status, 0)
  const differ = await ours('compare', path('raw'), path('image'))
  t.deepEqual([differ.status, differ.stdout], [1, 'Content mismatch at offset 1048576!\n'])
  // An L2 entry that is gone leaves its cluster without a use.
  const l2 = readFileSync(path('image')).readBigUInt64BE(0x30000) & 0x00fffffffffffe00n
  t.is(tool('qemu-io', '-f', 'raw', '-c', `write -z ${l2} 512`, path('image')).status, 0)
  t.is((await ours('check', path('image'))).status, 3)
  t.is(tool('qemu-img', 'check', path('image')).status, 3)
  t.is((await ours('check', '-r', 'leaks', path('image'))).status, 0)
  t.is(tool('qemu-img', 'check', path('image')).status, 0)
})

test('qemu-img refuses what it does not know', async (t) => {
  const path = temporary(t)
  t.regex((await ours('creat', path('x'))).stderr, /did you mean 'create'/)
  t.regex(
    (await ours('create', '-f', 'qcow2', '-o', 'clustersize=4k', path('x'), '1M')).stderr,
    /did you mean 'cluster_size'/,
  )
  t.regex((await ours('info', '--outpt=json', path('x'))).stderr, /did you mean '--output'/)
  writeFileSync(path('y'), new Uint8Array(512))
  const guessed = await ours('create', '-f', 'qcow2', '-b', 'y', path('x'))
  t.regex(guessed.stderr, /without backing format\nDetected format of raw\./)
  t.is((await ours('info', path('none'))).status, 1)
  writeFileSync(path('raw'), new Uint8Array(512))
  t.is((await ours('check', path('raw'))).status, 63)
})
