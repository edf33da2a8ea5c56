// The software engine beside QEMU's own translator, item by item: see docs/benchmarks/README.md.
import { existsSync } from 'node:fs'
import { items as allItems, selectItems } from '../engine/items.ts'
import { engineFiles, type Side } from '../engine/machine.ts'
import { measure } from '../engine/measure.ts'
import { aims, summarize } from '../engine/summary.ts'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { peerVersion } from '../lib/guest-process.ts'
import { rounded } from '../lib/paired.ts'

export const name = 'engine'

export async function run(effort: Effort): Promise<Results> {
  const selected = selectItems(effort.items ?? [])
  const items = selected.filter(({ machine }) => machine !== 'disk' || existsSync(engineFiles.disk))
  if (items.length < selected.length) {
    progress("the group programs is skipped: there is no disk with Debian's programs")
  }
  const sides: Side[] = peerVersion() === undefined ? ['own'] : ['own', 'peer']
  if (sides.length === 1) progress('the peer is not installed: no ratios')
  const series = await measure(items, { sides, rounds: effort.quick ? 1 : 5 })
  const summaries = series.map(summarize)
  const means = aims(summaries, series)
  const results: Results = {}
  for (const { name, ratio, ownSeconds, nativeRatio } of summaries) {
    if (ratio !== undefined) results[`${name} ratio`] = rounded(ratio)
    else if (ownSeconds !== undefined) results[`${name} seconds`] = rounded(ownSeconds)
    if (nativeRatio !== undefined) results[`${name} nativeRatio`] = rounded(nativeRatio)
  }
  for (const { name, value } of means) results[name] = rounded(value)
  const failed = summaries.filter(({ failure }) => failure !== undefined)
  if (failed.length > 0) results['failures'] = failed.map(({ name }) => name).join(' ')
  if (items.length < allItems.length) results['items'] = items.length
  return results
}
