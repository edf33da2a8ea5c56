import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { parseOptions } from '../src/cli/options.ts'
import { DaemonError } from '../src/daemon/daemon-error.ts'
import { Daemon } from '../src/daemon/daemon.ts'
import { Client, PROCEDURES, VirtError } from '../src/rpc/index.ts'
import { define, domainXml, folder, startDaemon } from './support/daemon.ts'

/** Debian's user without rights. */
const NOBODY = 65_534

const refused = async (t: Parameters<typeof folder>[0], at: string, options = {}) => {
  const error = await t.throwsAsync(
    Daemon.start({ stateDir: join(at, 'state'), socket: join(at, 's'), ...options }),
    { instanceOf: DaemonError },
  )
  return error.message
}

test('definitions are there after the daemon was stopped, with their autostart', async (t) => {
  const at = folder(t)
  const one = await startDaemon(t, at)
  const client = await one.client()
  const dom = await define(client, domainXml('kept'))
  await client.call('DOMAIN_SET_AUTOSTART', { dom, autostart: true })
  const gone = await define(client, domainXml('gone'))
  await client.call('DOMAIN_UNDEFINE', { dom: gone })
  const { xml } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
  await one.daemon.stop()

  // What was being written when the power failed is no definition; a broken file hides no other.
  writeFileSync(join(one.state, 'domains', 'half.xml.new'), '<domain')
  writeFileSync(join(one.state, 'domains', 'broken.xml'), '<domain')
  // It was started with this host already.
  const two = await startDaemon(t, at)
  const again = await two.client()
  const { domains } = await again.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
  t.deepEqual(domains, [dom])
  t.is((await again.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml, xml)
  t.true((await again.call('DOMAIN_GET_AUTOSTART', { dom })).autostart)
  t.regex(two.log.join('\n'), /ignoring .*broken\.xml/)
})

test('one daemon has a state folder', async (t) => {
  const at = folder(t)
  await startDaemon(t, at)
  const message = await refused(t, at, { socket: join(at, 'other') })
  t.regex(message, new RegExp(`another daemon has the state folder .*process ${process.pid}`))
})

test('a folder that is removed under a daemon leaves its number to no other one', async (t) => {
  const at = folder(t)
  const { daemon, state } = await startDaemon(t, at)
  const held = (): string[] =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        const path = readlinkSync(`/proc/self/fd/${fd}`)
        return path.startsWith(state) ? path : []
      } catch {
        return []
      }
    })
  // The lock is called after the number, which is another folder's when nobody has this one open.
  t.deepEqual(held(), [state])
  await refused(t, at)
  t.deepEqual(held(), [state])
  rmSync(state, { recursive: true })
  t.deepEqual(held(), [`${state} (deleted)`])
  await daemon.stop()
  t.deepEqual(held(), [])
})

test('sockets are for their owner, and what a daemon left behind is replaced', async (t) => {
  const at = folder(t)
  // A socket whose process is gone.
  const left = createServer().listen(join(at, 'left'))
  await once(left, 'listening')
  const { daemon, socket, client } = await startDaemon(t, at)
  t.is(statSync(socket).mode & 0o777, 0o600)
  t.is(statSync(`${socket}-ro`).mode & 0o777, 0o600)
  t.is(statSync(join(at, 'state')).mode & 0o777, 0o700)
  await client()
  t.is(daemon.addresses.length, 2)
  t.regex(await refused(t, folder(t), { socket: join(at, 'left') }), /somebody listens/)
  left.close()
})

test('a socket or a state folder that is not ours is left alone', async (t) => {
  const at = folder(t)
  writeFileSync(join(at, 's'), 'a letter')
  t.regex(await refused(t, at), /no socket: remove it/)
  t.is(readFileSync(join(at, 's'), 'utf8'), 'a letter')

  const linked = folder(t)
  mkdirSync(join(linked, 'elsewhere'))
  symlinkSync(join(linked, 'elsewhere'), join(linked, 'state'))
  t.regex(await refused(t, linked), /symbolic link/)
  t.deepEqual(readdirSync(join(linked, 'elsewhere')), [])

  const below = folder(t)
  mkdirSync(join(below, 'state'), { mode: 0o700 })
  symlinkSync('/tmp', join(below, 'state', 'domains'))
  t.regex(await refused(t, below), /symbolic link/)

  const open = folder(t)
  mkdirSync(join(open, 'state'))
  chmodSync(join(open, 'state'), 0o777)
  t.regex(await refused(t, open), /others may write/)

  const long = folder(t)
  t.regex(await refused(t, long, { stateDir: join(long, 'x'.repeat(100)) }), /too long a name/)
  t.regex(await refused(t, long, { socket: join(long, 'x'.repeat(108)) }), /107 fit/)
})

