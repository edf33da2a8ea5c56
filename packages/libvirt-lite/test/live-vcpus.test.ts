// Processors that virsh plugs into running domains, and out of them.
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { DomainRef } from '../src/rpc/index.ts'
import { diskXml } from './support/button-guest.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { cpuDisk } from './support/cpu-guest.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { qemu } from './support/libvirtd.ts'

const emulators = [['qemu-kvm'], ...(existsSync(qemu) ? [['QEMU', qemu]] : [])] as const
const COUNTS = "<vcpu current='1'>3</vcpu>"

async function setup(t: ExecutionContext, vcpu: string, emulator?: string) {
  const at = folder(t)
  const daemon = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  const document = (counts: string): string =>
    domainXml('a', { devices: diskXml(cpuDisk(at)), ...(emulator && { emulator }) }).replace(
      /<vcpu>.*<\/vcpu>|(?=<os>)/,
      counts,
    )
  writeFileSync(file, document(vcpu))
  const run = async (command: string): Promise<string> =>
    (await virsh(daemon.socket, ...command.split(' '))).output
  t.regex(await run(`define ${file}`), /defined/)
  /** What a definition says of processors, without what is around it. */
  const vcpus = async (...more: string[]): Promise<string[]> =>
    [...(await run(['dumpxml a', ...more].join(' '))).matchAll(/<vcpu [^>]*>(?:\d+<)?/g)].map(
      ([text]) => text.replace(/ placement='static'/, '').replace(/<$/, ''),
    )
  return { ...daemon, run, vcpus, file, document }
}

const counts = (current: string, ...states: string[]): string[] => [
  `<vcpu${current}>3`,
  ...states.map((state, id) => `<vcpu id='${id}' ${state}/>`),
]
const first = "enabled='yes' hotpluggable='no' order='1'"
const free = "enabled='no' hotpluggable='yes'"
const plugged = (order: number): string => `enabled='yes' hotpluggable='yes' order='${order}'`

for (const [name, emulator] of emulators) {
  test.serial(`processors come to a running domain: ${name}`, async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    const { run, vcpus } = await setup(t, COUNTS, emulator)
    t.regex(await run('start a'), /started/)
    t.deepEqual(await vcpus(), counts(" current='1'"))
    t.regex(await run('setvcpus a 2 --live'), /^\n$/)
    t.deepEqual(await vcpus(), counts(" current='2'", first, plugged(2), free))
    t.deepEqual(await vcpus('--inactive'), counts(" current='1'"))
    t.regex(await run('vcpucount a'), /current +config +1\ncurrent +live +2\n/)
    t.regex(await run('vcpuinfo a'), /VCPU: +0\n[^]*VCPU: +1\n/)
    for (const [command, answer] of [
      ['setvcpus a 4 --live', /greater than max allowable vcpus for the live domain: 4 > 3/],
      ['setvcpus a 2 --live', /^\n$/],
      ['setvcpus a 3 --live --maximum', /--config is required by option --maximum/],
      ['setvcpu a 1 --enable --live', /vcpu '1' is already in requested state/],
      ['setvcpu a 0 --disable --live', /Operation not supported: vcpu '0' can't be unplugged/],
      ['setvcpu a 5 --enable --live', /vcpu 5 is not present in live config/],
      ['setvcpu a 2 --enable --live', /^\n$/],
    ] as const) {
      t.regex(await run(command), answer, command)
    }
    t.deepEqual(await vcpus(), counts('', first, plugged(2), plugged(3)))
    t.regex(await run('destroy a'), /destroyed/)
    t.deepEqual(await vcpus(), counts(" current='1'"))
    // What the emulator starts with stays.
    t.regex(await run('setvcpus a 2 --config'), /^\n$/)
    await run('start a')
    t.regex(await run('setvcpus a 1 --live'), /failed to find appropriate hotpluggable vcpus/)
  })

  test.serial(
    `a domain starts with the processors that are told one by one: ${name}`,
    async (t) => {
      if (!hasVirsh) return without(t, 'virsh')
      const states = [first, free, plugged(2)].map((state, id) => `<vcpu id='${id}' ${state}/>`)
      const { run, vcpus } = await setup(t, `${COUNTS}<vcpus>${states.join('')}</vcpus>`, emulator)
      t.deepEqual(await vcpus(), counts(" current='2'", first, free, plugged(2)))
      t.regex(await run('start a'), /started/)
      t.deepEqual(await vcpus(), counts(" current='2'", first, free, plugged(2)))
      t.regex(await run('vcpuinfo a'), /VCPU: +0\n[^]*VCPU: +2\n/)
    },
  )
}

