// What a run leaves behind: a table in Markdown, a chart for each group, and all times in JSON.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Results } from '../lib/benchmark.ts'
import { type Group, groups } from './items.ts'
import type { Series } from './measure.ts'
import { type Aim, type ItemSummary, reached } from './summary.ts'
import { barChart } from './svg.ts'

/** A finished run. */
export interface Run {
  /** The command that repeats it. */
  readonly command: string
  /** YYYY-MM-DD */
  readonly date: string
  readonly rounds: number
  readonly surroundings: Results
  readonly series: readonly Series[]
  readonly summaries: readonly ItemSummary[]
  readonly aims: readonly Aim[]
}

const titles: Record<Group, string> = {
  kernels: 'User-mode kernels',
  programs: 'Programs of Debian',
  system: "Work of the guest's kernel",
  parallel: 'Two vCPUs',
}

const number = (value: number | undefined): string =>
  value === undefined ? '' : String(Number(value.toPrecision(3)))

function milliseconds(seconds: number | undefined): string {
  return seconds === undefined ? '' : number(seconds * 1000)
}

const inCell = (text: string): string => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ').trim()

function row(cells: readonly string[]): string {
  return `| ${cells.map(inCell).join(' | ')} |`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const rule = head.map((_, index) => (index < 2 ? '---' : '---:'))
  return [row(head), `|${rule.join('|')}|`, ...rows.map(row)].join('\n')
}

function aimTable(aims: readonly Aim[]): string {
  const verdict = (aim: Aim): string =>
    ({ true: 'reached', false: 'not yet' })[String(reached(aim))] ?? ''
  const wanted = ({ least, most }: Aim): string =>
    least === undefined ? (most === undefined ? '' : `at most ${most}`) : `at least ${least}`
  const rows = aims.map((aim) => [aim.name, wanted(aim), number(aim.value), verdict(aim)])
  return table(['mean', 'aim', 'measured', ''], rows)
}

function groupTable(items: readonly ItemSummary[]): string {
  const native = items.some(({ nativeRatio }) => nativeRatio !== undefined)
  const head = ['item', 'what it does', 'ms', 'TCG ms', 'ratio']
  const newer = items.some(({ newerRatio }) => newerRatio !== undefined)
  const more = [
    ...(newer ? ['newer TCG ms', 'ratio'] : []),
    ...(native ? ['native ms', 'times native'] : []),
  ]
  const rows = items.map((item) => {
    if (item.failure !== undefined)
      return [item.name, `failed: ${item.failure}`, '', '', '', ...more.map(() => '')]
    const { name, what, ownSeconds, peerSeconds, newerSeconds, nativeSeconds } = item
    const { ratio, newerRatio, nativeRatio } = item
    const times = [milliseconds(ownSeconds), milliseconds(peerSeconds), number(ratio)]
    const rest = [
      ...(newer ? [milliseconds(newerSeconds), number(newerRatio)] : []),
      ...(native ? [milliseconds(nativeSeconds), number(nativeRatio)] : []),
    ]
    return [name, what, ...times, ...rest]
  })
  return table([...head, ...more], rows)
}

/** The page with all numbers. */
export function markdown(run: Run): string {
  const about = Object.entries(run.surroundings).map(([name, value]) => `${name} ${value}`)
  const sections = groups.flatMap((group) => {
    const items = run.summaries.filter((item) => item.group === group)
    if (items.length === 0) return []
    const picture = hasChart(group, run) ? [`![Ratios of ${group}](engine-${group}.svg)`] : []
    return [`## ${titles[group]}`, ...picture, groupTable(items)]
  })
  return `${[
    '# The engine beside TCG',
    `<!-- Written by \`${run.command}\`; do not edit. -->`,
    `Ratios say how many times as fast as TCG the engine is: above 1 it is faster. Measured on ${run.date}, ${run.rounds === 1 ? 'one round' : `${run.rounds} rounds`}, with \`${run.command}\`: ${about.join(', ')}. [The method](../README.md) says what the columns mean.`,
    '## Means',
    aimTable(run.aims),
    ...sections,
  ].join('\n\n')}\n`
}

function ratios(group: Group, { summaries }: Run): { label: string; value: number }[] {
  return summaries.flatMap(({ name, group: own, ratio }) =>
    own === group && ratio !== undefined ? [{ label: name, value: ratio }] : [],
  )
}

const hasChart = (group: Group, run: Run): boolean =>
  group !== 'parallel' && ratios(group, run).length > 0

/** The chart of a group, its mean last. */
export function chart(group: Group, run: Run): string {
  const mean = run.aims.find(({ name }) => name === group)
  return barChart({
    title: `${titles[group]}: how many times as fast as TCG`,
    note: `${run.command}, ${run.date}; the dashed line is what the mean aims at`,
    bars: [
      ...ratios(group, run),
      ...(mean ? [{ label: 'geometric mean', value: mean.value, mean: true }] : []),
    ],
    ...(mean?.least === undefined ? {} : { aim: mean.least }),
  })
}

/** Writes all of it into a folder. */
export function writeReport(folder: string, run: Run): void {
  mkdirSync(folder, { recursive: true })
  const { series, ...rest } = run
  const times = series.map(({ item, own, peer, newer, native }) => ({
    name: item.name,
    own,
    peer,
    newer,
    native,
  }))
  const json = JSON.stringify({ ...rest, seconds: times }, undefined, 1)
  writeFileSync(join(folder, 'engine.json'), `${json}\n`)
  writeFileSync(join(folder, 'engine.md'), markdown(run))
  for (const group of groups) {
    if (hasChart(group, run)) writeFileSync(join(folder, `engine-${group}.svg`), chart(group, run))
  }
}
