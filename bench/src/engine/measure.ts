// The rounds: both sides' machines wait at their shells at the same time, and each item runs in one right after the other,
// so that what slows this host down slows both.
import { progress } from '../lib/benchmark.ts'
import { type Item, type MachineKind, bootItem } from './items.ts'
import { ClockError, EngineMachine, type Sample, type Side, runNatively } from './machine.ts'

/** What was measured of an item, one value for each round. */
export interface Series {
  readonly item: Item
  readonly own: number[]
  readonly peer: number[]
  /** The newer release of the peer. */
  readonly newer: number[]
  readonly native: number[]
  /** Why it has no result. */
  failure?: string
}

type Machines = Map<Side, EngineMachine>

/** Measures the items `rounds` times on the sides. */
export async function measure(
  items: readonly Item[],
  { sides, rounds }: { sides: readonly Side[]; rounds: number },
): Promise<Series[]> {
  const series = items.map((item) => ({ item, own: [], peer: [], newer: [], native: [] }) as Series)
  const kinds = [...new Set(items.map(({ machine }) => machine))]
  for (let round = 0; round < rounds; round++) {
    // Who is first changes, so that it is nobody's advantage.
    const order = round % 2 === 0 ? sides : sides.toReversed()
    for (const kind of kinds) {
      progress(`round ${round + 1} of ${rounds}: ${kind} machine`)
      const chosen = series.filter(({ item }) => item.machine === kind)
      await measureRound(kind, chosen, order)
    }
  }
  return series
}

async function measureRound(
  kind: MachineKind,
  series: readonly Series[],
  order: readonly Side[],
): Promise<void> {
  const machines: Machines = new Map()
  try {
    for (const side of order) machines.set(side, await EngineMachine.boot(side, kind))
    for (const one of series) {
      if (one.failure !== undefined) continue
      if (one.item.name === bootItem) {
        for (const [side, machine] of machines) one[side].push(machine.bootSeconds)
      } else {
        await measureItem(one, machines, order)
      }
      progress(line(one))
    }
    for (const [side, machine] of machines) {
      const trouble = machine.clockTrouble()
      if (trouble !== undefined) throw new Error(`${side}, over all items: ${trouble}`)
    }
  } finally {
    for (const machine of machines.values()) await machine.stop()
  }
}

async function measureItem(one: Series, machines: Machines, order: readonly Side[]): Promise<void> {
  const { item } = one
  const sums = new Map<string, string>()
  const take = (who: 'native' | Side, { seconds, sum }: Sample): void => {
    one[who].push(seconds)
    sums.set(who, sum)
  }
  for (const side of order) {
    try {
      const machine = machines.get(side) ?? (await EngineMachine.boot(side, item.machine))
      machines.set(side, machine)
      take(side, await runPatiently(machine, item))
    } catch (error) {
      one.failure = `${side}: ${error instanceof Error ? error.message : String(error)}`
      progress(`${item.name} failed, ${one.failure}`)
      // It may still be running; the items behind it get a machine without it.
      await machines.get(side)?.stop()
      machines.delete(side)
      return
    }
  }
  if (item.native) take('native', runNatively(item))
  if (new Set(sums.values()).size > 1) {
    one.failure = `the checksums differ: ${[...sums].map(([who, sum]) => `${who} ${sum}`).join(', ')}`
  }
}

/** A late line spoils a measurement, which is then made again; a clock that is wrong is wrong each time. */
async function runPatiently(machine: EngineMachine, item: Item, tries = 3): Promise<Sample> {
  try {
    return await machine.run(item)
  } catch (error) {
    if (!(error instanceof ClockError) || tries <= 1) throw error
    progress(`  ${item.name} once more: ${error.message}`)
    return await runPatiently(machine, item, tries - 1)
  }
}

function line({ item, own, peer, newer, native }: Series): string {
  const parts = Object.entries({ own, peer, newer, native }).flatMap(([who, values]) =>
    values.length > 0 ? [`${who} ${values.at(-1)?.toFixed(3)} s`] : [],
  )
  return `  ${item.name}: ${parts.join(', ')}`
}
