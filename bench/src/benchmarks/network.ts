// User networking of Debian with virtio-net: ping to the router, iperf3 in both directions, very many connections, and what the
// process needs while the guest is idle; beside QEMU's own translator. Items: idle, ping, iperf3, connections.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { EchoServer, writeProgramDisk } from '../lib/connections.ts'
import { type DebianGuest, Guests, type Side } from '../lib/debian-guest.ts'
import { peerVersion } from '../lib/guest-process.ts'
import { hasIperf, throughput } from '../lib/iperf.ts'
import { median, paired, repeated, rounded } from '../lib/paired.ts'
import { processMemory } from '../lib/process-memory.ts'
import { coreShare } from '../lib/process-time.ts'

const items = ['idle', 'ping', 'iperf3', 'connections'] as const
const connections = 10_000
const network = ['-nic', 'user,model=virtio']
const port = 5201

export const name = 'network'

export async function run(effort: Effort): Promise<Results> {
  const wanted = effort.items?.length ? effort.items : items
  const unknown = wanted.find((item) => !items.some((known) => known === item))
  if (unknown !== undefined) throw new Error(`there is no item '${unknown}': ${items.join(', ')}`)
  const sides: Side[] = peerVersion() === undefined ? ['own'] : ['own', 'peer']
  const folder = mkdtempSync(join(tmpdir(), 'bench-network-'))
  const results: Results = {}
  const disk = join(folder, 'program')
  writeProgramDisk(disk)
  const options = [...network, '-drive', `file=${disk},if=virtio,format=raw,readonly=on`]
  const first = async (guest: DebianGuest, side: Side): Promise<void> => {
    if (wanted.includes('idle')) results[`${side}IdleCorePercent`] = await idle(guest, effort)
    await guest.logIn()
    await guest.online()
  }
  let guests: Guests | undefined
  try {
    guests = await Guests.boot(folder, sides, () => options, first)
    const measure = comparison(guests, sides, effort, results)
    if (wanted.includes('ping')) await measure('PingUs', 'pingRatio', ping)
    if (wanted.includes('iperf3') && hasIperf()) {
      const seconds = effort.quick ? 2 : 4
      await measure('OutGbits', 'outSpeedRatio', (g) => throughput(g, port, seconds, true))
      await measure('InGbits', 'inSpeedRatio', (g) => throughput(g, port, seconds, false))
    } else if (wanted.includes('iperf3')) progress('iperf3 is not installed: no throughput')
    if (wanted.includes('connections')) Object.assign(results, await guests.turn('own', many))
    return results
  } finally {
    await guests?.stop()
    rmSync(folder, { recursive: true })
  }
}

type Measure = (
  unit: string,
  ratio: string,
  once: (guest: DebianGuest) => Promise<number>,
) => Promise<void>

/** Measures both sides, or ours alone where there is no peer. */
function comparison(
  guests: Guests,
  sides: readonly Side[],
  effort: Effort,
  results: Results,
): Measure {
  return async (unit, ratio, once) => {
    const own = (): Promise<number> => guests.turn('own', once)
    if (sides.length === 1) {
      results[`own${unit}`] = rounded(await repeated(own, effort))
      return
    }
    const pair = await paired({ own, peer: () => guests.turn('peer', once) }, effort)
    results[`own${unit}`] = rounded(pair.own)
    results[`tcg${unit}`] = rounded(pair.peer)
    results[ratio] = rounded(pair.ratio)
  }
}

/** Percent of a core a minute after the login prompt: services start behind it. */
async function idle(guest: DebianGuest, effort: Effort): Promise<number> {
  const settle = 60_000
  await new Promise((resolve) => setTimeout(resolve, settle))
  const percent = rounded(100 * (await coreShare(guest.pid, effort.quick ? 10 : 20)))
  progress(`idle: ${percent} % of a core`)
  return percent
}

/** Median microseconds of an echo, ten a second: each finds everybody asleep. */
async function ping(guest: DebianGuest): Promise<number> {
  const text = await guest.shell(`ping -c 50 -i 0.1 10.0.2.2`)
  const times = Array.from(text.matchAll(/time=([\d.]+) ms/g), ([, ms]) => Number(ms) * 1000)
  if (times.length !== 50) throw new Error(`ping said: ${text}`)
  return median(times)
}

/** Opens all connections, has each answered while all are open, and looks at the memory of the process. */
async function many(guest: DebianGuest): Promise<Results> {
  const server = new EchoServer()
  const rest = (): number => processMemory(guest.pid, guest.ramBytes).rest.residentKib / 1024
  try {
    const before = rest()
    const to = await server.listen()
    const start = performance.now()
    await guest.shell(
      `ulimit -n 20000; rm -f r; perl /dev/vdb ${to} ${connections} >r 2>&1 & sleep 1`,
    )
    const said = await guest.shell('until test -s r; do sleep 0.5; done; cat r', 600)
    const seconds = (performance.now() - start) / 1000
    if (said !== `${connections} answered\n`) throw new Error(`the guest said: ${said}`)
    if (server.count !== connections) throw new Error(`the server has ${server.count} connections`)
    const connectionsMib = rounded(rest() - before)
    await guest.shell('kill %1; wait')
    return { connections, connectionsSeconds: rounded(seconds), connectionsMib }
  } finally {
    server.close()
  }
}
