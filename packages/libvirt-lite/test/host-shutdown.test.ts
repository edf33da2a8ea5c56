// The host goes down: guests turn off before their emulators are killed.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { parseOptions, parseShutdown } from '../src/cli/options.ts'
import { DaemonError } from '../src/daemon/daemon-error.ts'
import { shutDownDomains } from '../src/daemon/host-shutdown.ts'
import { findProcesses } from '../src/driver/process.ts'
import { Client } from '../src/rpc/index.ts'
import type { DomainRef } from '../src/rpc/index.ts'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'

const OFF_SHUTDOWN = [5, 1]
const OFF_DESTROYED = [5, 2]
const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))

/** Defines a domain whose guest obeys the power button, and waits until it listens. */
async function obedient(client: Client, at: string, name: string): Promise<DomainRef> {
  const folderOfIt = join(at, name)
  mkdirSync(folderOfIt)
  const more = '<features><acpi/></features>'
  const xml = domainXml(name, { more, devices: diskXml(buttonDisk(folderOfIt)) })
  const dom = await define(client, xml)
  await client.call('DOMAIN_CREATE', { dom })
  const args = { dom, device: undefined, flags: 1 }
  const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', args)
  let said = ''
  stream.on('data', (chunk: Buffer) => (said += chunk.toString('latin1')))
  await until(() => said.includes('R'))
  stream.destroy()
  return dom
}

test.serial('guests turn off, paused ones too, and those that do not are ended', async (t) => {
  const at = folder(t)
  const daemon = await startDaemon(t, at)
  const client = await daemon.client()
  const [running, paused] = await Promise.all(
    ['running', 'paused'].map((name) => obedient(client, at, name)),
  )
  await client.call('DOMAIN_SUSPEND', { dom: paused! })
  const deaf = await define(client, domainXml('deaf'))
  await client.call('DOMAIN_CREATE', { dom: deaf })
  const off = await define(client, domainXml('off'))
  const said: string[] = []
  const other = await daemon.client()
  const work = shutDownDomains(other, { timeoutMs: 20_000, say: (text) => said.push(text) })
  await until(async () => (await stateOf(client, running!))[0] === 5)
  await until(async () => (await stateOf(client, paused!))[0] === 5)
  // Somebody else ends the last one: there is nothing to wait for.
  await client.call('DOMAIN_DESTROY', { dom: deaf })
  t.deepEqual(await work, [])
  t.deepEqual(said, [])
  t.deepEqual(await stateOf(client, running!), OFF_SHUTDOWN)
  t.deepEqual(await stateOf(client, paused!), OFF_SHUTDOWN)
  t.is((await stateOf(client, off))[0], 5)

  await client.call('DOMAIN_CREATE', { dom: deaf })
  const left = await shutDownDomains(other, { timeoutMs: 100, say: (text) => said.push(text) })
  t.deepEqual(left, ['deaf'])
  t.regex(said[0]!, /'deaf' has not turned off within 0\.1 s/)
  t.deepEqual(await stateOf(client, deaf), OFF_DESTROYED)
  t.deepEqual(await shutDownDomains(other, { timeoutMs: 100, say: t.fail }), [])
})

/** A process of the daemon for which the host is in some state. */
async function daemonProcess(t: ExecutionContext, at: string, systemd: string) {
  const programs = join(at, 'programs')
  mkdirSync(programs, { recursive: true })
  writeFileSync(join(programs, 'systemctl'), `#!/bin/sh\necho ${systemd}\nexit 1\n`)
  chmodSync(join(programs, 'systemctl'), 0o755)
  const state = join(at, 'state')
  const args = ['--import', 'tsx', MAIN, '--state', state, '--socket', join(at, 's')]
  const env = { ...process.env, PATH: `${programs}:${process.env['PATH']}` }
  const daemon = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => {
    daemon.kill('SIGKILL')
    for (const { pid } of findProcesses(state)) process.kill(pid, 'SIGKILL')
  })
  let said = ''
  daemon.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  await until(() => said.includes('listening'))
  const client = await Client.open({ path: join(at, 's') })
  t.teardown(() => client.destroy())
  return { daemon, client, state, said: () => said }
}

test.serial(
  'a daemon that ends with its host takes its guests along, and no other does',
  async (t) => {
    const at = folder(t)
    const first = await daemonProcess(t, at, 'running')
    await obedient(first.client, at, 'a')
    first.daemon.kill('SIGTERM')
    await once(first.daemon, 'exit')
    t.is(findProcesses(first.state).length, 1)

    const second = await daemonProcess(t, at, 'stopping')
    second.daemon.kill('SIGTERM')
    await once(second.daemon, 'exit')
    t.regex(second.said(), /guests are told to turn off/)
    t.notRegex(second.said(), /has not turned off/)
    t.is(findProcesses(second.state).length, 0)

    const third = await daemonProcess(t, at, 'running')
    const { dom } = await third.client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'a' })
    t.is((await stateOf(third.client, dom))[0], 5)
  },
)

test.serial('the command does so for who has no systemd', async (t) => {
  const at = folder(t)
  const daemon = await startDaemon(t, at)
  const client = await daemon.client()
  await obedient(client, at, 'a')
  const run = (...more: string[]) =>
    new Promise<{ code: number; stderr: string }>((resolve) => {
      const args = ['--import', 'tsx', MAIN, 'shutdown', '--socket', daemon.socket, ...more]
      execFile(process.execPath, args, (error, _stdout, stderr) =>
        resolve({ code: Number(error?.code ?? 0), stderr }),
      )
    })
  t.deepEqual(await run(), { code: 0, stderr: '' })
  const dom = await define(client, domainXml('deaf'))
  await client.call('DOMAIN_CREATE', { dom })
  const { code, stderr } = await run('--shutdown-timeout', '0')
  t.is(code, 1)
  t.regex(stderr, /'deaf' has not turned off/)
  t.regex(readFileSync(join(daemon.state, 'log/deaf.log'), 'utf8'), /starting up/)
})

test('what is wrong with its options is said', (t) => {
  const message = (...args: string[]) =>
    t.throws(() => parseShutdown(['shutdown', ...args]), { instanceOf: DaemonError }).message
  t.regex(message(), /--socket PATH is missing/)
  t.regex(message('--socket', 's', '--pki', 'x'), /--pki is not for shutdown/)
  for (const wrong of ['-1', '1.5', 'x', '86401', '999999']) {
    t.regex(message('--socket', 's', `--shutdown-timeout=${wrong}`), /seconds up to 86400, not/)
  }
  t.is(parseShutdown(['--socket', 's']), undefined)
  t.deepEqual(parseShutdown(['shutdown', '--socket', 's']), { socket: 's', timeoutMs: 60_000 })
  const served = parseOptions(['--state', 'a', '--socket', 'b', '--shutdown-timeout', '5'])
  t.like(served, { shutdownMs: 5000 })
})
