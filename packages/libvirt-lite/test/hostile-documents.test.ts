// Documents that mean harm, through every procedure that takes one; and names of domains that run.
import { once } from 'node:events'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { PROCEDURES, VirtError } from '../src/rpc/index.ts'
import type { DomainRef, Client } from '../src/rpc/index.ts'
import { define, domainXml, folder, startDaemon, stateOf } from './support/daemon.ts'
import { monitorOnlyEmulator } from './support/monitor-only.ts'
import { MIB, Raw } from './support/rig.ts'

const RPC_FAILED = 39
const pool = { name: 'default', uuid: '00000000-0000-0000-0000-000000000000' }
const CONFIG = 2

/** Every procedure that reads a document, with it. */
const TAKERS: Record<string, (client: Client, xml: string, dom: DomainRef) => Promise<unknown>> = {
  DOMAIN_DEFINE_XML: (client, xml) => client.call('DOMAIN_DEFINE_XML', { xml }),
  DOMAIN_DEFINE_XML_FLAGS: (client, xml) =>
    client.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 }),
  DOMAIN_CREATE_XML: (client, xml) => client.call('DOMAIN_CREATE_XML', { xml, flags: 0 }),
  DOMAIN_ATTACH_DEVICE_FLAGS: (client, xml, dom) =>
    client.call('DOMAIN_ATTACH_DEVICE_FLAGS', { dom, xml, flags: CONFIG }),
  DOMAIN_DETACH_DEVICE_FLAGS: (client, xml, dom) =>
    client.call('DOMAIN_DETACH_DEVICE_FLAGS', { dom, xml, flags: CONFIG }),
  DOMAIN_UPDATE_DEVICE_FLAGS: (client, xml, dom) =>
    client.call('DOMAIN_UPDATE_DEVICE_FLAGS', { dom, xml, flags: CONFIG }),
  CONNECT_DOMAIN_XML_TO_NATIVE: (client, xml) =>
    client.call('CONNECT_DOMAIN_XML_TO_NATIVE', { format: 'qemu-argv', xml, flags: 0 }),
  CONNECT_BASELINE_CPU: (client, xml) =>
    client.call('CONNECT_BASELINE_CPU', { cpus: [xml], flags: 0 }),
  NETWORK_CREATE_XML: (client, xml) => client.call('NETWORK_CREATE_XML', { xml }),
  NETWORK_DEFINE_XML: (client, xml) => client.call('NETWORK_DEFINE_XML', { xml }),
  STORAGE_POOL_CREATE_XML: (client, xml) =>
    client.call('STORAGE_POOL_CREATE_XML', { xml, flags: 0 }),
  STORAGE_POOL_DEFINE_XML: (client, xml) =>
    client.call('STORAGE_POOL_DEFINE_XML', { xml, flags: 0 }),
  STORAGE_VOL_CREATE_XML: (client, xml) =>
    client.call('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 }),
}

/** What there is below a folder, but for what changes by itself. */
function contents(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const file = join(entry.parentPath, entry.name)
      return `${file}: ${readFileSync(file, 'latin1')}`
    })
    .toSorted()
}

