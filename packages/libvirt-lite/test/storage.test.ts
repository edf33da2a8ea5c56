// Storage pools and volumes, through our own client.
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { randomBytes, randomUUID } from 'node:crypto'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { Client, PoolRef, VolumeRef } from '../src/rpc/index.ts'
import { diskXml } from './support/button-guest.ts'
import { define, domainXml, folder, startDaemon } from './support/daemon.ts'

const volumeXml = (name: string, format: string, capacity: string, more = ''): string =>
  `<volume><name>${name}</name>${capacity}<target><format type='${format}'/></target>${more}</volume>`

const poolXml = (name: string, path: string): string =>
  `<pool type='dir'><name>${name}</name><target><path>${path}</path></target></pool>`

async function defaultPool(client: Client): Promise<PoolRef> {
  return (await client.call('STORAGE_POOL_LOOKUP_BY_NAME', { name: 'default' })).pool
}

async function create(client: Client, pool: PoolRef, xml: string): Promise<VolumeRef> {
  return (await client.call('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 })).vol
}

async function download(client: Client, vol: VolumeRef, offset: bigint, length: bigint) {
  const args = { vol, offset, length, flags: 0 }
  const { stream } = await client.openStream('STORAGE_VOL_DOWNLOAD', args)
  const pieces: Buffer[] = []
  for await (const piece of stream) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}

/** Resolves when the server has confirmed; rejects with its error. */
async function upload(
  client: Client,
  { vol, offset = 0n, length = 0n }: { vol: VolumeRef; offset?: bigint; length?: bigint },
  bytes: Buffer,
): Promise<void> {
  const { stream } = await client.openStream('STORAGE_VOL_UPLOAD', {
    vol,
    offset,
    length,
    flags: 0,
  })
  await new Promise<void>((resolve, reject) => {
    stream.once('error', reject)
    stream.end(bytes, (error?: Error | null) => (error ? reject(error) : resolve()))
  })
}

async function refused(t: ExecutionContext, call: Promise<unknown>, code: number, text: RegExp) {
  const error = await t.throwsAsync(call)
  t.is((error as unknown as { code: number }).code, code, error?.message)
  t.regex(error?.message ?? '', text)
}

test('volumes are made, listed, described, cloned, resized and deleted', async (t) => {
  const { client: open, state } = await startDaemon(t)
  const client = await open()
  const pool = await defaultPool(client)
  const size = `<capacity unit='MiB'>4</capacity>`
  const base = await create(client, pool, volumeXml('a.qcow2', 'qcow2', size))
  t.is(base.key, join(state, 'images/a.qcow2'))
  const store = `<backingStore><path>${base.key}</path><format type='qcow2'/></backingStore>`
  const over = await create(client, pool, volumeXml('b.qcow2', 'qcow2', '', store))
  const { xml } = await client.call('STORAGE_VOL_GET_XML_DESC', { vol: over, flags: 0 })
  t.true(xml.includes(`<path>${base.key}</path>`), xml)
  t.true(xml.includes(`<capacity unit='bytes'>${4 << 20}</capacity>`), xml)
  const odd = await create(client, pool, volumeXml('c', 'raw', '<capacity>1000003</capacity>'))
  t.is((await client.call('STORAGE_VOL_GET_INFO', { vol: odd })).capacity, 1_000_003n)
  const clone = volumeXml('d', 'raw', `<capacity unit='M'>8</capacity>`)
  const copied = { pool, xml: clone, source: base, flags: 0 }
  const { vol } = await client.call('STORAGE_VOL_CREATE_XML_FROM', copied)
  t.is((await client.call('STORAGE_VOL_GET_INFO', { vol })).capacity, BigInt(8 << 20))
  await client.call('STORAGE_VOL_RESIZE', { vol: base, capacity: BigInt(1 << 20), flags: 2 })
  const { capacity } = await client.call('STORAGE_VOL_GET_INFO', { vol: base })
  t.is(capacity, BigInt(5 << 20))
  const info = async (one: VolumeRef) => client.call('STORAGE_VOL_GET_INFO', { vol: one })
  const sparse = await create(
    client,
    pool,
    volumeXml('s', 'raw', '<capacity>4096</capacity><allocation>0</allocation>'),
  )
  await client.call('STORAGE_VOL_RESIZE', { vol: sparse, capacity: BigInt(1 << 20), flags: 1 })
  t.true((await info(sparse)).allocation >= BigInt(1 << 20) - 4096n)
  const whole = { pool, xml: volumeXml('m', 'qcow2', ''), source: sparse, flags: 1 }
  const { vol: prepared } = await client.call('STORAGE_VOL_CREATE_XML_FROM', whole)
  t.is((await info(prepared)).capacity, BigInt(1 << 20))
  for (const one of [sparse, prepared]) {
    await client.call('STORAGE_VOL_DELETE', { vol: one, flags: 0 })
  }
  const shrink = client.call('STORAGE_VOL_RESIZE', { vol: base, capacity: 512n, flags: 0 })
  await refused(t, shrink, 8, /Can't shrink/)
  await client.call('STORAGE_VOL_DELETE', { vol, flags: 0 })
  const all = { pool, needResults: 1, flags: 0 }
  const { volumes } = await client.call('STORAGE_POOL_LIST_ALL_VOLUMES', all)
  t.deepEqual(
    volumes.map(({ name }) => name),
    ['a.qcow2', 'b.qcow2', 'c'],
  )
  // Of two at once one wins, and the other leaves it alone.
  const twice = [1, 2].map(() => create(client, pool, volumeXml('e', 'qcow2', size)))
  const outcomes = await Promise.allSettled(twice)
  t.deepEqual(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
  t.deepEqual(readdirSync(join(state, 'images')).toSorted(), ['a.qcow2', 'b.qcow2', 'c', 'e'])
  const again = create(client, pool, volumeXml('c', 'raw', '<capacity>1</capacity>'))
  await refused(t, again, 90, /exists already/)
  t.is(readFileSync(odd.key).length, 1_000_003, 'what was there is as it was')
})

test('volumes and folders have the permissions of their definitions', async (t) => {
  const at = folder(t)
  const { client: open, state, daemon } = await startDaemon(t, at)
  const client = await open()
  const pool = await defaultPool(client)
  const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)
  const withMode = (name: string, inner: string): string =>
    volumeXml(name, 'qcow2', '<capacity>65536</capacity>').replace('</target>', `${inner}</target>`)
  const plain = await create(client, pool, withMode('plain', ''))
  t.is(modeOf(plain.key), '600')
  const who = `<owner>${process.getuid!()}</owner><group>-1</group>`
  const inner = `<permissions><mode>0640</mode>${who}</permissions>`
  const open640 = await create(client, pool, withMode('a', inner))
  t.is(modeOf(open640.key), '640')
  const described = async (vol: VolumeRef): Promise<string> =>
    (await client.call('STORAGE_VOL_GET_XML_DESC', { vol, flags: 0 })).xml
  const xml = await described(open640)
  t.regex(xml, /<mode>0640<\/mode>[^]*<mtime>\d+\.?\d*<\/mtime>[^]*<compat>1\.1<[^]*<features\/>/)
  // A clone is described as its source, as virsh vol-clone does it.
  const copy = { pool, xml: xml.replace('<name>a<', '<name>b<'), source: open640, flags: 0 }
  const { vol: clone } = await client.call('STORAGE_VOL_CREATE_XML_FROM', copy)
  t.is(modeOf(clone.key), '640')
  const old = await create(
    client,
    pool,
    withMode('old', "<compat>0.10</compat><clusterSize unit='KiB'>4</clusterSize>"),
  )
  t.notRegex(await described(old), /<compat>|<features/)
  t.regex(await described(old), /<clusterSize unit='B'>4096</)
  const lazy = await create(
    client,
    pool,
    withMode('lazy', '<compat>1.1</compat><features><lazy_refcounts/></features>'),
  )
  t.regex(await described(lazy), /<features>\s+<lazy_refcounts\/>/)
  const over = await create(
    client,
    pool,
    withMode('over', '').replace(
      '</volume>',
      `<backingStore><path>${old.key}</path><format type='qcow2'/></backingStore></volume>`,
    ),
  )
  t.regex(
    await described(over),
    /<backingStore>\s+<path>.*old<\/path>\s+<format type='qcow2'\/>\s+<permissions>\s+<mode>0600</,
  )
  for (const [part, code] of [
    ['<permissions><mode>8</mode></permissions>', 27],
    ['<permissions><owner>-2</owner></permissions>', 27],
    ['<permissions><group>4294967296</group></permissions>', 27],
    ['<permissions><label>x</label></permissions>', 67],
    ['<compat>2</compat>', 27],
    ['<compat>0.10</compat><features><lazy_refcounts/></features>', 67],
    ['<features><extended_l2/></features>', 67],
    ["<clusterSize unit='B'>3</clusterSize>", 9],
  ] as const) {
    await refused(t, create(client, pool, withMode('x', part)), code, /./)
  }
  t.false(existsSync(join(state, 'images/x')))

  // Folders: what is there keeps what the definition says nothing of.
  const poolOf = (name: string, more: string): string =>
    poolXml(name, join(at, name)).replace('</target>', `${more}</target>`)
  mkdirSync(join(at, 'there'), { mode: 0o750 })
  for (const [name, more, expected] of [
    ['new', '', '711'],
    ['private', '<permissions><mode>0700</mode></permissions>', '700'],
    ['there', '', '750'],
  ] as const) {
    const { pool: made } = await client.call('STORAGE_POOL_DEFINE_XML', {
      xml: poolOf(name, more),
      flags: 0,
    })
    await client.call('STORAGE_POOL_BUILD', { pool: made, flags: 0 })
    t.is(modeOf(join(at, name)), expected)
  }
  await client.close()
  await daemon.stop()
  const { client: reopen } = await startDaemon(t, at)
  const again = await reopen()
  const { pool: kept } = await again.call('STORAGE_POOL_LOOKUP_BY_NAME', { name: 'private' })
  const { xml: poolText } = await again.call('STORAGE_POOL_GET_XML_DESC', { pool: kept, flags: 0 })
  t.regex(poolText, /<mode>0700</)
})

test('volumes are written and read in parts', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const pool = await defaultPool(client)
  const bytes = randomBytes(3_000_001)
  const capacity = `<capacity>${bytes.length}</capacity>`
  const vol = await create(client, pool, volumeXml('v', 'raw', capacity))
  await upload(client, { vol }, bytes)
  t.true((await download(client, vol, 0n, 0n)).equals(bytes))
  t.true((await download(client, vol, 1000n, 70_000n)).equals(bytes.subarray(1000, 71_000)))
  await upload(client, { vol, offset: 5n, length: 3n }, Buffer.from('abc'))
  t.is((await download(client, vol, 4n, 5n)).subarray(1, 4).toString(), 'abc')
  const more = upload(client, { vol, length: 2n }, Buffer.from('abcd'))
  await refused(t, more, 8, /more than the 2 bytes/)
})

test('pools are defined, built, started, and are there for the next daemon', async (t) => {
  const at = folder(t)
  const images = join(at, 'new/images')
  const { client: open, daemon } = await startDaemon(t, at)
  const client = await open()
  const { pool } = await client.call('STORAGE_POOL_DEFINE_XML', {
    xml: poolXml('x', images),
    flags: 0,
  })
  const start = (): Promise<unknown> => client.call('STORAGE_POOL_CREATE', { pool, flags: 0 })
  await refused(t, start(), 38, /pool-build/)
  await client.call('STORAGE_POOL_BUILD', { pool, flags: 0 })
  await start()
  await client.call('STORAGE_POOL_SET_AUTOSTART', { pool, autostart: true })
  writeFileSync(join(images, 'disk'), 'x'.repeat(512))
  const found = await client.call('STORAGE_VOL_LOOKUP_BY_PATH', {
    path: `${images}/../images/disk`,
  })
  t.deepEqual(found.vol, { pool: 'x', name: 'disk', key: join(images, 'disk') })
  const same = client.call('STORAGE_POOL_DEFINE_XML', { xml: poolXml('y', images), flags: 0 })
  await refused(t, same, 9, /conflict with pool: 'x'/)
  // A pool without a definition is not lost when it is asked for again.
  mkdirSync(join(at, 'other'))
  const named = poolXml('z', join(at, 'other'))
  const xml = named.replace('<target>', `<uuid>${randomUUID()}</uuid><target>`)
  const { pool: other } = await client.call('STORAGE_POOL_CREATE_XML', { xml, flags: 0 })
  const more = client.call('STORAGE_POOL_CREATE_XML', { xml, flags: 0 })
  await refused(t, more, 55, /already active/)
  t.true((await client.call('STORAGE_POOL_IS_ACTIVE', { pool: other })).active)
  await daemon.stop()

  const next = await (await startDaemon(t, at)).client()
  t.true((await next.call('STORAGE_POOL_IS_ACTIVE', { pool })).active)
  await refused(t, next.call('STORAGE_POOL_UNDEFINE', { pool }), 55, /still active/)
  await next.call('STORAGE_POOL_DESTROY', { pool })
  await next.call('STORAGE_POOL_UNDEFINE', { pool })
  const { pools } = await next.call('CONNECT_LIST_ALL_STORAGE_POOLS', { needResults: 1, flags: 0 })
  t.deepEqual(
    pools.map(({ name }) => name),
    ['default'],
  )
  t.true(existsSync(join(images, 'disk')))
})

test('names and folders of pools that lead elsewhere are refused, and leave nothing', async (t) => {
  const at = folder(t)
  const { client: open, state } = await startDaemon(t, at)
  const client = await open()
  const files = (): string[] => readdirSync(state, { recursive: true }).map(String).toSorted()
  const before = files()
  const good = join(at, 'pool')
  for (const [name, path] of [
    ['../../x', good],
    ['a/b', good],
    ['..', good],
    ['.hidden', good],
    ['', good],
    ['two&#10;lines', good],
    ['x', 'pool'],
    ['x', '../pool'],
    ['x', ''],
  ] as const) {
    const xml = poolXml(name, path)
    for (const procedure of ['STORAGE_POOL_DEFINE_XML', 'STORAGE_POOL_CREATE_XML'] as const) {
      await refused(t, client.call(procedure, { xml, flags: 0 }), 27, /XML error: (name|missing)/)
    }
  }
  // The name of its definition's file.
  const uuid = poolXml('x', good).replace('<target>', '<uuid>../../../../x</uuid><target>')
  const named = client.call('STORAGE_POOL_DEFINE_XML', { xml: uuid, flags: 0 })
  await refused(t, named, 27, /malformed uuid/)
  t.deepEqual(files(), before)
  t.false(existsSync(good))
})

test('a name stays in its folder, a link is no volume, and a used disk is left alone', async (t) => {
  const at = folder(t)
  const { client: open, state } = await startDaemon(t, at)
  const client = await open()
  const pool = await defaultPool(client)
  const images = join(state, 'images')
  for (const [name, code, text] of [
    ['..', 27, /not the name of a file/],
    ['.', 27, /not the name of a file/],
    ['', 27, /missing volume name element/],
    ['a/b', 55, /cannot contain '\/'/],
    ['../x', 55, /cannot contain '\/'/],
    ['n'.repeat(256), 27, /not the name of a file/],
  ] as const) {
    const xml = volumeXml(name, 'raw', '<capacity>1</capacity>')
    await refused(t, create(client, pool, xml), code, text)
    const vol = { pool: 'default', name, key: join(images, name) }
    await refused(t, client.call('STORAGE_VOL_DELETE', { vol, flags: 0 }), 50, /no storage vol/)
  }
  writeFileSync(join(at, 'secret'), 'secret')
  symlinkSync(join(at, 'secret'), join(images, 'link'))
  mkdirSync(join(images, 'folder'))
  writeFileSync(join(images, 'bell\u0007'), '')
  for (const name of ['link', 'folder', 'none']) {
    const lookup = client.call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name })
    await refused(t, lookup, 50, /no storage vol/)
  }
  for (const xml of [
    volumeXml('v', 'vmdk', '<capacity>1</capacity>'),
    volumeXml('v', 'raw', `<capacity unit='X'>1</capacity>`),
    volumeXml('v', 'raw', `<capacity unit='TiB'>99999999999</capacity>`),
    volumeXml('v', 'raw', '<capacity>-1</capacity>'),
    volumeXml('v', 'raw', ''),
    volumeXml('v', 'raw', '<capacity>1</capacity><encryption/>'),
    '<volume>',
    '<pool/>',
  ]) {
    const error = await t.throwsAsync(create(client, pool, xml), undefined, xml)
    const { code } = error as unknown as { code: number }
    t.true(code === 27 || code === 67, `${xml}: ${code} ${error?.message}`)
  }
  t.deepEqual(readdirSync(images).toSorted(), ['bell\u0007', 'folder', 'link'])
  // An image may name whatever it likes.
  const header = Buffer.alloc(512)
  header.write('QFI\xfb', 'latin1')
  header.writeUInt32BE(3, 4)
  header.writeBigUInt64BE(104n, 8)
  header.writeUInt32BE(4, 16)
  header.write('a\u0001<b', 104)
  writeFileSync(join(images, 'odd'), header)
  const odd = { pool: 'default', name: 'odd', key: '' }
  const { xml } = await client.call('STORAGE_VOL_GET_XML_DESC', { vol: odd, flags: 0 })
  t.true(xml.includes('/a?&lt;b</path>'), xml)
  const all = { pool, needResults: 1, flags: 0 }
  const { volumes } = await client.call('STORAGE_POOL_LIST_ALL_VOLUMES', all)
  t.deepEqual(
    volumes.map(({ name }) => name),
    ['odd'],
  )
  const vol = await create(client, pool, volumeXml('d', 'raw', '<capacity>1048576</capacity>'))
  const dom = await define(client, domainXml('a', { devices: diskXml(vol.key) }))
  await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom, flags: 1 })
  await refused(t, client.call('STORAGE_VOL_DELETE', { vol, flags: 0 }), 55, /in use by a running/)
  await refused(t, upload(client, { vol }, Buffer.from('x')), 55, /in use by a running/)
})
