// The software engine beside QEMU's own translator, item by item: see docs/benchmarks/README.md.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { items as allItems, selectItems } from '../engine/items.ts'
import { type Side, engineFiles } from '../engine/machine.ts'
import { measure } from '../engine/measure.ts'
import { writeReport } from '../engine/report.ts'
import { type Aim, type ItemSummary, aims, summarize } from '../engine/summary.ts'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { newerPeerCommand, peerVersion } from '../lib/guest-process.ts'
import { rounded } from '../lib/paired.ts'
import { surroundings } from '../lib/surroundings.ts'

const root = new URL('../../../', import.meta.url)
/** What everybody reads, and what a run leaves that measured less than everything. */
const published = fileURLToPath(new URL('docs/benchmarks/generated', root))
const partial = fileURLToPath(new URL('.cache/bench', root))

export const name = 'engine'

export async function run(effort: Effort): Promise<Results> {
  const { quick, items: names = [] } = effort
  const selected = selectItems(names)
  const items = selected.filter(({ machine }) => machine !== 'disk' || existsSync(engineFiles.disk))
  if (items.length < selected.length) {
    progress("the group programs is skipped: there is no disk with Debian's programs")
  }
  const sides: Side[] = peerVersion() === undefined ? ['own'] : ['own', 'peer']
  if (sides.length === 1) progress('the peer is not installed: no ratios')
  const newer = peerVersion(newerPeerCommand)
  if (newer === undefined) progress('there is no newer release of the peer here: it is left out')
  else sides.push('newer')
  const rounds = quick ? 1 : 5
  // Who else was running: on a busy host the numbers are worth less.
  const load = rounded(loadavg()[0] ?? 0)
  const series = await measure(items, { sides, rounds })
  const summaries = series.map(summarize)
  const means = aims(summaries, series)
  const complete = !quick && items.length === allItems.length && sides.includes('peer')
  const folder = complete ? published : partial
  const options = [...(quick ? ['--quick'] : []), ...(names.length > 0 ? [`--items=${names}`] : [])]
  writeReport(folder, {
    command: ['npm run bench -- engine', ...options].join(' '),
    date: new Date().toISOString().slice(0, 10),
    rounds,
    surroundings: {
      ...surroundings(quick),
      ...(newer === undefined ? {} : { 'newer TCG': newer }),
      compiler: compilerVersion(),
      load,
    },
    series,
    summaries,
    aims: means,
  })
  progress(`tables and charts are in ${folder}`)
  return results(summaries, means)
}

/** Of the compiler that the set-up calls, too. */
function compilerVersion(): string {
  const { stdout } = spawnSync(process.env['CC'] || 'cc', ['--version'], { encoding: 'utf8' })
  return stdout?.split('\n')[0] ?? 'unknown'
}

function results(summaries: readonly ItemSummary[], means: readonly Aim[]): Results {
  const all: Results = {}
  for (const { name, ratio, ownSeconds, nativeRatio } of summaries) {
    if (ratio !== undefined) all[`${name} ratio`] = rounded(ratio)
    else if (ownSeconds !== undefined) all[`${name} seconds`] = rounded(ownSeconds)
    if (nativeRatio !== undefined) all[`${name} nativeRatio`] = rounded(nativeRatio)
  }
  for (const { name, value } of means) all[name] = rounded(value)
  const failed = summaries.filter(({ failure }) => failure !== undefined)
  if (failed.length > 0) all['failures'] = failed.map(({ name }) => name).join(' ')
  return all
}
