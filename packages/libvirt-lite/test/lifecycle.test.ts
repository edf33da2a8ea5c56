import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Client } from '../src/rpc/index.ts'
import type { DomainRef, VirtError } from '../src/rpc/index.ts'
import { findProcesses } from '../src/driver/process.ts'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'

const QEMU = '/usr/bin/qemu-system-x86_64'
const RUNNING_BOOTED = [1, 1]
const RUNNING_UNPAUSED = [1, 5]
const PAUSED_USER = [3, 1]
const OFF_SHUTDOWN = [5, 1]
const OFF_DESTROYED = [5, 2]
const OFF_CRASHED = [5, 3]
const OFF_FAILED = [5, 6]

/** Everything that happens, as `name event/detail`. */
async function listen(client: Client): Promise<string[]> {
  const heard: string[] = []
  client.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ message: { dom, event, detail } }) =>
    heard.push(`${dom.name} ${event}/${detail}`),
  )
  client.on('DOMAIN_EVENT_CALLBACK_REBOOT', ({ message: { dom } }) =>
    heard.push(`${dom.name} reboot`),
  )
  for (const event of [0, 1]) {
    await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', { event, dom: undefined })
  }
  return heard
}

async function watch(t: ExecutionContext, client: Client, dom: DomainRef): Promise<() => string> {
  const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', {
    dom,
    device: undefined,
    flags: 1,
  })
  let text = ''
  stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  t.teardown(() => stream.destroy())
  return () => text
}

test.serial(
  'a domain is defined, started, paused, resumed, reset, destroyed and undefined',
  async (t) => {
    const { client: open, state } = await startDaemon(t)
    const client = await open()
    const heard = await listen(client)
    const dom = await define(client, domainXml('a'))
    t.is(dom.id, -1)
    await client.call('DOMAIN_CREATE', { dom })
    t.deepEqual(await stateOf(client, dom), RUNNING_BOOTED)
    const running = (await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'a' })).dom
    t.is(running.id, 1)
    t.deepEqual((await client.call('DOMAIN_LOOKUP_BY_ID', { id: 1 })).dom, running)
    await client.call('DOMAIN_SUSPEND', { dom })
    t.deepEqual(await stateOf(client, dom), PAUSED_USER)
    await client.call('DOMAIN_RESUME', { dom })
    t.deepEqual(await stateOf(client, dom), RUNNING_UNPAUSED)
    const again = (await t.throwsAsync(client.call('DOMAIN_CREATE', { dom }))) as VirtError
    t.is(again.code, 55)
    await client.call('DOMAIN_RESET', { dom, flags: 0 })
    const info = await client.call('DOMAIN_GET_INFO', { dom })
    t.is(info.maxMemory, 65_536n)
    t.true(info.cpuTime > 0n)
    const answer = await client.monitorCommand({
      dom,
      command: '{"execute":"query-status"}',
      flags: 0,
    })
    t.true((JSON.parse(answer) as { return: { running: boolean } }).return.running)
    await client.call('DOMAIN_DESTROY', { dom })
    t.deepEqual(await stateOf(client, dom), OFF_DESTROYED)
    t.deepEqual(readdirSync(join(state, 'run')), [])
    t.deepEqual(findProcesses(join(state, 'run')), [])
    await client.call('DOMAIN_UNDEFINE', { dom })
    t.is(((await t.throwsAsync(client.call('DOMAIN_CREATE', { dom }))) as VirtError).code, 42)
    // Its whole command line, which a shell takes as it is.
    t.regex(
      readFileSync(join(state, 'log', 'a.log'), 'utf8'),
      /starting up\n(.*\n)*\S+qemu-kvm .*-uuid/,
    )
    const order = ['a 0/0', 'a 4/0', 'a 2/0', 'a 3/0', 'a 4/0', 'a reboot', 'a 5/1', 'a 1/0']
    await until(() => heard.length >= order.length)
    t.deepEqual(heard, order)
  },
)

