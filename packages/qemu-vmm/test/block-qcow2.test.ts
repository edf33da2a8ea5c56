import test from 'ava'
import * as fc from 'fast-check'
import type { BlockNode } from '../src/block/index.ts'
import { emptyImage, openMemory, readAll } from './support/disks.ts'
import type { MemoryFile } from './support/memory-file.ts'

const LONG = process.env['LONG'] === '1'
const RUNS = LONG ? 400 : 40
const SECTORS = 512
const SIZE = SECTORS * 512

type Operation =
  | { readonly kind: 'write'; readonly at: number; readonly sectors: number; readonly fill: number }
  | {
      readonly kind: 'zero' | 'discard'
      readonly at: number
      readonly sectors: number
      readonly unmap: boolean
    }
  | { readonly kind: 'flush' | 'reopen' | 'crash' }

const range = { at: fc.nat(SECTORS - 1), sectors: fc.integer({ min: 1, max: 40 }) }
const write = fc.record({
  kind: fc.constant('write' as const),
  ...range,
  fill: fc.integer({ min: 1, max: 255 }),
})
const clear = fc.record({
  kind: fc.constantFrom('zero' as const, 'discard' as const),
  ...range,
  unmap: fc.boolean(),
})
const other = fc.record({ kind: fc.constantFrom('flush' as const, 'reopen' as const) })
const operations = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: write },
    { weight: 2, arbitrary: clear },
    { weight: 2, arbitrary: other },
  ),
  { maxLength: 60 },
) as fc.Arbitrary<Operation[]>
const layout = fc.record({
  clusterSize: fc.constantFrom(512, 1024, 4096, 65536),
  refcountBits: fc.constantFrom(1, 2, 8, 16, 64),
  version: fc.constant(3 as const),
})

function place(operation: { at: number; sectors: number }): readonly [number, number] {
  const sectors = Math.min(operation.sectors, SECTORS - operation.at)
  return [operation.at * 512, sectors * 512]
}

async function apply(node: BlockNode, model: Uint8Array, operation: Operation): Promise<void> {
  if (operation.kind === 'write') {
    const [offset, length] = place(operation)
    const bytes = new Uint8Array(length).fill(operation.fill)
    const cut = Math.floor(length / 3)
    await node.writev(offset, [bytes.subarray(0, cut), bytes.subarray(cut)])
    model.set(bytes, offset)
  } else if (operation.kind === 'zero') {
    const [offset, length] = place(operation)
    await node.writeZeroes(offset, length, operation.unmap)
    model.fill(0, offset, offset + length)
  } else if (operation.kind === 'discard') {
    const [offset, length] = place(operation)
    await node.discard(offset, length)
    // Whole clusters read as zeros now, the rest as before: the image says which.
    const now = new Uint8Array(length)
    await node.readv(offset, [now])
    for (let i = 0; i < length; i++) {
      if (now[i] !== 0 && now[i] !== model[offset + i])
        throw new Error(`discard changed ${offset + i}`)
    }
    model.set(now, offset)
  } else if (operation.kind === 'flush') await node.flush()
}

test('an image behaves like an array of bytes and stays consistent', async (t) => {
  await fc.assert(
    fc.asyncProperty(layout, operations, async (options, list) => {
      const file = await emptyImage(SIZE, options)
      const model = new Uint8Array(SIZE)
      let node = await openMemory(file)
      for (const operation of list) {
        if (operation.kind === 'reopen') {
          await node.close()
          node = await openMemory(file)
        } else await apply(node, model, operation)
      }
      t.deepEqual(Buffer.compare(await readAll(node), model), 0)
      const result = await node.check()
      t.is(result.corruptions + result.checkErrors + result.leaks, 0)
      await node.close()
    }),
    { numRuns: RUNS },
  )
})

