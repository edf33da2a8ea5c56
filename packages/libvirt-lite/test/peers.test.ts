// Each side with the other's: our client with libvirt's daemon, and libvirt for Python with both daemons. What they see of
// the two is compared.
import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Client } from '../src/rpc/index.ts'
import { PYTHON, hasPython, without } from './support/clients.ts'
import { UUID, bothSides, document } from './support/both-sides.ts'
import type { Side } from './support/both-sides.ts'
import { until } from './support/daemon.ts'
import { missing } from './support/libvirtd.ts'

/** A lifecycle event. */
const SHUTDOWN = 6

/** Everything that a program could do with a daemon in a while; what it learns is the result. */
async function converse(t: ExecutionContext, side: Side): Promise<unknown[]> {
  const seen: unknown[] = []
  const client = await Client.open({ path: side.socket }, { uri: 'qemu:///session' })
  t.teardown(() => client.destroy())
  const say = (...words: unknown[]): void => {
    seen.push(words)
  }
  const refused = async (work: Promise<unknown>): Promise<void> => {
    const { code, message } = (await t.throwsAsync(work)) as unknown as {
      code: number
      message: string
    }
    say('refused', code, message)
  }
  const { callbackId } = await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', {
    event: 0,
    dom: undefined,
  })
  const events: string[] = []
  client.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', (it) => {
    // That an emulator which is ended shuts down is told or not, as its last words are heard or not.
    if (it.message.event !== SHUTDOWN)
      events.push(`${it.message.dom.name} ${it.message.event} ${it.message.detail}`)
  })
  say((await client.call('CONNECT_GET_TYPE', undefined)).type)
  const { mhz, memory, ...node } = await client.call('NODE_GET_INFO', undefined)
  say(node, mhz > 0, memory)
  say(await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 }))
  await refused(client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'p' }))
  await refused(client.call('DOMAIN_LOOKUP_BY_UUID', { uuid: UUID }))
  const { dom } = await client.call('DOMAIN_DEFINE_XML', { xml: document(side) })
  say(dom)
  say(await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 }))
  say(await client.call('DOMAIN_GET_STATE', { dom, flags: 0 }))
  await client.call('DOMAIN_SET_METADATA', {
    dom,
    type: 2,
    metadata: '<x a="1"/>',
    key: 'k',
    uri: 'http://example.org/k',
    flags: 0,
  })
  say(
    await client.call('DOMAIN_GET_METADATA', {
      dom,
      type: 2,
      uri: 'http://example.org/k',
      flags: 0,
    }),
  )
  say(await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 2 }))
  await refused(client.call('DOMAIN_SUSPEND', { dom }))
  await client.call('DOMAIN_CREATE_WITH_FLAGS', { dom, flags: 1 })
  say(await client.call('DOMAIN_GET_STATE', { dom, flags: 0 }))
  await client.call('DOMAIN_RESUME', { dom })
  const running = (await client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'p' })).dom
  say(running)
  const { cpuTime: _time, ...info } = await client.call('DOMAIN_GET_INFO', { dom: running })
  say(info)
  const { stats } = await client.call('DOMAIN_MEMORY_STATS', { dom, max: 11, flags: 0 })
  say(stats.map(({ tag }) => tag))
  const { params, count } = await client.call('DOMAIN_BLOCK_STATS_FLAGS', {
    dom,
    path: 'vda',
    max: 16,
    flags: 0,
  })
  say(
    count,
    params.map(({ field, type }) => [field, type]),
  )
  const { records } = await client.call('CONNECT_GET_ALL_DOMAIN_STATS', {
    domains: [running],
    stats: 63,
    flags: 0,
  })
  // What cgroups, caches and tap devices would tell is not told here.
  const groups = /^(state|balloon|vcpu|block)\./
  say(
    records.flatMap((it) =>
      it.params.filter(({ field }) => groups.test(field)).map(({ field, type }) => [field, type]),
    ),
  )
  await refused(client.call('DOMAIN_BLOCK_STATS', { dom, path: 'vdz' }))
  const disk = `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${side.at}/vdb.img'/><target dev='vdb' bus='virtio'/></disk>`
  await client.call('DOMAIN_ATTACH_DEVICE', { dom, xml: disk })
  const { xml } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
  say(/<source file='.*vdb\.img' index='\d+'\/>[^]*?<alias name='(.*?)'/.exec(xml)?.[1])
  say(await client.call('DOMAIN_GET_BLOCK_INFO', { dom, path: 'vda', flags: 0 }))
  const picture = await client.openStream('DOMAIN_SCREENSHOT', { dom, screen: 0, flags: 0 })
  say(picture.result.mime, (await buffer(picture.stream)).toString('latin1', 0, 8))
  say(
    JSON.parse(await client.monitorCommand({ dom, command: '{"execute":"query-name"}', flags: 0 }))
      .return,
  )

  const poolXml = `<pool type='dir'><name>q</name><target><path>${side.at}/pool</path></target></pool>`
  const { pool } = await client.call('STORAGE_POOL_CREATE_XML', { xml: poolXml, flags: 0 })
  const volumeXml = `<volume><name>v</name><capacity>300000</capacity><target><format type='raw'/></target></volume>`
  const { vol } = await client.call('STORAGE_VOL_CREATE_XML', { pool, xml: volumeXml, flags: 0 })
  say(vol.pool, vol.name)
  const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i & 0xff))
  const whole = { vol, offset: 0n, length: BigInt(data.length), flags: 0 }
  const up = await client.openStream('STORAGE_VOL_UPLOAD', whole)
  await new Promise<void>((resolve, reject) => {
    up.stream.once('error', reject)
    up.stream.end(data, () => resolve())
  })
  const down = await client.openStream('STORAGE_VOL_DOWNLOAD', whole)
  say((await buffer(down.stream)).equals(data))
  await refused(client.call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name: 'w' }))
  await client.call('STORAGE_VOL_DELETE', { vol, flags: 0 })

  await client.call('DOMAIN_DESTROY', { dom })
  await refused(client.call('DOMAIN_DESTROY', { dom }))
  await client.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 })
  await refused(client.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 }))
  await until(() => events.includes('p 1 0'))
  await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY', { callbackId })
  say(events)
  await client.close()
  return seen
}