test.serial('the power button turns a guest off, and with reboot on again', async (t) => {
  const at = folder(t)
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  const heard = await listen(client)
  const dom = await define(client, domainXml('b', { devices: diskXml(buttonDisk(at)) }))
  // What it writes while nobody is connected is lost.
  await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom, flags: 1 })
  const text = await watch(t, client, dom)
  await client.call('DOMAIN_RESUME', { dom })
  await until(() => text().endsWith('R'))
  const seen = text().length
  await client.call('DOMAIN_REBOOT', { dom, flags: 0 })
  await until(() => text().length > seen && text().endsWith('R'))
  t.true(heard.includes('b reboot'))
  t.deepEqual((await stateOf(client, dom))[0], 1)
  await client.call('DOMAIN_SHUTDOWN', { dom })
  await until(async () => (await stateOf(client, dom))[0] === 5)
  t.deepEqual(await stateOf(client, dom), OFF_SHUTDOWN)
  await until(() => heard.includes('b 5/0'))
  t.deepEqual(heard.slice(-2), ['b 6/1', 'b 5/0'])
})

test.serial("Debian's QEMU runs a domain that names it", async (t) => {
  if (!existsSync(QEMU)) {
    t.log(`${QEMU} is not installed`)
    t.pass()
    return
  }
  const at = folder(t)
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  // QEMU has no power button unless it is asked for.
  const more = '<features><acpi/></features>'
  const xml = domainXml('q', { more, emulator: QEMU, devices: diskXml(buttonDisk(at)) })
  const { dom } = await client.call('DOMAIN_CREATE_XML', { xml, flags: 1 })
  const text = await watch(t, client, dom)
  await client.call('DOMAIN_RESUME', { dom })
  await until(() => text().endsWith('R'), 60)
  await client.call('DOMAIN_REBOOT', { dom, flags: 0 })
  await until(() => text().match(/R/g)!.length > 1, 60)
  await client.call('DOMAIN_SUSPEND', { dom })
  t.deepEqual(await stateOf(client, dom), PAUSED_USER)
  await client.call('DOMAIN_RESUME', { dom })
  await client.call('DOMAIN_SHUTDOWN', { dom })
  // It was transient.
  await until(async () => (await client.call('CONNECT_NUM_OF_DOMAINS', undefined)).count === 0)
})

test.serial('a transient domain is gone when it ends; defined meanwhile, it stays', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const { dom } = await client.call('DOMAIN_CREATE_XML', { xml: domainXml('t'), flags: 1 })
  t.deepEqual(await stateOf(client, dom), PAUSED_USER)
  t.false((await client.call('DOMAIN_IS_PERSISTENT', { dom })).persistent)
  const twice = client.call('DOMAIN_CREATE_XML', {
    xml: domainXml('t', { uuid: dom.uuid }),
    flags: 0,
  })
  await t.throwsAsync(twice, { message: /already active/ })
  t.is(((await t.throwsAsync(client.call('DOMAIN_UNDEFINE', { dom }))) as VirtError).code, 55)
  await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('t', { uuid: dom.uuid }) })
  await client.call('DOMAIN_UNDEFINE', { dom })
  await client.call('DOMAIN_DESTROY', { dom })
  t.is(
    ((await t.throwsAsync(client.call('DOMAIN_GET_STATE', { dom, flags: 0 }))) as VirtError).code,
    42,
  )
})

test.serial(
  'an emulator that dies is noticed, and one that does not start leaves nothing',
  async (t) => {
    const at = folder(t)
    const { client: open, state } = await startDaemon(t, at)
    const client = await open()
    const heard = await listen(client)
    const dom = await define(client, domainXml('a'))
    await client.call('DOMAIN_CREATE', { dom })
    const [emulator] = findProcesses(join(state, 'run', '1', 'qmp.sock'))
    process.kill(emulator!.pid, 'SIGKILL')
    await until(async () => (await stateOf(client, dom))[0] === 5)
    t.deepEqual(await stateOf(client, dom), OFF_CRASHED)
    await until(() => heard.includes('a 5/5'))

    // Ends at once, ends after a while, is no program, has no monitor and ends.
    const scripts = [
      '#!/bin/sh\necho a reason >&2\nexit 3\n',
      '#!/bin/sh\nsleep 0.3\n',
      'no program',
    ]
    for (const [i, script] of scripts.entries()) {
      const path = join(at, `emulator${i}`)
      writeFileSync(path, script)
      chmodSync(path, 0o755)
      const xml = domainXml(`e${i}`, { emulator: path })
      const error = (await t.throwsAsync(
        client.call('DOMAIN_CREATE_XML', { xml, flags: 0 }),
      )) as VirtError
      if (i === 0) t.regex(error.message, /process exited while connecting to monitor: a reason/)
    }
    const missing = await define(client, domainXml('m', { emulator: join(at, 'missing') }))
    await t.throwsAsync(client.call('DOMAIN_CREATE', { dom: missing }), {
      message: /Cannot execute/,
    })
    t.deepEqual(await stateOf(client, missing), OFF_FAILED)
    const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
    t.deepEqual(domains.map(({ name }) => name).toSorted(), ['a', 'm'])
    t.deepEqual(readdirSync(join(state, 'run')), [])
  },
)

