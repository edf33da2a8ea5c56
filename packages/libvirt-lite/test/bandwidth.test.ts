// How fast network cards may be: <bandwidth> of a definition, virsh domiftune, and update-device, on a domain that runs and on its
// definition.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { domainArgv, parseDomain, qemuFeatures } from '../src/domain/index.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'

const MAC = '52:54:00:00:00:07'
const card = (bandwidth: string): string =>
  `<interface type='user'><mac address='${MAC}'/><model type='virtio'/>${bandwidth}</interface>`
const inbound = "<bandwidth><inbound average='1000' peak='2000' burst='512'/></bandwidth>"

const options = { qmpSocket: '/q', stateDir: '/s' }

function throttles(bandwidth: string, features = {}): { args: string[]; warnings: string[] } {
  const xml = domainXml('a', { devices: card(bandwidth) })
  const { args, warnings } = domainArgv(parseDomain(xml), { ...options, ...features })
  return {
    args: args.filter((arg) => arg.startsWith('filter-throttle')),
    warnings: warnings.filter((warning) => warning.includes('bandwidth')),
  }
}

test('a definition is kept by objects of our emulator, and warned of with others', (t) => {
  const both =
    "<bandwidth><inbound average='1000' peak='2000' burst='512'/><outbound average='8'/></bandwidth>"
  t.deepEqual(throttles(both).args, [
    'filter-throttle,id=inbound-net0,netdev=hostnet0,queue=tx,average=1024000,peak=2048000,burst=524288',
    'filter-throttle,id=outbound-net0,netdev=hostnet0,queue=rx,average=8192',
  ])
  t.deepEqual(throttles(both).warnings, [])
  const stock = throttles(both, { features: qemuFeatures })
  t.deepEqual(stock.args, [])
  t.regex(stock.warnings.join(), /bandwidth is not kept: this emulator cannot limit networks/)
  t.deepEqual(throttles('<bandwidth/>').args, [])
  for (const [flow, message] of [
    ["inbound average='5' floor='3'", /nothing is to be shared/],
    ["inbound peak='5'", /Missing mandatory average/],
    ["outbound average='5' peak='4'", /peak 4 KiB\/s is less than the average/],
  ] as const) {
    t.throws(() => throttles(`<bandwidth><${flow}/></bandwidth>`), { message })
  }
})

test.serial('rates of a domain that runs, and of its definition', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const run =
    (code: number) =>
    async (...args: string[]): Promise<string> => {
      const outcome = await virsh(socket, ...args)
      t.is(outcome.code, code, `${args.join(' ')}: ${outcome.output}`)
      return outcome.output
    }
  const [ok, fails] = [run(0), run(1)]
  const rates = async (...flags: string[]): Promise<number[]> =>
    [...(await ok('domiftune', 'a', MAC, ...flags)).matchAll(/: (\d+)/g)].map(([, n]) => Number(n))
  /** A property of what keeps a direction of a card to its rate in the emulator. */
  const kept = async (id: string, property: string): Promise<number> => {
    const ask = { execute: 'qom-get', arguments: { path: `/objects/${id}`, property } }
    return JSON.parse(await ok('qemu-monitor-command', 'a', JSON.stringify(ask))).return
  }
  const file = join(at, 'a.xml')
  writeFileSync(file, domainXml('a', { devices: card(inbound) }))
  await ok('define', file)
  t.deepEqual(await rates(), [1000, 2000, 512, 0, 0, 0, 0])
  await ok('start', 'a')
  t.deepEqual(await rates('--live'), [1000, 2000, 512, 0, 0, 0, 0])

  t.is(await kept('inbound-net0', 'peak'), 2000 * 1024)
  await ok('domiftune', 'a', MAC, '--live', '--outbound', '300,400,50')
  t.is(await kept('outbound-net0', 'burst'), 50 * 1024)
  t.deepEqual(await rates('--live'), [1000, 2000, 512, 0, 300, 400, 50])
  t.deepEqual(await rates('--config'), [1000, 2000, 512, 0, 0, 0, 0])
  t.regex(await ok('dumpxml', 'a'), /<outbound average='300' peak='400' burst='50'\/>/)
  await ok('domiftune', 'a', MAC, '--live', '--config', '--inbound', '0')
  t.deepEqual(await rates('--live'), [0, 0, 0, 0, 300, 400, 50])
  t.deepEqual(await rates('--config'), [0, 0, 0, 0, 0, 0, 0])
  t.notRegex(await ok('dumpxml', 'a', '--inactive'), /bandwidth/)

  const device = join(at, 'card.xml')
  writeFileSync(device, card("<bandwidth><inbound average='77'/></bandwidth>"))
  await ok('update-device', 'a', device, '--live')
  t.deepEqual(await rates('--live'), [77, 0, 0, 0, 0, 0, 0])

  t.regex(await fails('domiftune', 'a', '52:54:00:00:00:99'), /Can't find device/)
  t.regex(await fails('domiftune', 'a', MAC, '--inbound', '5,4'), /peak 4 is less than/)
  t.regex(await fails('domiftune', 'a', MAC, '--inbound', '5,6,7,8'), /to itself/)
  t.deepEqual(await rates('--live'), [77, 0, 0, 0, 0, 0, 0])

  // A card that comes with rates, and takes them along.
  const second = card("<bandwidth><inbound average='9'/></bandwidth>").replace(
    MAC,
    '52:54:00:00:00:08',
  )
  writeFileSync(device, second)
  await ok('attach-device', 'a', device, '--live')
  await ok('domiftune', 'a', '52:54:00:00:00:08', '--live', '--outbound', '10')
  t.is(await kept('inbound-net1', 'average'), 9 * 1024)
  t.is(await kept('outbound-net1', 'average'), 10 * 1024)
  await ok('destroy', 'a')
  await until(async () => /shut off/.test(await ok('domstate', 'a')))
})