test.serial('a guest lets go of processors, and gets others', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { run, vcpus } = await setup(t, COUNTS)
  await run('start a')
  await run('setvcpus a 3 --live')
  // The firmware has to come to the guest's program first.
  await until(async () => /^\n$/.test(await run('setvcpus a 2 --live')))
  t.deepEqual(await vcpus(), counts(" current='2'", first, plugged(2), free))
  t.regex(await run('setvcpu a 1 --disable --live'), /^\n$/)
  t.deepEqual(await vcpus(), counts(" current='1'", first, free, free))
  t.regex(await run('setvcpus a 3 --live --config'), /^\n$/)
  t.deepEqual(await vcpus(), counts('', first, plugged(2), plugged(3)))
  t.deepEqual(await vcpus('--inactive'), counts(''))
  t.regex(await run('setvcpus a 1 --live'), /^\n$/)
  t.deepEqual(await vcpus(), counts(" current='1'", first, free, free))
})

test.serial('what starts the next time is told one by one, where that was chosen', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { run, vcpus, document, file } = await setup(t, COUNTS)
  const on = "enabled='yes' hotpluggable='yes'"
  const stays = "enabled='yes' hotpluggable='no'"
  t.regex(await run('setvcpu a 1 --enable --config'), /^\n$/)
  t.deepEqual(await vcpus(), counts(" current='2'", stays, on, free))
  t.regex(await run('setvcpu a 0 --disable --config'), /vCPU '0' can't be modified/)
  t.regex(await run('setvcpus a 3 --config'), /^\n$/)
  t.deepEqual(await vcpus(), counts('', stays, on, on))
  t.regex(await run('setvcpus a 2 --config --hotpluggable'), /^\n$/)
  t.deepEqual(await vcpus(), counts(" current='2'", stays, on, free))
  t.regex(await run('setvcpus a 1 --config'), /^\n$/)
  t.deepEqual(await vcpus(), counts(" current='1'", stays, free, free))
  for (const [states, message] of [
    ["<vcpu id='0' enabled='no'/>", /vcpu 0 can't be offline/],
    ["<vcpu id='0' enabled='yes'/><vcpu id='5' enabled='yes'/>", /out of range of maximum vcpu/],
    ["<vcpu id='0' enabled='yes' hotpluggable='yes'/>", /vcpu0 can't be hotpluggable/],
    [
      "<vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no' hotpluggable='no'/>",
      /vcpu '1' is both offline and not hotpluggable/,
    ],
    [
      "<vcpu id='0' enabled='yes' order='1'/><vcpu id='1' enabled='yes'/>",
      /either set or unset order/,
    ],
    ["<vcpu id='0' enabled='yes' order='2'/>", /vcpu0 must be enabled first/],
    [
      "<vcpu id='0' enabled='yes'/><vcpu id='1' enabled='yes' hotpluggable='yes'/><vcpu id='2' enabled='yes' hotpluggable='no'/>",
      /non-hotpluggable vcpus need to be ordered prior/,
    ],
    ["<vcpu id='0' enabled='yes'/><vcpu id='0' enabled='yes'/>", /told of already/],
    [
      "<vcpu id='0' enabled='yes' order='1'/><vcpu id='1' enabled='yes' order='1'/>",
      /no place in the order/,
    ],
  ] as const) {
    writeFileSync(file, document(`${COUNTS}<vcpus>${states}</vcpus>`))
    t.regex(await run(`define ${file}`), message)
  }
})

test('absurd numbers of processors cost nothing', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const define = (name: string, vcpu: string): Promise<{ dom: DomainRef }> => {
    const xml = domainXml(name).replace(/<vcpu>.*<\/vcpu>|(?=<os>)/, vcpu)
    return client.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })
  }
  const { dom } = await define('a', "<vcpu>2</vcpu><vcpus><vcpu id='0' enabled='yes'/></vcpus>")
  const set = (count: number, flags: number): Promise<unknown> =>
    client.call('DOMAIN_SET_VCPUS_FLAGS', { dom, count, flags })
  const CONFIG = 2
  const MAXIMUM = 4
  for (const count of [16_385, 100_000_000, 0xffff_ffff]) {
    await t.throwsAsync(
      set(count, CONFIG | MAXIMUM),
      { message: /more than|at most|greater/ },
      `${count}`,
    )
    await t.throwsAsync(set(count, CONFIG), { message: /greater than max/ }, `${count}`)
    const vcpus = "<vcpus><vcpu id='0' enabled='yes'/></vcpus>"
    await t.throwsAsync(
      define('b', `<vcpu>${count}</vcpu>${vcpus}`),
      { message: /vcpu/ },
      `${count}`,
    )
  }
  const again = { dom, cpumap: Array(100_000).fill('0-16383').join(','), state: 1, flags: CONFIG }
  await t.throwsAsync(client.call('DOMAIN_SET_VCPU', again), { message: /Failed to parse bitmap/ })
  const most = await client.call('DOMAIN_GET_VCPUS_FLAGS', { dom, flags: CONFIG | MAXIMUM })
  t.deepEqual(Object.values(most), [2])
})
