// A thousand definitions: making them, listing them, what they cost, and whether they outlive the daemon's death.
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { LibvirtDaemon } from '../lib/libvirt-daemon.ts'
import { median, rounded } from '../lib/paired.ts'
import { commonDomain } from './domain.ts'

const DOMAINS = 1000
/** Of each daemon in each round, in turn with the other's. */
const LISTS = 11
const ROUNDS = 5

/** What all rounds gave of one daemon. */
interface Seen {
  readonly defineS: number[]
  readonly residentMib: number[]
  /** Lists of a daemon that has listed before, round after round. */
  readonly listMs: number[]
  readonly firstListMs: number[]
}

const nothingSeen = (): Seen => ({ defineS: [], residentMib: [], listMs: [], firstListMs: [] })

/** Seconds that a new daemon takes to define all, asked by one client, one after the other. */
async function defineAll(daemon: LibvirtDaemon): Promise<number> {
  const client = await daemon.client()
  // The peer asks its emulator what it can do when it is first asked for one.
  await client.call('DOMAIN_DEFINE_XML', { xml: commonDomain('warm-up') })
  const start = performance.now()
  for (let i = 0; i < DOMAINS; i++) {
    await client.call('DOMAIN_DEFINE_XML', { xml: commonDomain(`domain-${i}`) })
  }
  const seconds = (performance.now() - start) / 1000
  await client.close()
  return seconds
}

/** Milliseconds of a `virsh list --all`. */
async function listAll(daemon: LibvirtDaemon): Promise<number> {
  const before = performance.now()
  const lines = (await daemon.virsh('list', '--all')).trim().split('\n').length
  const taken = performance.now() - before
  if (lines !== DOMAINS + 1) throw new Error(`${lines} of ${DOMAINS + 1} domains are listed`)
  return taken
}

type Side = 'own' | 'peer'

/** New daemons of all sides at once, so that lists are measured in turn, and nothing that the machine does hits one side. */
async function round(
  sides: readonly Side[],
  seen: Record<Side, Seen>,
  ended: LibvirtDaemon[],
): Promise<void> {
  const daemons: [Seen, LibvirtDaemon][] = []
  try {
    for (const side of sides) {
      const daemon = await LibvirtDaemon.start(side)
      daemons.push([seen[side], daemon])
      seen[side].defineS.push(await defineAll(daemon))
      seen[side].residentMib.push(daemon.residentMib)
    }
    for (const [{ firstListMs }, daemon] of daemons) firstListMs.push(await listAll(daemon))
    for (let i = 0; i < LISTS; i++) {
      for (const [{ listMs }, daemon] of daemons) listMs.push(await listAll(daemon))
      daemons.reverse()
    }
  } finally {
    for (const [, daemon] of daemons) {
      await daemon.end()
      ended.push(daemon)
    }
  }
}

/** Definitions that were answered and are not there after the daemon was killed in the middle of more. */
async function lostByKill(): Promise<number> {
  const daemon = await LibvirtDaemon.start('own')
  try {
    const client = await daemon.client()
    const kept: string[] = []
    const calls = Array.from({ length: DOMAINS }, async (_, i) => {
      const name = `domain-${i}`
      await client.call('DOMAIN_DEFINE_XML', { xml: commonDomain(name) })
      kept.push(name)
      if (kept.length === DOMAINS >> 1) await daemon.kill()
    })
    await Promise.allSettled(calls)
    await daemon.startAgain()
    const list = (await daemon.virsh('list', '--all', '--name')).split('\n')
    const there = new Set(list.map((name) => name.trim()))
    progress(`${kept.length} definitions were answered before the daemon was killed`)
    return kept.filter((name) => !there.has(name)).length
  } finally {
    await daemon.stop()
  }
}

/** The median of own / peer, each of them with the other's next to it. */
const ratioOf = (own: readonly number[], peer: readonly number[]): number =>
  median(own.map((value, i) => value / (peer[i] ?? Number.NaN)))

/** The smallest and the largest ratio that a round gave. */
function ratioRange(own: readonly number[], peer: readonly number[]): number[] {
  const ratios: number[] = []
  for (let at = 0; at < own.length; at += LISTS) {
    ratios.push(ratioOf(own.slice(at, at + LISTS), peer.slice(at, at + LISTS)))
  }
  return [Math.min(...ratios), Math.max(...ratios)]
}

export async function measureDefinitions(effort: Effort, hasPeer: boolean): Promise<Results> {
  progress(`${DOMAINS} definitions`)
  const seen = { own: nothingSeen(), peer: nothingSeen() }
  const { own, peer } = seen
  const count = effort.quick ? 2 : ROUNDS
  // Removed at the end: a file system that looks for places that were not free just now makes files slowly after that.
  const ended: LibvirtDaemon[] = []
  try {
    for (let i = 0; i < count; i++) {
      const sides: Side[] = hasPeer ? ['own', 'peer'] : ['own']
      await round(i % 2 === 0 ? sides : sides.toReversed(), seen, ended)
      const of = ({ defineS, listMs }: Seen): string =>
        `${defineS.at(-1)?.toFixed(2)} s, lists ${median(listMs.slice(-LISTS)).toFixed(0)} ms`
      progress(
        `round ${i + 1} of ${count}: ${of(own)}; ${hasPeer ? `peer ${of(peer)}` : 'no peer'}`,
      )
    }
  } finally {
    for (const daemon of ended) daemon.remove()
  }
  const results: Results = {}
  if (hasPeer) {
    const [least = Number.NaN, most = Number.NaN] = ratioRange(own.listMs, peer.listMs)
    Object.assign(results, {
      peerDefineS: rounded(median(peer.defineS)),
      defineRatio: rounded(ratioOf(own.defineS, peer.defineS)),
      peerListMs: rounded(median(peer.listMs)),
      peerFirstListMs: rounded(median(peer.firstListMs)),
      listRatio: rounded(ratioOf(own.listMs, peer.listMs)),
      listRatioLeast: rounded(least),
      listRatioMost: rounded(most),
      peerIdleMiB: rounded(median(peer.residentMib)),
    })
  }
  return {
    ...results,
    ownDefineS: rounded(median(own.defineS)),
    ownListMs: rounded(median(own.listMs)),
    ownFirstListMs: rounded(median(own.firstListMs)),
    ownIdleMiB: rounded(median(own.residentMib)),
    lostByKill: await lostByKill(),
  }
}