test('requests that overlap in time leave a consistent image', async (t) => {
  await fc.assert(
    fc.asyncProperty(layout, operations, async (options, list) => {
      const file = await emptyImage(SIZE, options)
      const node = await openMemory(file)
      // Each sector holds one of the values that were written to it, or zero.
      const allowed = Array.from({ length: SECTORS }, () => new Set([0]))
      const running = list.map((operation) => {
        if (operation.kind === 'write') {
          const [offset, length] = place(operation)
          for (let i = 0; i < length / 512; i++) allowed[offset / 512 + i]!.add(operation.fill)
          return node.writev(offset, [new Uint8Array(length).fill(operation.fill)])
        }
        if (operation.kind === 'zero') return node.writeZeroes(...place(operation), operation.unmap)
        if (operation.kind === 'discard') return node.discard(...place(operation))
        return node.flush()
      })
      await Promise.all(running)
      const bytes = await readAll(node)
      for (let i = 0; i < SECTORS; i++) {
        const sector = bytes.subarray(i * 512, i * 512 + 512)
        if (!allowed[i]!.has(sector[0]!) || sector.some((byte) => byte !== sector[0])) {
          t.fail(`sector ${i} is torn or foreign`)
        }
      }
      const result = await node.check()
      t.is(result.corruptions + result.checkErrors + result.leaks, 0)
    }),
    { numRuns: RUNS },
  )
})

test('a crash leaks clusters at worst and keeps what was flushed', async (t) => {
  const seeds = fc.array(fc.boolean(), { minLength: 1, maxLength: 64 })
  await fc.assert(
    fc.asyncProperty(
      layout,
      operations,
      operations,
      seeds,
      async (options, before, after, keep) => {
        const file = await emptyImage(SIZE, options)
        const model = new Uint8Array(SIZE)
        const node = await openMemory(file)
        for (const operation of before) await apply(node, model, operation)
        await node.flush()
        // From here on, each sector may be as it was flushed or as anything that came later left it.
        const touched = new Set<number>()
        const later = new Uint8Array(model)
        for (const operation of after) {
          if ('at' in operation) {
            const [offset, length] = place(operation)
            for (let i = 0; i < length / 512; i++) touched.add(offset / 512 + i)
          }
          if (operation.kind !== 'flush') await apply(node, later, operation)
        }
        let turn = 0
        await judge(
          t,
          file.crash(() => keep[turn++ % keep.length]!),
          model,
          touched,
        )
        await judge(
          t,
          file.crash(() => false),
          model,
          touched,
        )
        await judge(
          t,
          file.crash(() => true),
          model,
          touched,
        )
      },
    ),
    { numRuns: RUNS },
  )
})

async function judge(
  t: { is(a: unknown, b: unknown, message?: string): void; fail(message: string): void },
  file: MemoryFile,
  model: Uint8Array,
  touched: ReadonlySet<number>,
): Promise<void> {
  const node = await openMemory(file)
  const lines: string[] = []
  const result = await node.check({ report: (line) => lines.push(line) })
  t.is(result.corruptions + result.checkErrors, 0, lines.join('\n'))
  const bytes = await readAll(node)
  for (let i = 0; i < SECTORS; i++) {
    if (touched.has(i)) continue
    if (
      Buffer.compare(
        bytes.subarray(i * 512, i * 512 + 512),
        model.subarray(i * 512, i * 512 + 512),
      ) !== 0
    ) {
      t.fail(`flushed sector ${i} was lost`)
    }
  }
}

test('an in-place write and a read with the table in memory are one file operation each', async (t) => {
  const file = await emptyImage(1 << 20, { clusterSize: 65536 })
  const node = await openMemory(file)
  await node.writev(0, [new Uint8Array(1 << 18).fill(1)])
  const { reads } = file
  let writes = 0
  file.fail = () => {
    writes++
    return undefined
  }
  await node.writev(4096, [new Uint8Array(131072).fill(2)])
  t.is(writes, 1)
  await node.readv(0, [new Uint8Array(1 << 18)])
  t.is(file.reads - reads, 1)
})

test('a full disk fails the write and leaves a consistent image', async (t) => {
  const file = await emptyImage(SIZE)
  const node = await openMemory(file)
  await node.writev(0, [new Uint8Array(8192).fill(1)])
  await node.flush()
  const end = file.sizeBytes
  file.fail = (offset, length) => (offset + length > end ? 'ENOSPC' : undefined)
  for (let i = 0; i < 20; i++) {
    await t.throwsAsync(node.writev(65536 + i * 4096, [new Uint8Array(4096).fill(2)]), {
      code: 'E_BLOCK_IO',
    })
  }
  file.fail = undefined
  await node.writev(65536, [new Uint8Array(4096).fill(3)])
  const result = await node.check()
  t.is(result.corruptions + result.checkErrors, 0)
  const bytes = new Uint8Array(4096)
  await node.readv(0, [bytes])
  t.true(bytes.every((byte) => byte === 1))
})
