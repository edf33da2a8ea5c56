import { readFileSync } from 'node:fs'
import { Daemon } from '../daemon/daemon.ts'
import { DaemonError } from '../daemon/daemon-error.ts'
import { examine, report } from '../doctor/index.ts'
import { USAGE, parseDoctor, parseOptions } from './options.ts'

const say = (text: string): void => {
  process.stderr.write(`libvirt-lite: ${text}\n`)
}

try {
  const given = process.argv.slice(2)
  const args = given.includes('--help') ? ['--help'] : given
  const doctor = parseDoctor(args)
  if (doctor === undefined) await serve(args)
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
      process.once(signal, () => void daemon.stop().then(() => process.exit(0)))
    }
  }
}