test('no procedure that takes a document expands it, reads another one, or takes long', async (t) => {
  const at = folder(t)
  const secret = join(at, 'secret')
  writeFileSync(secret, 'a-secret-of-the-host')
  const { client: open, state, log } = await startDaemon(t, at)
  const client = await open()
  const found = await client.call('STORAGE_POOL_LOOKUP_BY_NAME', { name: 'default' })
  pool.uuid = found.pool.uuid
  const dom = await define(client, domainXml('a'))
  const entities = Array.from({ length: 30 }, (_, i) => `<!ENTITY e${i + 1} "&e${i};&e${i};">`)
  const bomb = `<!DOCTYPE d [<!ENTITY e0 "x">${entities.join('')}]><d><name>&e30;</name></d>`
  const external = `<!DOCTYPE d [<!ENTITY x SYSTEM "file://${secret}">]><d><name>&x;</name></d>`
  const parameter = `<!DOCTYPE d [<!ENTITY % x SYSTEM "file://${secret}"> %x;]><d/>`
  const include = `<d xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='file://${secret}' parse='text'/></d>`
  const long = MIB
  const documents = [
    bomb,
    external,
    parameter,
    include,
    '<d>&x;</d>',
    '<d>'.repeat(long / 3),
    `<d>${'<e/>'.repeat((long - 8) / 4)}</d>`,
    `<d ${'a'.repeat(long - 20)}='x'/>`,
    '&'.repeat(long),
  ]
  const before = contents(state)
  for (const [name, take] of Object.entries(TAKERS)) {
    for (const xml of documents) {
      const told = `${name} ${xml.slice(0, 40)}`
      const error = await t.throwsAsync(take(client, xml, dom), { instanceOf: VirtError }, told)
      t.false(error?.message.includes('a-secret'), told)
      t.true((error?.message.length ?? 0) < 1000, told)
    }
  }
  t.deepEqual(contents(state), before)
  // What programs note may have any name; it is kept as it is.
  const note = { dom, type: 2, key: 'k', uri: 'u', flags: CONFIG }
  for (const metadata of [bomb, external, parameter, '<d>&x;</d>', '<d>'.repeat(1000)]) {
    const told = metadata.slice(0, 40)
    await t.throwsAsync(client.call('DOMAIN_SET_METADATA', { ...note, metadata }), undefined, told)
  }
  t.deepEqual(contents(state), before)
  await client.call('DOMAIN_SET_METADATA', { ...note, metadata: include })
  const kept = await client.call('DOMAIN_GET_METADATA', { dom, type: 2, uri: 'u', flags: CONFIG })
  t.regex(kept.metadata, /<xi:include href="file:\/\/[^"]+\/secret" parse="text"\/>/)
  t.deepEqual(log, [])
})

test('a document that no message may hold is refused, and the connection lives', async (t) => {
  const daemon = await startDaemon(t)
  const socket = connect({ path: daemon.socket })
  await once(socket, 'connect')
  t.teardown(() => socket.destroy())
  const peer = new Raw(socket)
  await peer.open()
  const size = 10 * MIB
  const text = Buffer.alloc(4 + size, ' ')
  text.writeUInt32BE(size)
  peer.call(PROCEDURES.DOMAIN_DEFINE_XML.number, text)
  const { status, payload } = await peer.next()
  t.deepEqual([status, payload.readInt32BE(0)], [1, RPC_FAILED])
  peer.call(PROCEDURES.CONNECT_GET_TYPE.number, Buffer.alloc(0))
  t.is((await peer.next()).status, 0)
})

test('a domain that runs keeps its name and UUID', async (t) => {
  const at = folder(t)
  const emulator = monitorOnlyEmulator(at)
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  const dom = await define(client, domainXml('a', { emulator }))
  await client.call('DOMAIN_CREATE', { dom })
  const uuid = '00000000-0000-4000-8000-00000000000a'
  const others = [
    [domainXml('a', { emulator, uuid }), /already exists with uuid/],
    [domainXml('b', { emulator, uuid: dom.uuid }), /already defined with uuid/],
  ] as const
  for (const [xml, message] of others) {
    await t.throwsAsync(define(client, xml), { message })
    await t.throwsAsync(client.call('DOMAIN_CREATE_XML', { xml, flags: 0 }), { message })
  }
  const same = domainXml('a', { emulator, uuid: dom.uuid })
  await t.throwsAsync(client.call('DOMAIN_CREATE_XML', { xml: same, flags: 0 }), {
    message: /already active/,
  })
  await t.throwsAsync(client.call('DOMAIN_RENAME', { dom, name: 'b', flags: 0 }), {
    message: /cannot rename active domain/,
  })
  // A definition without a UUID is another domain's, as libvirt has it.
  await t.throwsAsync(define(client, domainXml('a', { emulator })), {
    message: /already exists with uuid/,
  })
  const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
  t.deepEqual(
    domains.map(({ name, uuid }) => [name, uuid]),
    [['a', dom.uuid]],
  )
  t.deepEqual(await stateOf(client, dom), [1, 1])
})
