// From the rounds' times to what is published.
import { median } from '../lib/paired.ts'
import { type Group, groups } from './items.ts'
import type { Series } from './measure.ts'

/** One line of the report. */
export interface ItemSummary {
  readonly name: string
  readonly group: Group
  readonly what: string
  readonly integer: boolean
  /** Medians, in seconds. */
  readonly ownSeconds?: number
  readonly peerSeconds?: number
  readonly newerSeconds?: number
  readonly nativeSeconds?: number
  /** How many times as fast as the peer: the median of the rounds' ratios. */
  readonly ratio?: number
  /** The same of the newer release of the peer. */
  readonly newerRatio?: number
  /** How many times as long as on the host itself. */
  readonly nativeRatio?: number
  readonly failure?: string
}

/** A mean with the number that is aimed at. */
export interface Aim {
  readonly name: string
  readonly value: number
  readonly least?: number
  readonly most?: number
}

/** The geometric mean. */
export function geomean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('there is no mean of nothing')
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}

/** The median of the ratios of each round. */
function ratioOf(above: readonly number[], below: readonly number[]): number | undefined {
  const ratios = above.map((value, round) => value / (below[round] ?? Number.NaN))
  return ratios.length > 0 && ratios.every((value) => value > 0) ? median(ratios) : undefined
}

const optional = (values: readonly number[]): number | undefined =>
  values.length > 0 ? median(values) : undefined

/** Keeps what is known. */
function known<T extends object>(values: T): T {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as T
}

/** Medians and ratios of an item. */
export function summarize({ item, own, peer, newer, native, failure }: Series): ItemSummary {
  const { name, group, what, integer = false } = item
  if (failure !== undefined) return { name, group, what, integer, failure }
  const numbers = {
    ownSeconds: optional(own),
    peerSeconds: optional(peer),
    newerSeconds: optional(newer),
    nativeSeconds: optional(native),
    ratio: ratioOf(peer, own),
    newerRatio: ratioOf(newer, own),
    nativeRatio: ratioOf(own, native),
  }
  return { name, group, what, integer, ...known(numbers) } as ItemSummary
}

const defined = (values: readonly (number | undefined)[]): number[] =>
  values.filter((value) => value !== undefined)

/** All means that there are numbers for. A failed item has none: the mean is of the others, and the failure is told. */
export function aims(all: readonly ItemSummary[], series: readonly Series[]): Aim[] {
  const ratios = (accept: (item: ItemSummary) => boolean): number[] =>
    defined(all.filter(accept).map(({ ratio }) => ratio))
  const result: Aim[] = []
  const add = (name: string, values: readonly number[], limits: Partial<Aim>): void => {
    if (values.length > 0) result.push({ name, value: geomean(values), ...limits })
  }
  add(
    'kernels, integer',
    ratios(({ integer }) => integer),
    { least: 2.2 },
  )
  const least = { kernels: 3, programs: 3, system: 2.5 } as const
  for (const group of groups) {
    if (group === 'parallel') continue
    add(
      group,
      ratios((item) => item.group === group),
      { least: least[group] },
    )
  }
  const boot = all.find(({ name }) => name === 'boot')?.ratio
  add('boot', defined([boot]), { least: 2 })
  const single = ratios(({ group }) => group !== 'parallel')
  if (single.length > 0) result.push({ name: 'slowest item', value: Math.min(...single), least: 1 })
  const native = all.filter(({ integer }) => integer).map(({ nativeRatio }) => nativeRatio)
  add('time against native, integer kernels', defined(native), { most: 2.2 })
  for (const group of groups) {
    const newer = all.filter((item) => item.group === group).map(({ newerRatio }) => newerRatio)
    if (group !== 'parallel') add(`${group}, newer TCG`, defined(newer), {})
  }
  const speedups = twoAgainstOne(series)
  add('two vCPUs against one', defined([speedups.own]), { least: 1.8 })
  add('two vCPUs against one, TCG', defined([speedups.peer]), {})
  return result
}

/** How many times as fast a job of two parts is on two vCPUs. */
function twoAgainstOne(series: readonly Series[]): { own?: number; peer?: number } {
  const one = series.find(({ item }) => item.name === 'parallel-1')
  const two = series.find(({ item }) => item.name === 'parallel-2')
  if (!one || !two || one.failure !== undefined || two.failure !== undefined) return {}
  return known({ own: ratioOf(one.own, two.own), peer: ratioOf(one.peer, two.peer) }) as {
    own?: number
    peer?: number
  }
}

/** Whether an aim is reached; undefined when there is nothing to reach. */
export function reached({ value, least, most }: Aim): boolean | undefined {
  if (least !== undefined) return value >= least
  return most === undefined ? undefined : value <= most
}
