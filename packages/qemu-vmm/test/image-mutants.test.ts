import test, { type ExecutionContext } from 'ava'
import { BlockError } from '../src/block/index.ts'
import { applySnapshot, createSnapshot, deleteSnapshot } from '../src/block/qcow2/snapshot-edit.ts'
import { MAX_L1_BYTES } from '../src/block/qcow2/header.ts'
import type { Qcow2Node } from '../src/block/qcow2/image.ts'
import { openMemory } from './support/disks.ts'
import { MemoryFile } from './support/memory-file.ts'
import { DISK_BYTES, mutated, originals } from './support/mutants.ts'
import { random } from './support/random.ts'

// Images with impossible entries: each is refused or used, with typed errors, bounded work, and no write
// outside of it. SEED=N runs one of them.
const LONG = process.env['LONG'] === '1'
const given = process.env['SEED']
const IN_A_TEST = LONG ? 10_000 : 5000
const TESTS = given === undefined ? (LONG ? 100 : 4) : 1

/** More reads than that for a small image are a loop that its tables govern. */
const MOST_READS = 4000
/** A few small writes write no more than that. */
const MOST_WRITTEN = 2 << 20
/** A table that grows is written anew: the one of a snapshot whose changed size is just possible is the largest. */
const MOST_REWRITTEN = MOST_WRITTEN + MAX_L1_BYTES
/** Refcounts that were changed may say that what lies behind the end is in use: what is new comes behind all that. */
const MOST_LENGTH = 64 << 20
/** Images that a million of them found: the size of a snapshot, and refcounts, as above. */
const FOUND = [681_328, 701_944]

const codes = new Set<string>()

async function expected(work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof BlockError)) throw error
    codes.add(error.code)
  }
}

async function look(file: MemoryFile): Promise<void> {
  const node = await openMemory(file)
  node.info()
  const end = Math.min(node.sizeBytes, DISK_BYTES)
  await expected(() => node.check())
  const buffer = new Uint8Array(8192)
  for (let at = 0; at + 8192 <= end; at += 8192) await expected(() => node.readv(at, [buffer]))
  await expected(async () => {
    for (let at = 0; at < end;) at += (await node.map(at, end - at)).length
  })
  await node.close()
}

async function change(file: MemoryFile, below: (limit: number) => number): Promise<void> {
  const node = await openMemory(file)
  if (node.sizeBytes >= DISK_BYTES) {
    const buffer = new Uint8Array(4096)
    await expected(() => node.writev(1000, [buffer]))
    await expected(() => node.writev(DISK_BYTES - 4096, [buffer]))
    await expected(() => node.discard(0, 16_384))
    await expected(() => node.writeZeroes(20_000, 9000, false))
    if (file.writtenBytes > MOST_WRITTEN) throw new Error(`${file.writtenBytes} bytes were written`)
    await expected(() => structural(node, below(5)))
  }
  await expected(() => node.close())
}

async function structural(node: Qcow2Node, kind: number): Promise<void> {
  const [first] = node.snapshots
  const date = { sec: 0, nsec: 0 }
  if (kind === 0) {
    await node.restructure((image) => createSnapshot(image, node.snapshots, { name: 'x', date }))
  } else if (kind === 1 && first !== undefined) {
    await node.restructure((image) => applySnapshot(image, first))
  } else if (kind === 2 && first !== undefined) {
    await node.restructure((image) => deleteSnapshot(image, node.snapshots, first))
  } else if (kind === 3) await node.resize(DISK_BYTES / 2)
  else await node.resize(DISK_BYTES * 4)
}

test.serial('the images that are changed are sound before', async (t) => {
  for (const image of await originals()) {
    const result = (await (await openMemory(new MemoryFile(image, true))).check())!
    t.is(result.corruptions + result.leaks + result.checkErrors, 0)
    t.true(result.allocatedClusters > 2)
  }
})

/** Uses the image of a seed. */
async function use(
  t: ExecutionContext,
  images: readonly Uint8Array[],
  seed: number,
): Promise<void> {
  const below = random(seed + 1)
  const bytes = mutated(images[seed % images.length]!, below)
  // Every eighth image is written to.
  const writes = seed % 8 === 0
  const file = new MemoryFile(bytes, !writes)
  try {
    await expected(() => (writes ? change(file, below) : look(file)))
  } catch (error) {
    throw new Error(`SEED=${seed}`, { cause: error })
  }
  if (!writes && Buffer.compare(file.contents, bytes) !== 0) t.fail(`SEED=${seed}: it was changed`)
  if (file.reads > MOST_READS) t.fail(`SEED=${seed}: ${file.reads} reads`)
  if (file.writtenBytes > MOST_REWRITTEN)
    t.fail(`SEED=${seed}: ${file.writtenBytes} bytes were written`)
  t.true(file.sizeBytes <= MOST_LENGTH, `SEED=${seed}: ${file.sizeBytes} bytes`)
}

for (const seed of FOUND) {
  test.serial(`the mutated image ${seed} does no harm`, async (t) => {
    await use(t, await originals(), seed)
  })
}

for (let part = 0; part < TESTS; part++) {
  test.serial(`mutated images do no harm (${part + 1})`, async (t) => {
    t.timeout(600_000)
    const images = await originals()
    const before = process.memoryUsage.rss()
    const first = given === undefined ? part * IN_A_TEST : Number(given)
    for (let seed = first; seed < (given === undefined ? first + IN_A_TEST : first + 1); seed++) {
      await use(t, images, seed)
    }
    t.true(process.memoryUsage.rss() - before < 512 << 20)
    if (given === undefined) t.true(codes.has('E_BLOCK_FORMAT') && codes.has('E_BLOCK_CORRUPT'))
  })
}
