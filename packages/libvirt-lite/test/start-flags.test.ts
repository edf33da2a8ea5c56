// What a start can be asked for besides running.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { findProcesses } from '../src/driver/process.ts'
import { Client } from '../src/rpc/index.ts'
import type { VirtError } from '../src/rpc/index.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'

const PAUSED = 1
const AUTODESTROY = 2
const VALIDATE = 16
const RESET_NVRAM = 32
const OFF_DESTROYED = [5, 2]

test('a domain that was started so ends with its client, and others do not', async (t) => {
  const at = folder(t)
  const { client: open, daemon, state, socket } = await startDaemon(t, at)
  const client = await open()
  const brief = await Client.open({ path: socket })
  const kept = await define(client, domainXml('kept'))
  const defined = await define(client, domainXml('defined'))
  const again = await define(client, domainXml('again'))
  await brief.call('DOMAIN_CREATE_WITH_FLAGS', { dom: kept, flags: PAUSED })
  const flags = PAUSED | AUTODESTROY
  for (const dom of [defined, again]) await brief.call('DOMAIN_CREATE_WITH_FLAGS', { dom, flags })
  const { dom } = await brief.call('DOMAIN_CREATE_XML', { xml: domainXml('brief'), flags })
  // Of the client's run nothing is left: this is somebody else's.
  await client.call('DOMAIN_DESTROY', { dom: again })
  await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom: again, flags: PAUSED })
  await brief.close()
  await until(async () => (await stateOf(client, defined))[0] === 5)
  t.deepEqual(await stateOf(client, defined), OFF_DESTROYED)
  await until(async () => {
    const { domains } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
    return !domains.some(({ name }) => name === 'brief')
  })
  t.is((await stateOf(client, kept))[0], 3)
  t.is((await stateOf(client, again))[0], 3)
  await t.throwsAsync(client.call('DOMAIN_GET_INFO', { dom }), { message: /no domain/ })

  // A daemon that is killed takes the connection along; what is left of it is for the next one to end.
  await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom: defined, flags: PAUSED })
  const [running] = findProcesses(join(state, 'run'))
  t.truthy(running)
  const { id } = (await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'defined' })).dom
  await client.close()
  await daemon.stop()
  const file = join(state, 'run', `${id}`, 'status.json')
  const status = JSON.parse(readFileSync(file, 'utf8')) as { autoDestroy: boolean }
  t.false(status.autoDestroy)
  writeFileSync(file, JSON.stringify({ ...status, autoDestroy: true }))
  const { client: reopen } = await startDaemon(t, at)
  const next = await reopen()
  t.deepEqual(await stateOf(next, defined), OFF_DESTROYED)
  t.is((await stateOf(next, kept))[0], 3)
  for (const one of [kept, again]) await next.call('DOMAIN_DESTROY', { dom: one })
})

test('firmware begins anew with its variables when it is asked for', async (t) => {
  const at = folder(t)
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  const [code, template, nvram] = ['code.fd', 'vars.fd', 'own.fd'].map((name) => join(at, name))
  writeFileSync(code!, Buffer.alloc(1 << 20, 0xf4))
  writeFileSync(template!, Buffer.alloc(1 << 18, 'new'))
  const os = `<loader readonly='yes' type='pflash'>${code}</loader><nvram template='${template}'>${nvram}</nvram>`
  const dom = await define(client, domainXml('a', { os, more: '<features><acpi/></features>' }))
  const start = async (flags: number): Promise<string> => {
    await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom, flags: PAUSED | flags })
    await client.call('DOMAIN_DESTROY', { dom })
    return readFileSync(nvram!).subarray(0, 3).toString()
  }
  t.is(await start(0), 'new')
  writeFileSync(nvram!, Buffer.alloc(1 << 18, 'old'))
  t.is(await start(0), 'old')
  t.is(await start(RESET_NVRAM), 'new')
  t.false(existsSync(`${nvram}.new`))
})

test('a document is refused for words that are not known only when it is to be checked', async (t) => {
  const at = folder(t)
  const { client: open, socket } = await startDaemon(t, at)
  const client = await open()
  const documents: readonly (readonly [string, RegExp])[] = [
    [domainXml('a', { devices: '<gizmo/>' }), /\/domain\/devices\/gizmo \(line \d+\): there is no/],
    [
      domainXml('a', { devices: "<rng model='virtio' modle='x'><backend model='builtin'/></rng>" }),
      /\/rng\[1\]\/@modle.*did you mean "model"/,
    ],
    [domainXml('a', { more: '<featrues/>' }), /\/domain\/featrues .*did you mean "features"/],
  ]
  for (const [xml, expected] of documents) {
    for (const call of [
      client.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 1 }),
      client.call('DOMAIN_CREATE_XML', { xml, flags: VALIDATE }),
    ]) {
      const { code, message } = (await t.throwsAsync(call)) as VirtError
      t.is(code, 92)
      t.regex(message, /^XML document failed to validate against schema: /)
      t.regex(message, expected)
    }
    t.is((await client.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })).dom.name, 'a')
    const { dom } = await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'a' })
    await client.call('DOMAIN_UNDEFINE', { dom })
  }
  const good = domainXml('a', { more: "<metadata><x:y xmlns:x='http://x'/></metadata>" })
  t.is((await client.call('DOMAIN_DEFINE_XML_FLAGS', { xml: good, flags: 1 })).dom.name, 'a')

  // virsh has what an editor made checked, and asks its user what to do; here is nobody to ask.
  if (!hasVirsh) return without(t, 'virsh')
  const editor = join(at, 'editor')
  writeFileSync(editor, `#!/bin/sh\nsed -i 's#<devices>#<devices><gizmo/>#' "$1"\n`, {
    mode: 0o755,
  })
  process.env['EDITOR'] = editor
  t.teardown(() => delete process.env['EDITOR'])
  await virsh(socket, 'edit', 'a')
  t.notRegex((await virsh(socket, 'dumpxml', 'a')).output, /gizmo/)
})
