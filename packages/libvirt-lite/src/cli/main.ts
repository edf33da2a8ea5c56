import { readFileSync } from 'node:fs'
import { Daemon } from '../daemon/daemon.ts'
import { DaemonError } from '../daemon/daemon-error.ts'
import { isHostStopping, shutDownDomains } from '../daemon/host-shutdown.ts'
import { examine, report } from '../doctor/index.ts'
import { Client } from '../rpc/index.ts'
import type { ServeOptions } from './options.ts'
import { USAGE, parseDoctor, parseOptions, parseShutdown } from './options.ts'

const say = (text: string): void => {
  process.stderr.write(`libvirt-lite: ${text}\n`)
}

try {
  const given = process.argv.slice(2)
  const args = given.includes('--help') ? ['--help'] : given
  const doctor = parseDoctor(args)
  const shutdown = doctor === undefined ? parseShutdown(args) : undefined
  if (shutdown !== undefined) {
    const left = await shutDown(shutdown.socket, shutdown.timeoutMs)
    if (left.length > 0) process.exitCode = 1
  } else if (doctor === undefined) await serve(args)
  else {
    const findings = await examine(doctor)
    process.stdout.write(report(findings))
    if (findings.some(({ verdict }) => verdict === 'bad')) process.exitCode = 1
  }
} catch (error) {
  if (!(error instanceof DaemonError)) throw error
  say(error.message)
  process.exitCode = 1
}

async function serve(args: readonly string[]): Promise<void> {
  const options = parseOptions(args)
  if (options === 'help') process.stdout.write(USAGE)
  else if (options === 'version') {
    const file = new URL('../../package.json', import.meta.url)
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
    process.stdout.write(`libvirt-lite ${version}\n`)
  } else {
    const daemon = await Daemon.start({ ...options, log: say })
    say(`listening on ${daemon.addresses.join(', ')}`)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => void end(daemon, options))
    }
  }
}

/** Domains go on without the daemon, but not without the host. */
async function end(daemon: Daemon, { socket, shutdownMs }: ServeOptions): Promise<void> {
  if (await isHostStopping()) {
    say('the host goes down: guests are told to turn off')
    await shutDown(socket, shutdownMs).catch((error: Error) => say(error.message))
  }
  await daemon.stop()
  process.exit(0)
}

async function shutDown(socket: string, timeoutMs: number): Promise<string[]> {
  const client = await Client.open({ path: socket }).catch((error: Error) => {
    throw new DaemonError(`no daemon answers at '${socket}': ${error.message}`)
  })
  const left = await shutDownDomains(client, { timeoutMs, say })
  await client.close()
  return left
}
