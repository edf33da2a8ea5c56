// Paired measurement: both sides in turn within one run, so that a machine that slows down slows both.
import { type Effort, progress } from './benchmark.ts'

/** The middle value, or the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('there is no median of nothing')
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const high = sorted[middle] ?? 0
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? 0)) / 2
}

/** A side of a comparison: measures once and resolves to the value. */
export type Measure = () => Promise<number>

/** Medians of both sides, and how many times `peer` fits into `own`. */
export interface Pair {
  readonly own: number
  readonly peer: number
  /** own / peer, the median of each round's ratio: below 1 we are the smaller. */
  readonly ratio: number
}

/** Measures both sides `rounds` times in turn (2 when quick), changing who is first. */
export async function paired(
  { own, peer }: { own: Measure; peer: Measure },
  effort: Effort,
  rounds = 5,
): Promise<Pair> {
  const owns: number[] = []
  const peers: number[] = []
  const count = effort.quick ? Math.min(2, rounds) : rounds
  for (let round = 0; round < count; round++) {
    if (round % 2 === 1) peers.push(await peer())
    owns.push(await own())
    if (round % 2 === 0) peers.push(await peer())
    progress(`round ${round + 1} of ${count}: own ${owns.at(-1)}, peer ${peers.at(-1)}`)
  }
  const ratios = owns.map((value, round) => value / (peers[round] ?? Number.NaN))
  return { own: median(owns), peer: median(peers), ratio: median(ratios) }
}

/** The median of `rounds` measurements of one side (2 when quick). */
export async function repeated(measure: Measure, effort: Effort, rounds = 5): Promise<number> {
  const values: number[] = []
  const count = effort.quick ? Math.min(2, rounds) : rounds
  for (let round = 0; round < count; round++) values.push(await measure())
  return median(values)
}

/** Three significant digits: more is noise. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3))
}
