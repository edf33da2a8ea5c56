import { spawnSync } from 'node:child_process'
import { closeSync, fsyncSync, openSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { openImage } from '../src/block/index.ts'
import { temporary } from './support/disks.ts'
import { ours } from './support/img.ts'
import { random } from './support/random.ts'

const SOURCE_BYTES = (13 << 20) + 512
const BLOCK = 4096

/** Runs of data and of zeros, of all lengths; every block of data is another. */
function contents(seed: number): Uint8Array {
  const below = random(seed)
  const words = new Uint32Array(SOURCE_BYTES / 4)
  for (let at = 0, data = true; at < SOURCE_BYTES; data = !data) {
    const end = Math.min(SOURCE_BYTES, at + (1 + below(below(8) === 0 ? 700 : 40)) * BLOCK)
    if (data)
      words.set(
        words.subarray(at / 4, end / 4).map((_, i) => Math.imul(at / 4 + i + 1, 0x9e37_79b1)),
        at / 4,
      )
    at = end
  }
  return new Uint8Array(words.buffer)
}

/** The host forgets some of a file, where its file system lets it. */
function forget(path: string, fromMib: number, mib: number): void {
  const file = openSync(path, 'r+')
  fsyncSync(file)
  closeSync(file)
  const part = [`skip=${fromMib}`, `count=${mib}`]
  spawnSync('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M', 'iflag=nocache', ...part])
}

async function read(path: string, format: 'raw' | 'qcow2'): Promise<Uint8Array> {
  const node = await openImage({ filename: path, format, readonly: true })
  const bytes = new Uint8Array(node.sizeBytes)
  await node.readv(0, [bytes])
  await node.close()
  return bytes
}

const WAYS: readonly (readonly string[])[] = [
  [],
  ['-m', '1'],
  ['-m', '16', '-W'],
  ['-W'],
  ['-W', '-T', 'none'],
  ['-T', 'none'],
  ['-S', '0'],
  ['-S', '512'],
  ['-S', '1M', '-W'],
  ['-c', '-W'],
]

test('every byte is copied, in whatever order and wherever the host has it', async (t) => {
  const path = temporary(t)
  const source = path('source')
  const target = path('target')
  const bytes = contents(1)
  writeFileSync(source, bytes)
  for (const [i, way] of WAYS.entries()) {
    for (const to of ['raw', 'qcow2', 'qcow2,cluster_size=4k', 'qcow2,cluster_size=2M']) {
      const [format, option] = to.split(',') as ['raw' | 'qcow2', string?]
      if (format === 'raw' && way.includes('-c')) continue
      if (i % 2 === 0) forget(source, 3 + i, 5)
      const options = option === undefined ? way : [...way, '-o', option]
      const { status, stderr } = await ours(
        'convert',
        ...options,
        '-f',
        'raw',
        '-O',
        format,
        source,
        target,
      )
      t.is(status, 0, stderr)
      t.is(Buffer.compare(await read(target, format), bytes), 0, `${way.join(' ')} to ${to}`)
    }
    // The last one was a qcow2 image.
    const back = path('back')
    t.is((await ours('convert', ...way.filter((arg) => arg !== '-c'), target, back)).status, 0)
    t.is(Buffer.compare(await read(back, 'raw'), bytes), 0, `${way.join(' ')} back`)
  }
})

test('only zeros as long as asked for become a hole', async (t) => {
  const path = temporary(t)
  const source = path('source')
  const bytes = new Uint8Array(4 << 20).fill(1)
  // Longer than what is copied at once.
  bytes.fill(0, 1 << 20, (1 << 20) + (700 << 10))
  writeFileSync(source, bytes)
  for (const [shortest, holes] of [
    ['1M', 0],
    ['64k', 1],
  ] as const) {
    const target = path(`target-${shortest}`)
    await ours('convert', '-S', shortest, '-f', 'raw', '-O', 'qcow2', source, target)
    const { stdout } = await ours('map', '--output=json', target)
    const map = JSON.parse(stdout) as { data: boolean }[]
    t.is(map.filter((entry) => !entry.data).length, holes, shortest)
  }
})
