// `virsh domstats` of many running domains whose guests are halted.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { writeHaltedDisk } from '../lib/halted-guest.ts'
import { LibvirtDaemon } from '../lib/libvirt-daemon.ts'
import { median, rounded } from '../lib/paired.ts'
import { haltedDomain } from './domain.ts'

const DOMAINS = 50
const ROUNDS = 5

/** Milliseconds of each call, with all domains running. */
async function statistics(side: 'own' | 'peer', disk: string, rounds: number): Promise<number[]> {
  const daemon = await LibvirtDaemon.start(side)
  try {
    const client = await daemon.client()
    for (let i = 0; i < DOMAINS; i++) {
      const xml = haltedDomain(`domain-${i}`, disk, "<serial type='null'/>")
      await client.call('DOMAIN_CREATE_XML', { xml, flags: 0 })
    }
    const times: number[] = []
    for (let i = 0; i < rounds; i++) {
      const before = performance.now()
      const text = await daemon.virsh('domstats')
      times.push(performance.now() - before)
      const running = text.match(/state\.state=1$/gm)?.length
      if (running !== DOMAINS) throw new Error(`${running} of ${DOMAINS} domains run`)
    }
    progress(`${side}: ${times.map((time) => time.toFixed(0)).join(', ')} ms`)
    await client.close()
    return times
  } finally {
    await daemon.stop()
  }
}

export async function measureStatistics(effort: Effort, hasPeer: boolean): Promise<Results> {
  progress(`domstats of ${DOMAINS} domains`)
  const folder = mkdtempSync(join(tmpdir(), 'bench-domstats-'))
  try {
    chmodSync(folder, 0o755)
    const disk = join(folder, 'disk')
    writeHaltedDisk(disk)
    const rounds = effort.quick ? 2 : ROUNDS
    const ownMs = rounded(median(await statistics('own', disk, rounds)))
    if (!hasPeer) return { ownDomstatsMs: ownMs }
    const peerMs = rounded(median(await statistics('peer', disk, rounds)))
    return { ownDomstatsMs: ownMs, peerDomstatsMs: peerMs }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
