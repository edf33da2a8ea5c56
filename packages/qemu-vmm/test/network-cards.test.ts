// Network cards on a board: their addresses, the cables that they take, and what is refused.
import test from 'ava'
import { macText } from 'virtio'
import { defaultMac, macAddress } from '../src/devices/mac-address.ts'
import type { NetworkCard } from '../src/net/config.ts'
import { Netdevs } from '../src/net/netdevs.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { plugBoard } from './support/plug-board.ts'

const user = (id: string): ReturnType<typeof parseUserOptions> => parseUserOptions(id, [])

const card = (name: string): NetworkCard => ({ name, model: 'm', mac: '02:00:00:00:00:01' })

function netdevs(): Netdevs {
  return new Netdevs({ entropy: new SeededEntropy(1), log() {} })
}

test('the address of a card is what it says, or counts up from the default', (t) => {
  let cards = 0
  const mac = (text?: string): string => {
    const properties: Record<string, string> = text === undefined ? {} : { mac: text }
    const option = { driver: 'virtio-net-pci', id: 'n', properties }
    return macText(macAddress({ nextMac: () => defaultMac(cards++) }, option))
  }
  t.deepEqual(
    [mac(), mac('2:0:0:0:0:A'), mac()],
    ['52:54:00:12:34:56', '02:00:00:00:00:0a', '52:54:00:12:34:57'],
  )
  for (const text of [
    '',
    '1:2:3:4:5',
    '52:54:00:12:34:5g',
    '52:54:00:12:34:567',
    '52540012 3456',
  ]) {
    t.throws(() => mac(text), { code: 'E_DEVICE_OPTION', message: /'n\.mac' doesn't take value/ })
  }
  t.throws(() => mac('33:33:00:00:00:01'), { message: /the address of a group/ })
})

test('a cable has one card, and is free when that is gone', (t) => {
  const nets = netdevs()
  t.teardown(() => nets.close())
  nets.add(user('a'))
  t.throws(() => nets.add(user('a')), { code: 'E_NETDEV', message: /Duplicate ID 'a'/ })
  nets.take('a', card('first'))
  t.throws(() => nets.take('a', card('second')), {
    message: /can't take value 'a', it's in use by first/,
  })
  t.throws(() => nets.take('b', card('second')), {
    message: /can't find value 'b' \(networks: a\)/,
  })
  nets.release('a')
  t.notThrows(() => nets.take('a', card('second')))
})

test('what no card is connected to is named, and what is no network refused', (t) => {
  const said: string[] = []
  const log = (text: string): void => void said.push(text)
  const nets = new Netdevs({ entropy: new SeededEntropy(1), log })
  t.teardown(() => nets.close())
  nets.add(user('a'))
  nets.add(user('b'))
  nets.take('b', card('card'))
  nets.warn()
  t.deepEqual(said, ['warning: netdev a has no peer'])
  t.deepEqual(nets.list(), [
    { id: 'a', type: 'user', detail: 'net=10.0.2.0,restrict=off' },
    { id: 'b', type: 'user', detail: 'net=10.0.2.0,restrict=off', card: card('card') },
  ])
  for (const odd of [
    { type: 'vde', id: 'c' },
    { type: 'user', id: 'c' },
  ]) {
    t.throws(() => nets.add(odd as never), {
      code: 'E_NETDEV',
      message: /let parseUserOptions make/,
    })
  }
})

test('a card without a network, or with impossible values, is refused', async (t) => {
  const refused = async (properties: Record<string, string>): Promise<string> => {
    const option = { driver: 'virtio-net-pci', id: 'n', properties }
    const error = await t.throwsAsync(plugBoard('i440fx', [option]))
    return error?.message ?? ''
  }
  t.regex(await refused({}), /netdev/)
  t.regex(await refused({ netdev: 'x' }), /can't find value 'x' \(networks: none\)/)
  t.regex(await refused({ netdev: 'x', host_mtu: '67' }), /'n\.host_mtu' is 67: use 68 to 65535/)
  t.regex(await refused({ netdev: 'x', mq: 'perhaps' }), /mq/)
})

for (const driver of ['virtio-net-pci', 'e1000', 'e1000e', 'rtl8139']) {
  test(`${driver} is found on its bus, goes with the machine's state, and gives its cable back`, async (t) => {
    const option = { driver, id: 'n', properties: { netdev: 'u', addr: '5' } }
    const { board, tree, netdevs, deleted } = await plugBoard('i440fx', [option], [user('u')])
    t.teardown(() => netdevs.close())
    const device = [...tree.devices()][0]!
    board.bus.pio.write(0xcf8, 4, 0x8000_2800)
    const ids = new Map([
      ['virtio-net-pci', 0x1000_1af4],
      ['e1000', 0x100e_8086],
      ['e1000e', 0x10d3_8086],
      ['rtl8139', 0x8139_10ec],
    ])
    t.is(board.bus.pio.read(0xcfc, 4), ids.get(driver)!)
    t.like(netdevs.list(), [
      { id: 'u', card: { name: 'n', model: driver, mac: '52:54:00:12:34:56' } },
    ])
    device.pause?.()
    const state = structuredClone(device.save())
    device.load(state)
    t.deepEqual(device.save(), state)
    device.resume?.()
    t.throws(() => netdevs.take('u', card('other')), { message: /in use by n/ })
    tree.requestRemoval('n')
    // The guest lets go of the slot.
    board.bus.pio.write(0xae08, 4, 1 << 5)
    await tree.left()
    t.deepEqual(deleted, [{ id: 'n', path: '/machine/peripheral/n' }])
    t.notThrows(() => netdevs.take('u', card('other')))
  })
}