test('what belongs to somebody else is left alone', async (t) => {
  if (process.geteuid?.() !== 0) {
    t.log('this is not root, who alone can give files away')
    t.pass()
    return
  }
  for (const name of ['state', 'state/domains', 'state/run', 'state/images']) {
    const at = folder(t)
    mkdirSync(join(at, name), { recursive: true, mode: 0o700 })
    chownSync(join(at, name), NOBODY, NOBODY)
    t.regex(await refused(t, at), new RegExp(`${name}' belongs to user ${NOBODY}`))
    t.deepEqual(readdirSync(join(at, name)), [], name)
  }
  for (const name of ['s', 's-ro']) {
    const at = folder(t)
    // One that nobody answers, which would be replaced if it were ours.
    const theirs = createServer().listen(join(at, 'theirs'))
    await once(theirs, 'listening')
    linkSync(join(at, 'theirs'), join(at, name))
    theirs.close()
    chownSync(join(at, name), NOBODY, NOBODY)
    t.regex(await refused(t, at), new RegExp(`${name}' belongs to user ${NOBODY}`))
    t.true(lstatSync(join(at, name)).isSocket())
  }
})

test('TCP is for this host', async (t) => {
  const at = folder(t)
  t.regex(await refused(t, at, { tcp: { host: '0.0.0.0', port: 0 } }), /this host only/)
  const { daemon } = await startDaemon(t, at, { tcp: { host: '127.0.0.1', port: 0 } })
  const port = Number(daemon.addresses[2]!.split(':')[1])
  const client = await Client.open({ host: '127.0.0.1', port })
  t.deepEqual(await client.call('CONNECT_IS_SECURE', undefined), { secure: false })
  await client.close()
})

test('the command line says what is wrong with it', (t) => {
  const message = (...args: string[]) =>
    t.throws(() => parseOptions(args), { instanceOf: DaemonError }).message
  t.regex(message(), /--state DIR is missing/)
  t.regex(message('--state', 'a'), /--socket PATH is missing/)
  t.regex(message('--state', 'a', '--socket', 'b', '--sokcet', 'c'), /--sokcet/)
  t.regex(message('--state', 'a', '--socket', 'b', '--listen-tcp', '1'), /HOST:PORT.*not '1'/)
  const parsed = parseOptions(['--state', 'a', '--socket', 'b', '--listen-tcp', '[::1]:16509'])
  t.deepEqual(parsed, {
    stateDir: 'a',
    socket: 'b',
    shutdownMs: 60_000,
    tcp: { host: '::1', port: 16_509 },
  })
})

test('the read-only socket and a read-only client change nothing and learn no secrets', async (t) => {
  const { client: open } = await startDaemon(t)
  const writer = await open()
  const dom = await define(writer, domainXml('a'))
  for (const reader of [await open({ suffix: '-ro' }), await open({ readOnly: true })]) {
    t.is((await reader.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })).count, 1)
    await reader.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
    const secret = await t.throwsAsync(reader.call('DOMAIN_GET_XML_DESC', { dom, flags: 1 }))
    t.is((secret as VirtError).code, 29)
    const calls = [
      reader.call('DOMAIN_CREATE', { dom }),
      reader.call('DOMAIN_DEFINE_XML', { xml: domainXml('b') }),
      reader.call('DOMAIN_UNDEFINE', { dom }),
      reader.call('DOMAIN_SET_AUTOSTART', { dom, autostart: true }),
      reader.monitorCommand({ dom, command: '{"execute":"quit"}', flags: 0 }),
    ]
    for (const call of calls) t.is(((await t.throwsAsync(call)) as VirtError).code, 29)
  }
  t.is((await writer.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })).count, 1)
})

test('a name and a UUID belong together', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const dom = await define(client, domainXml('a'))
  await t.throwsAsync(
    define(client, domainXml('a', { uuid: '00000000-0000-4000-8000-000000000000' })),
    {
      message: /already exists with uuid/,
    },
  )
  await t.throwsAsync(define(client, domainXml('b', { uuid: dom.uuid })), {
    message: /already defined with uuid/,
  })
  const same = await define(client, domainXml('a', { uuid: dom.uuid, more: '<title>new</title>' }))
  t.deepEqual(same, dom)
  const { metadata } = await client.call('DOMAIN_GET_METADATA', {
    dom,
    type: 1,
    uri: undefined,
    flags: 0,
  })
  t.is(metadata, 'new')
  await client.call('DOMAIN_RENAME', { dom, name: 'c', flags: 0 })
  t.is((await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'c' })).dom.uuid, dom.uuid)
  await t.throwsAsync(client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'a' }), { message: /not found/ })
})

