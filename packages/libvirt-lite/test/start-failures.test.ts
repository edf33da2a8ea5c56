// An emulator that dies at each step of a start, and a disk that is full: nothing is left, nothing is lost.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { findProcesses } from '../src/driver/process.ts'
import type { VirtError } from '../src/rpc/index.ts'
import { without } from './support/clients.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'

/** An emulator that answers the monitor, and dies when it is told a command, or before it listens, or when it is called. */
const EMULATOR = `#!${process.execPath}
const { createServer } = require('node:net')
const fs = require('node:fs')
const dieAt = fs.readFileSync(__filename + '.die', 'utf8')
const args = process.argv.slice(2)
const path = /[=:]([^=:,]+qmp\\.sock)/.exec(args.join(' '))[1]
const die = () => { fs.writeSync(2, 'dying at ' + dieAt + '\\n'); process.exit(7) }
if (dieAt === 'start') die()
const answers = {
  'query-chardev': [],
  'query-status': { status: 'running', running: true },
  'query-balloon': { actual: 67108864 },
}
const server = createServer((socket) => {
  if (dieAt === 'greeting') die()
  socket.on('error', () => undefined)
  socket.write(JSON.stringify({ QMP: { version: {}, capabilities: [] } }) + '\\n')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
    const lines = text.split('\\n')
    text = lines.pop()
    for (const line of lines) {
      const { execute, id } = JSON.parse(line)
      if (execute === dieAt) die()
      const reply = 'refuse ' + execute === dieAt
        ? { error: { class: 'GenericError', desc: 'no' }, id }
        : { return: answers[execute] ?? {}, id }
      socket.write(JSON.stringify(reply) + '\\n')
      if (execute === 'quit') process.exit(0)
      if (dieAt === 'after ' + execute) setTimeout(die, 50)
    }
  })
})
server.listen(path, () => { if (dieAt === 'listening') die() })
`

/** What a start asks of the monitor, in its order, and what happens when the emulator dies there. */
const STEPS = [
  'start',
  'listening',
  'greeting',
  'qmp_capabilities',
  'query-chardev',
  'query-balloon',
  'cont',
] as const
const OFF_FAILED: [number, number] = [5, 6]
const OFF_CRASHED: [number, number] = [5, 3]

for (const step of [...STEPS, 'refuse cont'] as const) {
  test(`the emulator dies at ${step}`, async (t) => {
    const at = folder(t)
    const emulator = join(at, 'qemu-system-x86_64')
    writeFileSync(emulator, EMULATOR, { mode: 0o755 })
    const dieAt = (what: string): void => writeFileSync(`${emulator}.die`, what)
    dieAt(step)
    const { client: open, state } = await startDaemon(t, at)
    const client = await open()
    const stopped: string[] = []
    client.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ message }) => {
      stopped.push(`${message.dom.name} ${message.event}`)
    })
    await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', { event: 0, dom: undefined })
    const dom = await define(client, domainXml('a', { emulator }))
    const fail = async (work: Promise<unknown>): Promise<void> => {
      const { code, message } = (await t.throwsAsync(work)) as VirtError
      t.true([1, 9, 55].includes(code), `${code} ${message}`)
      // Until it runs, the emulator's own words are in the message.
      if (['start', 'listening'].includes(step)) t.regex(message, /dying at/)
    }
    await fail(client.call('DOMAIN_CREATE', { dom }))
    const transient = domainXml('b', { emulator })
    await fail(client.call('DOMAIN_CREATE_XML', { xml: transient, flags: 0 }))
    await until(async () => (await stateOf(client, dom))[0] === 5)
    t.deepEqual(await stateOf(client, dom), OFF_FAILED)
    const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
    t.deepEqual(domains, [dom])
    t.deepEqual(findProcesses(state), [])
    t.deepEqual(readdirSync(join(state, 'run')), [])
    t.false(stopped.includes('a 2'), 'it never started')

    // The same domain starts when its emulator is well, and is noticed when it dies later.
    dieAt('after cont')
    await client.call('DOMAIN_CREATE', { dom })
    await until(async () => (await stateOf(client, dom))[0] === 5)
    t.deepEqual(await stateOf(client, dom), OFF_CRASHED)
    await until(() => stopped.includes('a 5'))
    dieAt('never')
    await client.call('DOMAIN_CREATE', { dom })
    t.is((await stateOf(client, dom))[0], 1)
  })
}

const script = fileURLToPath(new URL('support/full-disk.ts', import.meta.url))
/** A user of a namespace may mount, also where root may not. */
const UNSHARE = ['--user', '--map-root-user', '--mount']

test('a full disk loses no definition, and what was not saved is not there', (t) => {
  const probe = spawnSync('unshare', [...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'])
  if (probe.status !== 0) return without(t, 'a user namespace that may mount a tmpfs')
  const at = folder(t)
  const run = `mount -t tmpfs -o size=256k,mode=700 tmpfs "$1" && exec "$2" --import=tsx "$3" "$1" "$4"`
  const disk = join(at, 'disk')
  const shell = [
    'sh',
    '-c',
    `mkdir "$1" && ${run}`,
    'sh',
    disk,
    process.execPath,
    script,
    join(at, 's'),
  ]
  const { status, stdout, stderr } = spawnSync('unshare', [...UNSHARE, ...shell], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  t.is(status, 0, stderr + stdout)
  t.is(stdout.trim().split('\n').at(-1), 'all is well', stdout)
  t.true(existsSync(disk))
})
