// What the engine benchmark publishes.
import test from 'ava'
import { type Item, items } from '../src/engine/items.ts'
import { type Run, chart, markdown } from '../src/engine/report.ts'
import { aims, summarize } from '../src/engine/summary.ts'
import { barChart, range } from '../src/engine/svg.ts'

function exampleRun(): Run {
  const find = (name: string): Item => items.find((item) => item.name === name) as Item
  const series = [
    { item: find('lz'), own: [0.1], peer: [0.4], newer: [0.3], native: [0.05] },
    { item: find('boot'), own: [4], peer: [2], newer: [], native: [] },
    {
      item: find('crc32'),
      own: [1],
      peer: [1],
      newer: [1],
      native: [1],
      failure: 'own: hung | badly\n# ',
    },
  ]
  const summaries = series.map(summarize)
  return {
    command: 'npm run bench -- engine',
    date: '2000-01-02',
    rounds: 5,
    surroundings: { node: 'v20' },
    series,
    summaries,
    aims: aims(summaries, series),
  }
}

test('the page has every item, each failure, and the command', (t) => {
  const page = markdown(exampleRun())
  t.true(page.includes('| lz | literals and back references | 100 | 400 | 4 | 300 | 3 | 50 | 2 |'))
  t.true(page.includes("| boot | from the command to the shell's prompt | 4000 | 2000 | 0.5 |"))
  t.true(page.includes('| crc32 | failed: own: hung \\| badly # |'))
  t.true(page.includes('| system | at least 2.5 | 0.5 | not yet |'))
  t.true(page.includes('`npm run bench -- engine`'))
  t.true(page.includes('![Ratios of kernels](engine-kernels.svg)'))
  t.false(page.includes('undefined'))
})

test('a chart has a bar for each item that has a ratio, and the mean', (t) => {
  const svg = chart('kernels', exampleRun())
  const labels = [...svg.matchAll(/<text[^>]*text-anchor="end"[^>]*>([^<]*)</g)].map(
    ([, label]) => label,
  )
  t.deepEqual(labels, ['lz', 'geometric mean'])
  t.regex(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" [^>]*>/)
  t.true(svg.endsWith('</svg>\n'))
})

test('bars begin at 1 and go to both sides', (t) => {
  const svg = barChart({
    title: 'a < b & "c"',
    note: '',
    bars: [
      { label: 'fast', value: 4 },
      { label: 'slow', value: 0.25 },
    ],
  })
  const [fast, slow] = [...svg.matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)"/g)].map(
    ([, x, width]) => ({ x: Number(x), width: Number(width) }),
  )
  t.is(fast?.width, slow?.width)
  t.is((slow?.x ?? 0) + (slow?.width ?? 0), fast?.x ?? -1)
  t.true(svg.includes('<title>a &lt; b &amp; &quot;c&quot;</title>'))
})

test('the scale encloses all values and 1', (t) => {
  t.deepEqual(range([3, 5]), { low: -1, high: 3 })
  t.deepEqual(range([0.03]), { low: -6, high: 1 })
  t.deepEqual(range([]), { low: -1, high: 1 })
})

test('a value that is no ratio is refused', (t) => {
  for (const value of [0, -1, Number.NaN, Infinity]) {
    const bars = [{ label: 'wrong', value }]
    t.throws(() => barChart({ title: '', note: '', bars }), { message: /wrong is/ })
  }
})
