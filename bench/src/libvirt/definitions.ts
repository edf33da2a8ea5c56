// A thousand definitions: making them, listing them, what they cost, and whether they outlive the daemon's death.
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { LibvirtDaemon } from '../lib/libvirt-daemon.ts'
import { type Pair, median, paired, repeated, rounded } from '../lib/paired.ts'
import { commonDomain } from './domain.ts'

const DOMAINS = 1000
const LISTS = 5

/** What a round measures besides the time that it takes to define. */
interface Seen {
  readonly listMs: number[]
  readonly residentMib: number[]
}

/** Seconds that a new daemon takes to define all, asked by one client, one after the other. */
async function defineAll(side: 'own' | 'peer', seen: Seen): Promise<number> {
  const daemon = await LibvirtDaemon.start(side)
  try {
    const client = await daemon.client()
    // The peer asks its emulator what it can do when it is first asked for one.
    await client.call('DOMAIN_DEFINE_XML', { xml: commonDomain('warm-up') })
    const start = performance.now()
    for (let i = 0; i < DOMAINS; i++) {
      await client.call('DOMAIN_DEFINE_XML', { xml: commonDomain(`domain-${i}`) })
    }
    const seconds = (performance.now() - start) / 1000
    seen.residentMib.push(daemon.residentMib)
    const times: number[] = []
    for (let i = 0; i < LISTS; i++) {
      const before = performance.now()
      const lines = (await daemon.virsh('list', '--all')).trim().split('\n').length
      times.push(performance.now() - before)
      if (lines !== DOMAINS + 1) throw new Error(`${lines} of ${DOMAINS + 1} domains are listed`)
    }
    seen.listMs.push(median(times))
    await client.close()
    return seconds
  } finally {
    await daemon.stop()
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

const merge = (own: readonly number[], peer: readonly number[]): Pair => ({
  own: median(own),
  peer: median(peer),
  ratio: median(own.map((value, round) => value / (peer[round] ?? Number.NaN))),
})

export async function measureDefinitions(effort: Effort, hasPeer: boolean): Promise<Results> {
  const own: Seen = { listMs: [], residentMib: [] }
  const peer: Seen = { listMs: [], residentMib: [] }
  progress(`${DOMAINS} definitions`)
  const measureOwn = (): Promise<number> => defineAll('own', own)
  const results: Results = {}
  if (hasPeer) {
    const define = await paired({ own: measureOwn, peer: () => defineAll('peer', peer) }, effort)
    const list = merge(own.listMs, peer.listMs)
    Object.assign(results, {
      peerDefineS: rounded(define.peer),
      defineRatio: rounded(define.ratio),
      peerListMs: rounded(list.peer),
      listRatio: rounded(list.ratio),
      peerIdleMiB: rounded(median(peer.residentMib)),
      ownDefineS: rounded(define.own),
    })
  } else results['ownDefineS'] = rounded(await repeated(measureOwn, effort))
  return {
    ...results,
    ownListMs: rounded(median(own.listMs)),
    ownIdleMiB: rounded(median(own.residentMib)),
    lostByKill: await lostByKill(),
  }
}