test.serial('a disk is in one running domain, unless both share it', async (t) => {
  const at = folder(t)
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  const disk = buttonDisk(at)
  const one = await define(client, domainXml('one', { devices: diskXml(disk) }))
  const two = await define(client, domainXml('two', { devices: diskXml(disk) }))
  await client.call('DOMAIN_CREATE', { dom: one })
  const error = (await t.throwsAsync(client.call('DOMAIN_CREATE', { dom: two }))) as VirtError
  t.is(error.code, 87)
  t.regex(error.message, /disk vda .*running domain 'one'.*<shareable\/>/)
})

test.serial('a domain has one console at a time', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const dom = await define(client, domainXml('a'))
  const args = { dom, device: undefined, flags: 0 }
  const off = (await t.throwsAsync(client.openStream('DOMAIN_OPEN_CONSOLE', args))) as VirtError
  t.is(off.code, 55)
  await client.call('DOMAIN_CREATE', { dom })
  const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', args)
  await t.throwsAsync(client.openStream('DOMAIN_OPEN_CONSOLE', args), { message: /Active console/ })
  await t.throwsAsync(client.openStream('DOMAIN_OPEN_CONSOLE', { ...args, device: 'serial7' }), {
    message: /serial7: the domain has serial0/,
  })
  const closed = once(stream, 'error')
  const forced = await client.openStream('DOMAIN_OPEN_CONSOLE', { ...args, flags: 1 })
  const [taken] = (await closed) as [VirtError]
  t.regex(taken.message, /another session took over/)
  const ended = once(forced.stream.resume(), 'close')
  await client.call('DOMAIN_DESTROY', { dom })
  await ended
  t.pass()
})

test.serial('domains go on without the daemon, and the next one finds them', async (t) => {
  const at = folder(t)
  const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
  const args = ['--import=tsx', main, '--state', join(at, 'state'), '--socket', join(at, 's')]
  const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => {
    daemon.kill('SIGKILL')
    // What the second daemon did not find, when this test fails.
    for (const { pid } of findProcesses(join(at, 'state'))) process.kill(pid, 'SIGKILL')
  })
  await once(daemon.stderr, 'data')
  const before = await Client.open({ path: join(at, 's') })
  const dom = await define(before, domainXml('kept'))
  await before.call('DOMAIN_CREATE', { dom })
  const { dom: transient } = await before.call('DOMAIN_CREATE_XML', {
    xml: domainXml('brief'),
    flags: 1,
  })
  const { dom: dying } = await before.call('DOMAIN_CREATE_XML', {
    xml: domainXml('dying'),
    flags: 1,
  })
  const exited = once(daemon, 'exit')
  daemon.kill('SIGKILL')
  await exited
  const [died] = findProcesses(join(at, 'state', 'run', `${dying.id}`, 'qmp.sock'))
  process.kill(died!.pid, 'SIGKILL')

  const { client: open, state } = await startDaemon(t, at)
  const client = await open()
  const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
  t.deepEqual(domains.map(({ name, id }) => `${name} ${id}`).toSorted(), ['brief 2', 'kept 1'])
  t.is((await stateOf(client, dom))[0], 1)
  t.is((await stateOf(client, transient))[0], 3)
  await client.call('DOMAIN_SUSPEND', { dom })
  const third = await define(client, domainXml('third'))
  await client.call('DOMAIN_CREATE', { dom: third })
  t.is((await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'third' })).dom.id, 4)
  for (const one of [dom, transient, third]) await client.call('DOMAIN_DESTROY', { dom: one })
  t.false(existsSync(join(state, 'run', '1')))
})
