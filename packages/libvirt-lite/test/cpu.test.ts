// Processors as libvirt describes them: of emulators, and of domains that run.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { bothSides } from './support/both-sides.ts'
import { define, domainXml, startDaemon } from './support/daemon.ts'
import { missing, qemu } from './support/libvirtd.ts'

const features = (xml: string): string[] =>
  [...xml.matchAll(/<feature policy='(\w+)' name='([^']+)'\/>/g)].map(
    ([, policy, name]) => `${policy} ${name}`,
  )

test('which models are usable is told as libvirtd tells it, and what a host-model comes to', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  const [ours, theirs] = await bothSides(t)
  const asked = ['domcapabilities', '--virttype', 'qemu', '--emulatorbin', qemu]
  const said = (await virsh(ours.socket, ...asked)).output
  const peer = (await theirs.libvirtd!.outcome(asked)).output
  const usable = (xml: string): Map<string, string> =>
    new Map(
      [...xml.matchAll(/<model usable='(\w+)'[^>]*>([^<]+)</g)].map(([, is, name]) => [name!, is!]),
    )
  const known = usable(peer)
  const told = [...usable(said)].filter(([name]) => known.has(name))
  t.true(told.length > 50)
  t.deepEqual(
    told,
    told.map(([name]) => [name, known.get(name)!]),
  )
  t.regex(said, /<mode name='host-model' supported='yes'>\n +<model fallback='forbid'>qemu64</)
  t.true(features(said).includes('require sse4.1'))
  // Names are libvirt's.
  t.true(features(said).includes('require pclmuldq'))
})

const CPUS = [
  "<cpu mode='custom' match='exact'><model fallback='allow'>qemu64</model><feature policy='disable' name='cx16'/><feature policy='require' name='sse4.1'/><feature policy='require' name='pclmuldq'/><feature policy='require' name='avx512f'/></cpu>",
  "<cpu mode='custom' match='exact' check='full'><model fallback='allow'>qemu64</model></cpu>",
  "<cpu mode='custom' match='exact' check='full'><model fallback='allow'>qemu64</model><feature policy='require' name='hypervisor'/><feature policy='require' name='lahf_lm'/><feature policy='require' name='avx512f'/></cpu>",
  "<cpu mode='custom' match='exact' check='full'><model fallback='allow'>qemu64</model><feature policy='require' name='hypervisor'/><feature policy='require' name='lahf_lm'/></cpu>",
  "<cpu mode='custom' match='exact' check='partial'><model>qemu64</model><topology sockets='1' cores='1' threads='1'/></cpu>",
  "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='optional' name='avx512f'/><feature policy='forbid' name='avx512bw'/></cpu>",
]

test('processors on QEMU are what libvirtd shows, or refused as it refuses them', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  const [ours, theirs] = await bothSides(t)
  for (const cpu of CPUS) {
    const said: string[] = []
    for (const side of [ours, theirs]) {
      const file = join(side.at, 'c.xml')
      writeFileSync(file, domainXml('c', { more: cpu, emulator: qemu }))
      const run = async (...words: string[]): Promise<string> => {
        const { output } =
          side.libvirtd === undefined
            ? await virsh(side.socket, ...words)
            : await side.libvirtd.outcome(words)
        return output.replaceAll(side.at, 'DIR')
      }
      const created = await run('create', file)
      const shown = ['dumpxml --xpath //cpu', 'dumpxml --migratable --xpath //cpu']
      const lines = [created]
      for (const words of shown) lines.push(await run(...words.split(' '), '--domain', 'c'))
      await run('destroy', 'c')
      said.push(lines.join('\n'))
    }
    t.is(said[0], said[1], cpu)
  }
})

test('a domain has the processor that the capabilities announce, under names that it can be started with', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { socket, client: open } = await startDaemon(t)
  const client = await open()
  const { output } = await virsh(socket, 'domcapabilities', '--virttype', 'qemu')
  const announced = /<mode name='host-model' [^]*?<\/mode>/.exec(output)![0]
  const xml = domainXml('a', { more: "<cpu mode='host-model'/>" })
  const { dom } = await client.call('DOMAIN_CREATE_XML', { xml, flags: 1 })
  const flags = { LIVE: 0, MIGRATABLE: 8 }
  const of = async (flag: number): Promise<string> => {
    const { xml } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: flag })
    return /<cpu [^]*?<\/cpu>/.exec(xml)![0]
  }
  t.deepEqual(features(await of(flags.MIGRATABLE)), features(announced))
  t.true(features(announced).includes('require pclmuldq'))
  // What this engine's qemu64 has beside libvirt's is told of what runs, and not taken along.
  const live = await of(flags.LIVE)
  t.true(features(live).includes('require lahf_lm'))
  await client.call('DOMAIN_DESTROY', { dom })
  // As it was described, it starts again.
  const again = await client.call('DOMAIN_CREATE_XML', {
    xml: domainXml('a', { more: live }),
    flags: 1,
  })
  await client.call('DOMAIN_DESTROY', again)
})

test('what a processor may have or not is there where the emulator has it', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const feature = (name: string): string => `<feature policy='optional' name='${name}'/>`
  const more = `<cpu mode='custom' match='exact'><model>qemu64</model>${feature('movbe')}${feature('avx512f')}${feature('pclmuldq')}</cpu>`
  const { dom } = await client.call('DOMAIN_CREATE_XML', {
    xml: domainXml('a', { more }),
    flags: 1,
  })
  const { xml } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
  const wanted = ['require movbe', 'disable avx512f', 'require pclmuldq']
  t.deepEqual(features(xml).slice(0, 3), wanted)
})

test('the processor that runs is shown as what it is, and kept as what was asked for', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const more =
    "<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model><feature policy='disable' name='cx16'/></cpu>"
  const dom = await define(client, domainXml('a', { more }))
  const of = async (flags: number): Promise<string> =>
    /<cpu [^]*?<\/cpu>/.exec((await client.call('DOMAIN_GET_XML_DESC', { dom, flags })).xml)![0]
  const defined = await of(2)
  await client.call('DOMAIN_CREATE', { dom })
  const live = await of(0)
  t.regex(live, /^<cpu mode='custom' match='exact' check='full'>/)
  t.deepEqual(features(live).slice(0, 1), ['disable cx16'])
  t.true(features(live).includes('require hypervisor'))
  t.is(await of(2), defined)
  t.is(await of(8), defined)
  t.regex(defined, /check='none'/)
  t.deepEqual(await client.call('DOMAIN_IS_UPDATED', { dom }), { updated: false })
})
