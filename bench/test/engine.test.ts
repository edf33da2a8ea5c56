// The parts of the engine benchmark that judge: what they let pass is published.
import test from 'ava'
import { type Item, items, selectItems } from '../src/engine/items.ts'
import type { Series } from '../src/engine/measure.ts'
import { clockTrouble, parseRate, parseResult, resultLine } from '../src/engine/protocol.ts'
import { aims, geomean, reached, summarize } from '../src/engine/summary.ts'

test('items are chosen by their names and their groups', (t) => {
  t.is(selectItems([]), items)
  const names = selectItems(['crc32', 'parallel']).map(({ name }) => name)
  t.deepEqual(names, ['crc32', 'parallel-1', 'parallel-2'])
  t.throws(() => selectItems(['crc33']), { instanceOf: RangeError, message: /no item crc33/ })
  t.is(new Set(items.map(({ name }) => name)).size, items.length)
})

test('a result is read from a console with other words on it', (t) => {
  const text = 'noise\r\nresult lz 1500000000 00ff00ff00ff00ff\r\n~ # '
  t.deepEqual(parseResult(text), { name: 'lz', seconds: 1.5, sum: '00ff00ff00ff00ff' })
  t.true(resultLine('lz').test(text))
  // What the shell echoes, another item's line, and a line that is not yet complete are none.
  t.false(resultLine('l').test(text))
  t.false(resultLine('lz').test('# engine-suite lz\r\n'))
  t.false(resultLine('lz').test('\nresult lz 15 00ff00ff00ff00ff'))
  t.throws(() => parseResult('Segmentation fault'), { message: /no result in: Segm/ })
})

test('a rate is read from what openssl speed says', (t) => {
  t.is(parseRate('+DT:sha256:1:8192\r\n+R:5:sha256:1.0\r\n+F:7:sha256:2097152.00\r\n'), 0.5)
  t.is(parseRate('+F2:2:2048:80.000000:3000.000000\r\n'), 1 / 80)
  t.throws(() => parseRate('unknown algorithm'), { message: /no rate in/ })
})

test('a guest whose clock runs slowly is found out', (t) => {
  t.is(clockTrouble(1, 1.02), undefined)
  t.is(clockTrouble(0.3, 0.34), undefined)
  t.regex(clockTrouble(0.5, 1) ?? '', /counted 0\.500 s while/)
  t.regex(clockTrouble(1.5, 1) ?? '', /counted 1\.500 s while/)
  // In one item it may be a delay of the console, in many it is not.
  t.is(clockTrouble(0.92, 1), undefined)
  t.not(clockTrouble(27.6, 30, 30), undefined)
})

test('means are geometric', (t) => {
  t.true(Math.abs(geomean([1, 4, 16]) - 4) < 1e-12)
  t.throws(() => geomean([]), { instanceOf: RangeError })
})

function series(
  name: string,
  values: { own?: number[]; peer?: number[]; newer?: number[]; native?: number[] },
): Series {
  const item = items.find((one) => one.name === name) as Item
  return { item, own: [], peer: [], newer: [], native: [], ...values }
}

test('a ratio is the median of the rounds, not the ratio of the medians', (t) => {
  const own = [1, 2, 4]
  const summary = summarize(series('lz', { own, peer: [3, 2, 4], native: [0.5, 0.5, 0.5] }))
  t.is(summary.ratio, 1)
  t.is(summary.nativeRatio, 4)
  t.is(summary.ownSeconds, 2)
  t.false('ratio' in summarize(series('lz', { own })))
})

test('an item that failed has no numbers', (t) => {
  const failed = { ...series('lz', { own: [1], peer: [2] }), failure: 'the checksums differ' }
  const summary = summarize(failed)
  t.is(summary.ratio, undefined)
  t.is(summary.failure, 'the checksums differ')
})

test('means say what they aim at and whether it is reached', (t) => {
  const all = [
    series('lz', { own: [1], peer: [2], native: [0.5] }),
    series('nbody', { own: [1], peer: [8], newer: [4] }),
    series('parallel-1', { own: [3], peer: [3] }),
    series('parallel-2', { own: [1.5], peer: [3] }),
  ]
  const means = aims(all.map(summarize), all)
  const value = (name: string): number =>
    Math.round((means.find((mean) => mean.name === name)?.value ?? 0) * 1000) / 1000
  t.is(value('kernels, integer'), 2)
  t.is(value('kernels'), 4)
  t.is(value('slowest item'), 2)
  t.is(value('kernels, newer TCG'), 4)
  t.is(value('two vCPUs against one'), 2)
  t.is(value('two vCPUs against one, TCG'), 1)
  t.is(value('time against native, integer kernels'), 2)
  const verdicts = Object.fromEntries(means.map((mean) => [mean.name, reached(mean)]))
  t.false(verdicts['kernels, integer'])
  t.true(verdicts['kernels'])
  t.true(verdicts['time against native, integer kernels'])
  t.is(verdicts['two vCPUs against one, TCG'], undefined)
})
