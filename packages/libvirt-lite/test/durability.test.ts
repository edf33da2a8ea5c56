import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { allSynced, removeDurably, writeDurably } from '../src/daemon/atomic.ts'
import { Client } from '../src/rpc/index.ts'
import { domainXml, folder, startDaemon } from './support/daemon.ts'

test('what was answered is there after the daemon was killed, and nothing is half there', async (t) => {
  const at = folder(t)
  const client = await spawnDaemon(t, at)
  const { dom } = await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('changed') })
  const changed = domainXml('changed', { uuid: dom.uuid, more: '<title>new</title>' })
  await client.call('DOMAIN_DEFINE_XML', { xml: changed })
  const gone = (await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('gone') })).dom
  await client.call('DOMAIN_UNDEFINE', { dom: gone })
  const pid = Number(readFileSync(join(at, 'state', 'daemon.pid'), 'utf8'))
  const answered: string[] = []
  const calls = Array.from({ length: 100 }, async (_, i) => {
    await client.call('DOMAIN_DEFINE_XML', { xml: domainXml(`d${i}`) })
    answered.push(`d${i}`)
    // In the middle of the next ones.
    if (answered.length === 40) process.kill(pid, 'SIGKILL')
  })
  await Promise.allSettled(calls)
  t.true(answered.length >= 40 && answered.length < 100, `${answered.length} were answered`)

  const { client: open, log } = await startDaemon(t, at)
  const again = await open()
  const { domains } = await again.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
  const there = new Set(domains.map(({ name }) => name))
  t.deepEqual(
    answered.filter((name) => !there.has(name)),
    [],
  )
  t.false(there.has('gone'))
  const { xml } = await again.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
  t.regex(xml, /<title>new<\/title>/)
  t.deepEqual(log, [])
})

/** A daemon in a process of its own. */
async function spawnDaemon(t: ExecutionContext, at: string): Promise<Client> {
  const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
  const args = ['--import=tsx', main, '--state', join(at, 'state'), '--socket', join(at, 's')]
  const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => daemon.kill('SIGKILL'))
  await once(daemon.stderr, 'data')
  const client = await Client.open({ path: join(at, 's') })
  t.teardown(() => client.destroy())
  return client
}

test('files are replaced whole, over what a killed process left, and through no link', async (t) => {
  const at = folder(t)
  const path = join(at, 'file')
  writeDurably(path, 'one')
  t.is(readFileSync(path, 'utf8'), 'one')
  writeFileSync(`${path}.new`, 'a piece')
  writeDurably(path, 'two')
  t.is(readFileSync(path, 'utf8'), 'two')
  const elsewhere = join(at, 'elsewhere')
  writeFileSync(elsewhere, 'a letter')
  symlinkSync(elsewhere, `${path}.new`)
  writeDurably(path, 'three')
  t.is(readFileSync(path, 'utf8'), 'three')
  t.is(readFileSync(elsewhere, 'utf8'), 'a letter')
  removeDurably(path)
  removeDurably(path)
  t.false(existsSync(path))
  // What is gone by then is no trouble to whoever syncs.
  await allSynced()
  t.deepEqual(readdirSync(at), ['elsewhere'])
  mkdirSync(join(at, 'full'))
  t.throws(() => writeDurably(join(at, 'full'), 'x'), { code: 'EISDIR' })
  t.deepEqual(readdirSync(at).toSorted(), ['elsewhere', 'full'])
})
