// Run on a small disk of its own: what a daemon does when that is full. Says `all is well` at the end.
import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Daemon } from '../../src/daemon/daemon.ts'
import { Client, ErrorCode, VirtError } from '../../src/rpc/index.ts'
import { domainXml } from './daemon.ts'

const [disk = '', socket = ''] = process.argv.slice(2)
const stateDir = join(disk, 'state')

async function start(): Promise<{ daemon: Daemon; client: Client }> {
  const daemon = await Daemon.start({ stateDir, socket })
  return { daemon, client: await Client.open({ path: socket }) }
}

/** Fills the disk to its last byte. */
function fill(): void {
  const file = openSync(join(disk, 'ballast'), 'a')
  try {
    for (let size = 65_536; size > 0; size >>= 1) {
      try {
        for (;;) assert(writeSync(file, Buffer.alloc(size)) > 0)
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
      }
    }
  } finally {
    closeSync(file)
  }
}

async function full(work: Promise<unknown>, what: string): Promise<void> {
  const error = await work.then(
    () => assert.fail(`${what}: it was saved on a full disk`),
    (reason: unknown) => reason,
  )
  assert(error instanceof VirtError, String(error))
  assert.match(error.message, /ENOSPC|no space/i, what)
  assert.notEqual(error.code, ErrorCode.INTERNAL_ERROR, what)
}

let { daemon, client } = await start()
const { dom } = await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('a') })
const xmlOf = async (): Promise<string> =>
  (await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml
const before = await xmlOf()
const file = join(stateDir, 'domains', `${dom.uuid}.xml`)
const kept = readFileSync(file, 'utf8')
const running = (await client.call('DOMAIN_CREATE_XML', { xml: domainXml('r'), flags: 0 })).dom
fill()

// What runs is changed all the same.
const live = {
  dom: running,
  type: 1,
  metadata: 'changed',
  key: undefined,
  uri: undefined,
  flags: 1,
}
await client.call('DOMAIN_SET_METADATA', live)
const described = await client.call('DOMAIN_GET_XML_DESC', { dom: running, flags: 0 })
assert.match(described.xml, /<title>changed</)
await client.call('DOMAIN_DESTROY', { dom: running })
fill()

await full(client.call('DOMAIN_DEFINE_XML', { xml: domainXml('b') }), 'a new domain')
const longer = domainXml('a', {
  uuid: dom.uuid,
  more: `<description>${'x'.repeat(20_000)}</description>`,
})
await full(client.call('DOMAIN_DEFINE_XML', { xml: longer }), 'another definition')
const note = { dom, type: 1, metadata: 'title', key: undefined, uri: undefined, flags: 2 }
await full(client.call('DOMAIN_SET_METADATA', note), 'a title')
const rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
await full(client.call('DOMAIN_ATTACH_DEVICE_FLAGS', { dom, xml: rng, flags: 2 }), 'a device')
await full(client.call('DOMAIN_SET_MEMORY_FLAGS', { dom, memory: 32_768n, flags: 2 }), 'memory')
await full(client.call('DOMAIN_RENAME', { dom, name: 'c', flags: 0 }), 'another name')
await full(client.call('DOMAIN_CREATE', { dom }), 'a start')
const poolXml = `<pool type='dir'><name>full</name><target><path>${disk}</path></target></pool>`
const pools = { needResults: 1, flags: 0 }
await full(client.call('STORAGE_POOL_DEFINE_XML', { xml: poolXml, flags: 0 }), 'a pool')
assert.equal((await client.call('CONNECT_LIST_ALL_STORAGE_POOLS', pools)).count, 1)
const { pool } = await client.call('STORAGE_POOL_CREATE_XML', { xml: poolXml, flags: 0 })
const same = poolXml.replace('</name>', `</name><uuid>${pool.uuid}</uuid>`)
await full(client.call('STORAGE_POOL_DEFINE_XML', { xml: same, flags: 0 }), 'a pool that is there')
assert.equal((await client.call('STORAGE_POOL_IS_PERSISTENT', { pool })).persistent, false)
await client.call('STORAGE_POOL_DESTROY', { pool })
assert.equal(await xmlOf(), before)
assert.equal(readFileSync(file, 'utf8'), kept)
const list = { needResults: 1, flags: 0 }
assert.deepEqual((await client.call('CONNECT_LIST_ALL_DOMAINS', list)).domains, [dom])
assert.equal((await client.call('DOMAIN_GET_STATE', { dom, flags: 0 })).state, 5)
assert.deepEqual(readdirSync(join(stateDir, 'domains')), [`${dom.uuid}.xml`])
assert.deepEqual(readdirSync(join(stateDir, 'run')), [])

// Removing something needs no room, and a further daemon finds all as it was.
await client.close()
await daemon.stop()
;({ daemon, client } = await start())
assert.equal(await xmlOf(), before)

rmSync(join(disk, 'ballast'))
await client.call('DOMAIN_DEFINE_XML', { xml: longer })
await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('b') })
assert.equal((await client.call('CONNECT_LIST_ALL_DOMAINS', list)).count, 2)
fill()
await client.call('DOMAIN_UNDEFINE', { dom })
assert.equal((await client.call('CONNECT_LIST_ALL_DOMAINS', list)).count, 1)
await client.close()
await daemon.stop()
console.log('all is well')
