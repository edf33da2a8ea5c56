import test from 'ava'
import { BlockError } from '../src/block/index.ts'
import { emptyImage, openMemory } from './support/disks.ts'
import { MemoryFile } from './support/memory-file.ts'

const MUTATIONS = process.env['LONG'] === '1' ? 40_000 : 2000

/** Numbers that fields of tables are sensitive to. */
const INTERESTING = [
  0n,
  1n,
  0x200n,
  0x1000n,
  0x2000n,
  0x3000n,
  0x4000n,
  0x5000n,
  1n << 62n,
  1n << 63n,
]
INTERESTING.push(
  (1n << 63n) | 0x3000n,
  (1n << 63n) | 0x5000n,
  0x7fffffffffffffffn,
  0xffffffffn,
  1n << 53n,
)

function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >> 8) % below
  }
}

test('mutated images are refused or used, with typed errors and without harm', async (t) => {
  const made = await emptyImage(1 << 20, { clusterSize: 4096 })
  const writer = await openMemory(made)
  await writer.writev(0, [new Uint8Array(40_960).fill(7)])
  await writer.writeZeroes(65_536, 8192, true)
  await writer.close()
  const image = made.contents
  const before = process.memoryUsage.rss()
  const errors = new Set<string>()
  for (let i = 0; i < MUTATIONS; i++) {
    const random = generator(i + 1)
    const bytes = random(20) === 0 ? image.slice(0, random(image.length)) : image.slice()
    const view = new DataView(bytes.buffer)
    for (let n = 1 + random(3); n > 0 && bytes.length > 8; n--) {
      // Most of what matters is in the first bytes of a cluster.
      const cluster = random(Math.ceil(bytes.length / 4096)) * 4096
      const at = Math.min(
        cluster + (random(3) === 0 ? random(4096) : random(16) * 8),
        bytes.length - 8,
      )
      if (random(2) === 0) view.setBigUint64(at, INTERESTING[random(INTERESTING.length)]!)
      else bytes[at + random(8)] = random(256)
    }
    const file = new MemoryFile(bytes)
    const expected = async (work: () => Promise<unknown>): Promise<void> => {
      try {
        await work()
      } catch (error) {
        if (!(error instanceof BlockError)) throw error
        errors.add(error.code)
      }
    }
    await expected(async () => {
      const node = await openMemory(file)
      node.info()
      const end = Math.min(node.sizeBytes, 1 << 20)
      const buffer = new Uint8Array(8192)
      for (let at = 0; at + 8192 <= end; at += 65_536)
        await expected(() => node.readv(at, [buffer]))
      await expected(() => node.map(0, end))
      await expected(() => node.check())
      if (end >= 40_000) {
        await expected(() => node.writev(1000, [buffer]))
        await expected(() => node.writev(end - 8192, [buffer]))
        await expected(() => node.discard(0, 16_384))
        await expected(() => node.writeZeroes(20_000, 9000, false))
      }
      await expected(() => node.close())
    })
  }
  t.true(errors.has('E_BLOCK_FORMAT') && errors.has('E_BLOCK_CORRUPT'))
  t.true(process.memoryUsage.rss() - before < 512 << 20)
})
