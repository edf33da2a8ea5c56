// Networks in user mode in the state of a machine: the guest's connections are reset, its address stays its own.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import test from 'ava'
import { Link } from 'virtio'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { Netdevs } from '../src/net/netdevs.ts'
import { LazyUserNet } from '../src/net/user/lazy-net.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import type { UserNet } from '../src/net/user/user-net.ts'
import { Guest, HOST, isTcp, network, sequence, tcp } from './support/net-guest.ts'

/** Something must keep the process alive while a test waits for the network, which does not. */
const alive = setInterval(() => {}, 1000)
test.after.always(() => clearInterval(alive))

const MAC_TEXT = '52:54:00:12:34:56'
const FREE = Array<string>(15).fill('')
const host = { nowUs: () => performance.now() * 1000, seed: 1, report() {} }

/** A server that says nothing, and the guest's connection to it from port 4000. */
async function connected(guest: Guest): Promise<{ next: number; port: number; end: Socket }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  guest.send(tcp(HOST, [4000, port], [100, 0], 2))
  const next = sequence(await guest.next(isTcp)) + 1
  guest.send(tcp(HOST, [4000, port], [101, next], 0x10))
  const [end] = (await once(server, 'connection')) as [Socket]
  end.on('error', () => {})
  server.close()
  return { next, port, end }
}

/** The flags, the ports and the number of a segment. */
function about(frame: Uint8Array): number[] {
  const view = new DataView(frame.buffer, frame.byteOffset)
  return [frame[47]!, view.getUint16(34), view.getUint16(36), view.getUint32(38)]
}

test('a connection of a saved machine is reset in another, with the number that the guest expects', async (t) => {
  const { net, guest } = network()
  const { next, port, end } = await connected(guest)
  const state = structuredClone(net.save())
  const ends = { guest: '10.0.2.15:4000', peer: `10.0.2.2:${port}` }
  t.deepEqual(state, {
    leases: ['', ...FREE],
    connections: [{ ...ends, card: MAC_TEXT, sequence: next }],
  })
  net.close()
  end.destroy()

  const other = network()
  // The machine stands: the reset waits for the card.
  other.guest.room = 0
  other.net.load(state)
  t.is(other.guest.frames.length, 0)
  other.guest.ready(10)
  t.deepEqual(about(await other.guest.next(isTcp)), [4, port, 4000, next])
  t.deepEqual(other.net.save().connections, [])
  other.net.close()
})

test('going back ends connections of the host, and what was on its way is lost', async (t) => {
  const { net, guest } = network()
  const before = net.save()
  const { next, port, end } = await connected(guest)
  const reset = new Promise((resolve) => end.on('error', resolve))
  guest.room = 0
  end.write('for the guest')
  while (net.save().connections[0]!.sequence < next + 13) await new Promise(setImmediate)
  net.load(before)
  t.is(net.usage.tcp, 0)
  t.like(await reset, { code: 'ECONNRESET' })
  guest.ready(10)
  // What it does not know is answered as by anybody without a connection.
  guest.send(tcp(HOST, [4000, port], [101, 7], 0x10))
  t.deepEqual(about(await guest.next(isTcp)), [4, port, 4000, 7])
  net.close()
})

test('a network that has not begun begins for a state with a guest in it, and only then', async (t) => {
  const link = new Link()
  const net = new LazyUserNet(parseUserOptions('n', []), link.a, host)
  const guest = new Guest(link.b)
  t.deepEqual(net.save(), { leases: [], connections: [] })
  net.load(net.save())
  t.is(link.a.end, net)
  const connection = { guest: '10.0.2.15:1', peer: '1.2.3.4:2', card: MAC_TEXT, sequence: 9 }
  net.load({ leases: ['', MAC_TEXT], connections: [connection] })
  t.deepEqual(about(await guest.next(isTcp)), [4, 2, 1, 9])
  t.deepEqual(net.save(), { leases: ['', MAC_TEXT, ...FREE.slice(1)], connections: [] })
  net.close()
})

test('networks are saved by name, and one that was not there forgets its guest', async (t) => {
  const nets = new Netdevs({ entropy: new SeededEntropy(1), log() {} })
  t.teardown(() => nets.close())
  nets.add(parseUserOptions('a', []))
  nets.add({ type: 'hubport', id: 'h', hub: 0 })
  t.deepEqual(Object.keys(nets.save()), ['a'])
  const later = () => () => {}
  nets.load({ a: { leases: [MAC_TEXT], connections: [] } }, later)
  t.deepEqual(nets.save(), { a: { leases: [MAC_TEXT, ...FREE], connections: [] } })
  nets.load({ another: {} }, later)
  t.deepEqual(nets.save(), { a: { leases: ['', ...FREE], connections: [] } })
})

test('what is no state is refused, and changes nothing', async (t) => {
  const { net, guest } = network()
  await connected(guest)
  const before = net.save()
  const [connection] = before.connections
  const leases = before.leases
  const refuses = (on: Pick<UserNet, 'load'>, state: unknown): void => {
    t.throws(() => on.load(state), { code: 'E_STATE', message: /network/ })
  }
  for (const bad of [
    null,
    7,
    {},
    { leases },
    { leases: [...leases, ''], connections: [] },
    { leases: ['52:54'], connections: [] },
    { leases: ['x'], connections: [] },
    { leases, connections: [{}] },
    { leases, connections: [{ ...connection, sequence: 2 ** 32 }] },
    { leases, connections: [{ ...connection, guest: 'nobody:1' }] },
    { leases, connections: [{ ...connection, peer: '[::1]:1' }] },
    { leases, connections: [{ ...connection, card: 'ff:ff:ff:ff:ff:ff' }] },
  ]) {
    refuses(net, bad)
    t.deepEqual(net.save(), before)
  }
  net.close()
})