test.serial('our client sees the same of both daemons', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  const sides = await bothSides(t)
  const [ours, theirs] = await Promise.all(sides.map((side) => converse(t, side)))
  const plain = (it: unknown, { at }: Side): unknown =>
    JSON.parse(
      JSON.stringify(it, (_key, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      ).replaceAll(at, 'DIR'),
    )
  t.deepEqual(plain(ours, sides[0]), plain(theirs, sides[1]))
  t.true(ours!.length > 25)
})

const SCRIPT = `
import libvirt, sys, threading, time
uri, folder = sys.argv[1:3]
def quiet(ctx, error): pass
libvirt.registerErrorHandler(quiet, None)
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True: libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
events = []
def say(*words): print(*words, flush=True)
def refused(work, *args):
    try: say('not refused', work(*args))
    except libvirt.libvirtError as error: say('refused', error.get_error_code(), error.get_error_level(), error)
def until(what):
    for _ in range(600):
        if what(): return
        time.sleep(0.05)
    say('never', events)
c = libvirt.open(uri)
L = libvirt
c.domainEventRegisterAny(None, L.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, e, x, o: e != 6 and events.append(('life', d.name(), e, x)), None)
c.domainEventRegisterAny(None, L.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, lambda c, d, t, u, o: events.append(('meta', t, u)), None)
c.domainEventRegisterAny(None, L.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, lambda c, d, a, o: events.append(('added', a)), None)
c.domainEventRegisterAny(None, L.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, lambda c, d, a, o: events.append(('removed', a)), None)
c.setKeepAlive(1, 5)
say(c.getType(), c.getVersion(), c.getLibVersion(), c.isSecure(), c.isEncrypted(), c.isAlive())
say(c.getInfo()[0], c.getInfo()[2], c.getCPUMap())
say(sorted(c.getMemoryStats(-1)), sorted(c.getCPUStats(-1)))
say([d.name() for d in c.listAllDomains()], c.numOfDomains(), c.listDefinedDomains())
refused(c.lookupByName, 'p')
refused(c.lookupByID, 99)
d = c.defineXML(sys.stdin.read())
say(d.name(), d.UUIDString(), d.ID(), d.isActive(), d.isPersistent(), d.isUpdated(), d.autostart(), d.OSType(), d.maxMemory(), d.hasManagedSaveImage(), d.snapshotNum())
say(d.state(), d.info()[:4])
refused(d.maxVcpus)
refused(d.vcpus)
d.setAutostart(1); say(d.autostart(), len(c.listAllDomains(L.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))); d.setAutostart(0)
d.setMetadata(L.VIR_DOMAIN_METADATA_TITLE, 'one', None, None, 0)
d.setMetadata(L.VIR_DOMAIN_METADATA_ELEMENT, '<a><b/></a>', 'k', 'urn:k', 0)
say(d.metadata(L.VIR_DOMAIN_METADATA_TITLE, None), d.metadata(L.VIR_DOMAIN_METADATA_ELEMENT, 'urn:k'))
refused(d.metadata, L.VIR_DOMAIN_METADATA_DESCRIPTION, None)
d.setMemoryFlags(32768, L.VIR_DOMAIN_AFFECT_CONFIG)
refused(d.setMemoryFlags, 1 << 20, L.VIR_DOMAIN_AFFECT_CONFIG)
d.setVcpusFlags(2, L.VIR_DOMAIN_AFFECT_CONFIG | L.VIR_DOMAIN_VCPU_MAXIMUM)
say(d.vcpusFlags(L.VIR_DOMAIN_AFFECT_CONFIG), d.vcpusFlags(L.VIR_DOMAIN_AFFECT_CONFIG | L.VIR_DOMAIN_VCPU_MAXIMUM))
d.setVcpusFlags(1, L.VIR_DOMAIN_AFFECT_CONFIG | L.VIR_DOMAIN_VCPU_MAXIMUM)
say(d.XMLDesc(L.VIR_DOMAIN_XML_INACTIVE))
refused(d.suspend); refused(d.destroy); refused(d.memoryStats)
d.createWithFlags(L.VIR_DOMAIN_START_PAUSED)
refused(d.create)
say(d.state(), d.isActive(), d.ID() > 0)
d.resume(); say(d.state()); d.suspend(); say(d.state()); d.resume()
say(sorted(d.memoryStats()), [len(x) for x in d.vcpus()], d.blockInfo('vda'), sorted(d.blockStatsFlags('vda')), d.controlInfo())
say(d.interfaceAddresses(L.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE), d.diskErrors(), d.jobInfo()[0], d.messages())
refused(d.abortJob); refused(d.hostname); refused(d.setMemory, 1 << 20); refused(d.setMaxMemory, 1 << 20); refused(d.setVcpus, 9)
disk = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s/vdb.img'/><target dev='vdb' bus='virtio'/></disk>" % folder
d.attachDeviceFlags(disk, L.VIR_DOMAIN_AFFECT_LIVE | L.VIR_DOMAIN_AFFECT_CONFIG)
refused(d.attachDeviceFlags, disk, L.VIR_DOMAIN_AFFECT_LIVE)
d.blockResize('vdb', 2048); say(d.blockInfo('vdb')[0])
d.detachDeviceFlags(disk, L.VIR_DOMAIN_AFFECT_CONFIG)
d.detachDeviceFlags(disk, L.VIR_DOMAIN_AFFECT_LIVE)
d.reset(0)
until(lambda: ('removed', 'virtio-disk1') in events)
say('vdb' in d.XMLDesc(0))
refused(d.detachDeviceFlags, disk, L.VIR_DOMAIN_AFFECT_LIVE)
d.sendKey(0, 0, [30], 1, 0)
s = c.newStream(); say(d.screenshot(s, 0, 0)); head = s.recv(8); say(head); refused(s.abort)
p = c.storagePoolCreateXML("<pool type='dir'><name>r</name><target><path>%s/pool</path></target></pool>" % folder, 0)
v = p.createXML('<volume><name>v</name><capacity>100000</capacity></volume>', 0)
s = c.newStream(); v.upload(s, 0, 100000, 0)
data = bytes(i & 255 for i in range(100000))
at = 0
while at < len(data): at += s.send(data[at:at + 30000])
s.finish()
s = c.newStream(); v.download(s, 0, 100000, 0)
got = []
s.recvAll(lambda s, piece, o: got.append(piece), None); s.finish()
say(b''.join(got) == data, v.info()[:2], v.name(), [x.name() for x in p.listAllVolumes()])
refused(p.createXML, '<volume><name>v</name><capacity>1</capacity></volume>', 0)
v.delete(0); p.destroy()
stats = c.getAllDomainStats(L.VIR_DOMAIN_STATS_STATE | L.VIR_DOMAIN_STATS_VCPU | L.VIR_DOMAIN_STATS_BALLOON)[0][1]
say(sorted(stats), stats['state.state'])
refused(d.snapshotLookupByName, 's', 0)
d.undefine(); say(d.isPersistent())
d.destroy()
until(lambda: ('life', 'p', 5, 1) in events)
refused(d.info)
for kind in ('life', 'meta', 'added', 'removed'): say([event for event in events if event[0] == kind])
c.close()
say('end')
`

test.serial('libvirt for Python sees the same of both daemons', async (t) => {
  const none = missing() ?? (hasPython ? undefined : 'python3-libvirt')
  if (none !== undefined) return without(t, none)
  const sides = await bothSides(t)
  const run = async (side: Side): Promise<string> => {
    const uri = `qemu:///session?socket=${side.socket}`
    const file = join(side.at, 'script.py')
    writeFileSync(file, SCRIPT.replace('sys.stdin.read()', `open('${side.at}/p.xml').read()`))
    writeFileSync(join(side.at, 'p.xml'), document(side))
    const args = [file, uri, side.at]
    if (side.libvirtd !== undefined) {
      const { code, output } = await side.libvirtd.outcome(args, PYTHON)
      return `${output.replaceAll(side.at, 'DIR')}${code}`
    }
    const env = { ...process.env, LC_ALL: 'C' }
    const { stdout } = await promisify(execFile)(PYTHON, args, { env, timeout: 120_000 })
    return `${stdout.replaceAll(side.at, 'DIR')}0`
  }
  const [ours, theirs] = await Promise.all(sides.map(run))
  t.regex(theirs!, /\nend\n0$/)
  t.is(ours, theirs)
})
