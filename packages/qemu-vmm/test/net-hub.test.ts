// Hubs, cables that are pulled out, and networks that come and go.
import test from 'ava'
import type { LinkSide } from 'virtio'
import { NetEnd, batchOf } from 'virtio/testing'
import { SeededEntropy } from '../src/machine/entropy.ts'
import type { NetdevConfig } from '../src/net/config.ts'
import { Netdevs } from '../src/net/netdevs.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { frameOf } from './support/e1000-driver.ts'

function networks(): { nets: Netdevs; said: string[] } {
  const said: string[] = []
  const log = (message: string): void => void said.push(message)
  return { nets: new Netdevs({ entropy: new SeededEntropy(1), log }), said }
}

const port = (id: string, hub = 0, netdev?: string): NetdevConfig => {
  return { type: 'hubport', id, hub, ...(netdev === undefined ? {} : { netdev }) }
}

/** A card of a test at the cable of a network. */
class Card extends NetEnd {
  readonly side: LinkSide

  constructor(nets: Netdevs, id: string) {
    super()
    this.side = nets.take(id, { name: `card-${id}`, model: 'm', mac: '02:00:00:00:00:01' })
    this.side.attach(this)
  }
}

test('a hub carries frames from each port to all others of it', (t) => {
  const { nets } = networks()
  t.teardown(() => nets.close())
  for (const id of ['a', 'b', 'c']) nets.add(port(id))
  nets.add(port('d', 1))
  const ends = ['a', 'b', 'c', 'd'].map((id) => new Card(nets, id))
  const batch = batchOf(frameOf(60), frameOf(70))
  const received = (): number[] => ends.map(({ got }) => got.length)
  const first = ends[0]!
  // A slow one does not make the others wait.
  ends[2]!.room = 1
  t.is(first.side.send(batch), batch.used)
  t.deepEqual(received(), [0, 2, 1, 0])
  nets.remove('c')
  ends[1]!.room = 1
  const taken = first.side.send(batch)
  t.true(taken < batch.used)
  ends[1]!.room = 5
  const told = first.told.length
  ends[1]!.side.ready()
  t.deepEqual(first.told.slice(told), ['resume'])
})

test('a network in user mode is at a port in place of a card, and not for another', (t) => {
  const { nets, said } = networks()
  t.teardown(() => nets.close())
  nets.add(parseUserOptions('u', []))
  nets.add(port('p'))
  nets.add(port('q', 0, 'u'))
  t.throws(() => nets.add(port('r', 0, 'u')), { code: 'E_NETDEV', message: /in use by q/ })
  t.throws(() => nets.add(port('r', 0, 'x')), { code: 'E_NETDEV', message: /can't find value 'x'/ })
  const end = new Card(nets, 'p')
  nets.warn()
  t.deepEqual(said, [])
  // A question for the router's address is answered through both.
  const arp = frameOf(42, new Uint8Array(6).fill(0xff), 0x0806)
  arp.set(
    [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
    14,
  )
  end.side.send(batchOf(arp))
  t.is(end.got.length, 1)
  t.deepEqual([...end.got[0]!.frame.subarray(28, 32)], [10, 0, 2, 2])
})

test('a cable can be pulled out by the name of the network or of the card', (t) => {
  const { nets } = networks()
  t.teardown(() => nets.close())
  nets.add(port('a'))
  nets.add(port('b'))
  const [a, b] = [new Card(nets, 'a'), new Card(nets, 'b')]
  nets.setLink('a', false)
  t.true(a.told.includes('down'))
  a.side.send(batchOf(frameOf(60)))
  t.is(b.got.length, 0)
  nets.setLink('card-a', true)
  a.side.send(batchOf(frameOf(60)))
  t.is(b.got.length, 1)
  t.throws(() => nets.setLink('x', true), {
    code: 'E_DEVICE_NOT_FOUND',
    message: "Device 'x' not found",
  })
})

test('a network that is removed leaves its card without one', (t) => {
  const { nets } = networks()
  t.teardown(() => nets.close())
  nets.add(parseUserOptions('u', []))
  const end = new Card(nets, 'u')
  nets.remove('u')
  t.true(end.told.includes('down'))
  t.deepEqual(nets.list(), [])
  t.throws(() => nets.remove('u'), { message: "Device 'u' not found" })
  nets.add(parseUserOptions('u', []))
  t.notThrows(() => new Card(nets, 'u'))
})

test('filters are shown of cards that have them', (t) => {
  const { nets } = networks()
  t.teardown(() => nets.close())
  nets.add(port('a'))
  nets.add(port('b'))
  const plain = new Card(nets, 'a')
  t.is(plain.got.length, 0)
  const filter = { mainMac: '02:00:00:00:00:01' } as never
  Object.assign(new Card(nets, 'b'), { rxFilter: () => filter })
  t.deepEqual(
    nets.filters().map(({ name }) => name),
    ['card-b'],
  )
  t.is(nets.filters('card-b').length, 1)
  t.throws(() => nets.filters('card-a'), { message: /doesn't support rx-filter querying/ })
  t.throws(() => nets.filters('x'), { message: 'invalid net client name: x' })
})