test('documents that are none are refused, and nothing of them stays', async (t) => {
  const { client: open, state } = await startDaemon(t)
  const client = await open()
  const bomb = `<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><domain>&b;</domain>`
  const documents = ['', '<domain', '<pool/>', bomb, domainXml('a/b'), `<domain type='qemu'/>`]
  for (const xml of documents) {
    const error = (await t.throwsAsync(define(client, xml))) as VirtError
    t.true([27, 67].includes(error.code), `${error.code} ${error.message}`)
  }
  t.deepEqual(readdirSync(join(state, 'domains')), [])
  t.is((await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })).count, 0)
  t.true(existsSync(state))
})

test('lists are filtered by their flags, and unknown flags are refused', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const dom = await define(client, domainXml('a'))
  await client.call('DOMAIN_SET_AUTOSTART', { dom, autostart: true })
  await define(client, domainXml('b'))
  const count = async (flags: number) => {
    const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags })
    return domains
      .map(({ name }) => name)
      .toSorted()
      .join('')
  }
  t.is(await count(0), 'ab')
  t.is(await count(1), '')
  t.is(await count(1 | 2), 'ab')
  t.is(await count(2 | 1024), 'a')
  t.is(await count(2048), 'b')
  await t.throwsAsync(count(1 << 20), { message: /unsupported flags \(0x100000\)/ })
})

/** Where a name means something else. */
const OTHERS: Record<string, object> = {
  DOMAIN_SET_INTERFACE_PARAMETERS: { device: 'x', params: [], nparams: 0 },
  DOMAIN_GET_INTERFACE_PARAMETERS: { device: 'x', nparams: 0 },
  DOMAIN_PIN_VCPU: { vcpu: 0, cpumap: new Uint8Array(1) },
  DOMAIN_PIN_VCPU_FLAGS: { vcpu: 0, cpumap: new Uint8Array(1) },
  DOMAIN_PIN_EMULATOR: { cpumap: new Uint8Array(1) },
  CONNECT_GET_CPU_MODEL_NAMES: { arch: 'x86_64' },
  CONNECT_GET_MAX_VCPUS: { type: undefined },
  CONNECT_BASELINE_HYPERVISOR_CPU: { type: undefined },
  DOMAIN_INTERFACE_STATS: { device: 'x' },
  DOMAIN_INTERFACE_ADDRESSES: { source: 0 },
  NODE_DEVICE_IS_ACTIVE: { device: { name: 'x' } },
  INTERFACE_IS_ACTIVE: { card: { name: 'x', mac: '' } },
}

test('every procedure that the protocol table has is answered or refused by name', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const uuid = '00000000-0000-0000-0000-000000000000'
  const dom = { name: 'x', uuid, id: -1 }
  const vol = { pool: 'p', name: 'v', key: 'k' }
  // One object has the arguments of all procedures: codecs take the fields that they know.
  const args = {
    dom,
    vol,
    uuid,
    net: dom,
    pool: { name: 'p', uuid },
    source: vol,
    name: 'x',
    id: 1,
    flags: 0,
    max: 0,
    xml: '',
    path: '',
    device: undefined,
    type: 0,
    uri: undefined,
    needResults: 0,
    event: 0,
    callbackId: 0,
    cpumap: '',
    state: 0,
    cpu: -1,
    cell: -1,
    needMap: 0,
    needOnline: 0,
    autostart: false,
    format: '',
    capability: undefined,
    arch: undefined,
    machine: undefined,
    emulator: undefined,
    mac: undefined,
    key: '',
    offset: 0n,
    length: 0n,
    capacity: 0n,
    maxInfo: 0,
    mapLength: 0,
    domains: [],
    cpus: [],
    stats: 0,
    screen: 0,
    codeset: 0,
    holdTime: 0,
    keycodes: [],
    memory: 0n,
    count: 0,
    size: 0n,
    period: 0,
    alias: '',
    metadata: undefined,
    types: 0,
    feature: 0,
    params: [],
  }
  for (const [name, { hasStream }] of Object.entries(PROCEDURES)) {
    if (
      hasStream ||
      name === 'CONNECT_CLOSE' ||
      name.includes('CAPABILITIES') ||
      name === 'DOMAIN_GET_METADATA'
    )
      continue
    const given = { ...args, ...OTHERS[name] }
    try {
      await client.call(name as 'CONNECT_GET_TYPE', given as never)
    } catch (error) {
      t.true(error instanceof VirtError, `${name}: ${String(error)}`)
      t.not((error as VirtError).code, 1, `${name}: ${String(error)}`)
    }
  }
})
