// How much longer a guest takes to its first byte as a domain than with the command that the daemon would run.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'libvirt-lite/rpc'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { haltedMark, writeHaltedDisk } from '../lib/halted-guest.ts'
import { LibvirtDaemon } from '../lib/libvirt-daemon.ts'
import { median, paired, rounded } from '../lib/paired.ts'
import { haltedDomain } from './domain.ts'

const WAIT_MS = 60_000
/** Pairs, and how many of them a median is made of to see how much it varies. */
const ROUNDS = 25
const GROUP = 5

/** Waits for the guest's first byte in the file of its serial port. */
async function firstByte(path: string): Promise<void> {
  for (const until = performance.now() + WAIT_MS; performance.now() < until; await sleep(1)) {
    if (read(path).includes(haltedMark)) return
  }
  throw new Error(`the guest wrote nothing within ${WAIT_MS / 1000} s`)
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

/** Milliseconds of the command alone: of the daemon's last command line, without its monitor and without waiting for it. */
async function bareStart(folder: string, log: string): Promise<number> {
  const line = read(log)
    .split('\n')
    .findLast((text) => text.includes(' -uuid '))
  if (line === undefined) throw new Error(`there is no command line in ${log}`)
  const words = line.replace(' -S ', ' ').replace(/ -chardev socket,id=charmonitor\S+ -mon \S+/, '')
  const start = performance.now()
  const child = spawn('sh', ['-c', `exec ${words}`], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  const serial = join(folder, 'serial')
  try {
    await firstByte(serial)
    return performance.now() - start
  } finally {
    child.kill('SIGTERM')
    await ended
    rmSync(serial, { force: true })
  }
}

/** Milliseconds of a domain, from the call to start it on. */
async function domainStart(folder: string, client: Client, answers: number[]): Promise<number> {
  const serial = join(folder, 'serial')
  const device = `<serial type='file'><source path='${serial}'/></serial>`
  const xml = haltedDomain('started', join(folder, 'disk'), device)
  const { dom } = await client.call('DOMAIN_DEFINE_XML', { xml })
  const start = performance.now()
  const create = async (): Promise<void> => {
    await client.call('DOMAIN_CREATE', { dom })
    answers.push(performance.now() - start)
  }
  const answered = create()
  await firstByte(serial)
  const taken = performance.now() - start
  await answered
  await client.call('DOMAIN_DESTROY', { dom })
  await client.call('DOMAIN_UNDEFINE', { dom })
  rmSync(serial, { force: true })
  return taken
}

export async function measureStart(effort: Effort): Promise<Results> {
  progress('the start of a domain, and of the command alone (peer)')
  const folder = mkdtempSync(join(tmpdir(), 'bench-start-'))
  writeHaltedDisk(join(folder, 'disk'))
  const daemon = await LibvirtDaemon.start('own')
  try {
    const client = await daemon.client()
    const answers: number[] = []
    const log = join(daemon.folder, 'state/log/started.log')
    // Asks the emulator what it has, once for each daemon.
    await domainStart(folder, client, [])
    const starts: number[] = []
    const bare: number[] = []
    const own = async (): Promise<number> => {
      const taken = await domainStart(folder, client, answers)
      starts.push(taken)
      return taken
    }
    const peer = async (): Promise<number> => {
      const taken = await bareStart(folder, log)
      bare.push(taken)
      return taken
    }
    const pair = await paired({ own, peer }, effort, ROUNDS)
    await client.close()
    const more = starts.map((taken, round) => taken - (bare[round] ?? 0))
    const groups: number[] = []
    for (let at = 0; at < more.length; at += GROUP) groups.push(median(more.slice(at, at + GROUP)))
    return {
      domainStartMs: rounded(pair.own),
      bareStartMs: rounded(pair.peer),
      startMoreMs: rounded(median(more)),
      startMoreLeastMs: rounded(Math.min(...groups)),
      startMoreMostMs: rounded(Math.max(...groups)),
      startAnswerMs: rounded(median(answers)),
    }
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true })
  }
}
