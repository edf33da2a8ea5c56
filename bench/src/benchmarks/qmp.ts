// A command of QMP and its answer while the guest's processor is busy, beside QEMU.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Effort, Results } from '../lib/benchmark.ts'
import { GuestProcess, ownCommand, peerCommand, peerVersion } from '../lib/guest-process.ts'
import { median, paired, repeated, rounded } from '../lib/paired.ts'
import { portLoopImage } from '../lib/port-loop.ts'
import { ask } from '../lib/qmp.ts'

const WARM_UP = 200

/** Microseconds of each round trip. */
async function roundTrips(command: string, folder: string, count: number): Promise<number[]> {
  const path = join(folder, 'qmp')
  const image = join(folder, 'port-loop')
  const machine = ['-accel', 'tcg', '-m', '64', '-nographic', '-kernel', image]
  const guest = new GuestProcess(command, [...machine, '-qmp', `unix:${path},server=on,wait=off`])
  try {
    await guest.expect(/~/)
    const socket = connect(path).setNoDelay(true).setEncoding('utf8')
    try {
      await ask(socket, 'qmp_capabilities')
      const times: number[] = []
      for (let i = 0; i < WARM_UP + count; i++) {
        const start = performance.now()
        await ask(socket, 'query-status')
        if (i >= WARM_UP) times.push((performance.now() - start) * 1000)
      }
      return times
    } finally {
      socket.destroy()
    }
  } finally {
    await guest.stop()
    rmSync(path, { force: true })
  }
}

function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

export const name = 'qmp'

export async function run(effort: Effort): Promise<Results> {
  const count = effort.quick ? 1000 : 5000
  const folder = mkdtempSync(join(tmpdir(), 'bench-qmp-'))
  try {
    writeFileSync(join(folder, 'port-loop'), portLoopImage())
    const late: Record<string, number[]> = { own: [], peer: [] }
    const measure = (side: 'own' | 'peer', command: string) => async (): Promise<number> => {
      const times = await roundTrips(command, folder, count)
      late[side]?.push(percentile(times, 0.99))
      return median(times)
    }
    const own = measure('own', ownCommand)
    if (peerVersion() === undefined) {
      const ownUs = rounded(await repeated(own, effort))
      return { ownUs, ownP99Us: rounded(median(late['own'] ?? [])) }
    }
    const pair = await paired({ own, peer: measure('peer', peerCommand) }, effort)
    return {
      ownUs: rounded(pair.own),
      peerUs: rounded(pair.peer),
      qmpRatio: rounded(pair.ratio),
      ownP99Us: rounded(median(late['own'] ?? [])),
      peerP99Us: rounded(median(late['peer'] ?? [])),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
