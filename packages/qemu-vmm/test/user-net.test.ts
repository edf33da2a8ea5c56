import { once } from 'node:events'
import { createServer, connect } from 'node:net'
import { createSocket } from 'node:dgram'
import type { AddressInfo } from 'node:net'

import test from 'ava'

import {
  ADDRESS,
  HOST,
  MAC,
  ROUTER,
  checksum,
  ipv4,
  isTcp,
  isUdp,
  network,
  sequence,
  tcp,
  udp,
  word,
} from './support/net-guest.ts'

/** Something must keep the process alive while a test waits for the network, which does not. */
const alive = setInterval(() => {}, 1000)
test.after.always(() => clearInterval(alive))

test('DHCP offers the address that QEMU would', async (t) => {
  const { net, guest } = network({ hostname: 'box' })
  const request = [
    1,
    1,
    6,
    0,
    1,
    2,
    3,
    4,
    ...Array<number>(20).fill(0),
    ...MAC,
    ...Array<number>(202).fill(0),
  ]
  guest.send(
    udp([255, 255, 255, 255], 68, 67, [...request, 99, 130, 83, 99, 53, 1, 1, 255], [0, 0, 0, 0]),
  )
  const offer = await guest.next(isUdp)
  t.deepEqual([...offer.subarray(42 + 4, 42 + 8)], [1, 2, 3, 4])
  t.deepEqual([...offer.subarray(42 + 16, 42 + 20)], ADDRESS)
  t.true(Buffer.from(offer).includes(Buffer.from([12, 3, ...Buffer.from('box')])))
  net.close()
})

test('an echo to the router comes back', async (t) => {
  const { net, guest } = network()
  const message = [8, 0, 0, 0, 1, 2, 0, 1, 7, 7]
  const sum = checksum(message)
  message.splice(2, 2, ...word(sum))
  guest.send(ipv4(1, HOST, message))
  const reply = await guest.next((frame) => frame[23] === 1)
  t.deepEqual([...reply.subarray(34, 35), ...reply.subarray(38)], [0, 1, 2, 0, 1, 7, 7])
  net.close()
})

test('UDP reaches a server on the loopback and its answer the guest', async (t) => {
  const { net, guest } = network()
  const server = createSocket('udp4')
  server.on('message', (data, from) => server.send(`${data}!`, from.port, from.address))
  server.bind(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  guest.send(udp(HOST, 1000, port, [...Buffer.from('hello')]))
  const answer = await guest.next(isUdp)
  t.is(Buffer.from(answer.subarray(42)).toString(), 'hello!')
  t.deepEqual([...answer.subarray(26, 30)], HOST)
  t.is(net.usage.udp, 1)
  server.close()
  net.close()
})

test('TCP reaches a server on the loopback', async (t) => {
  const { net, guest } = network()
  const server = createServer((socket) =>
    socket.on('error', () => {}).on('data', (data) => socket.end(`${data}!`)),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  guest.send(tcp(HOST, [4000, port], [100, 0], 2))
  const synAck = await guest.next(isTcp)
  t.is(synAck[47], 0x12)
  const first = sequence(synAck) + 1
  guest.send(tcp(HOST, [4000, port], [101, first], 0x18, [...Buffer.from('hello')]))
  const answer = await guest.next(
    (frame) => isTcp(frame) && frame.length > 54 + 6 - 1 && frame[47] !== 0x12,
  )
  t.is(Buffer.from(answer.subarray(54, 60)).toString(), 'hello!')
  guest.send(tcp(HOST, [4000, port], [106, first], 4))
  t.is(net.usage.tcp, 0)
  server.close()
  net.close()
})

test('a port that is closed refuses', async (t) => {
  const { net, guest } = network()
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  guest.send(tcp(HOST, [4001, port], [100, 0], 2))
  const reset = await guest.next(isTcp)
  t.is((reset[47] as number) & 4, 4)
  t.is(net.usage.tcp, 0)
  net.close()
})

test('a forward asks for the guest and then connects to it', async (t) => {
  const { net, guest } = network()
  const id = net.addHostForward({
    protocol: 'tcp',
    host: { address: '127.0.0.1', port: 0 },
    guest: { address: '', port: 22 },
  })
  const port = Number(net.forwardAddress(id)?.split(':')[1])
  const client = connect(port, '127.0.0.1')
  client.on('error', () => {})
  const question = await guest.next((frame) => frame[13] === 6)
  t.deepEqual([...question.subarray(38, 42)], ADDRESS)
  guest.send([
    ...ROUTER,
    ...MAC,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    2,
    ...MAC,
    ...ADDRESS,
    ...ROUTER,
    ...HOST,
  ])
  const syn = await guest.next(isTcp)
  t.is(syn[47], 2)
  t.deepEqual([...syn.subarray(26, 30), ...syn.subarray(36, 38)], [...HOST, 0, 22])
  client.destroy()
  net.close()
})

test('a port that is taken is said at once', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const error = t.throws(() => network({ hostfwd: `tcp:127.0.0.1:${port}-:22` }))
  t.like(error, { code: 'E_NETDEV' })
  t.regex(error?.message ?? '', /Could not set up host forwarding rule .*already in use/)
  server.close()
})

test('frames wait for a guest that has no room', async (t) => {
  const { net, guest } = network()
  const message = [8, 0, 0, 0, 1, 2, 0, 1]
  message.splice(2, 2, ...word(checksum(message)))
  guest.room = 1
  guest.send(...Array.from({ length: 5 }, () => ipv4(1, HOST, message)))
  t.is(guest.frames.length, 1)
  guest.ready(2)
  t.is(guest.frames.length, 3)
  guest.ready(10)
  t.is(guest.frames.length, 5)
  net.close()
})

test('what a hostile guest sends does no harm', async (t) => {
  const { net, guest } = network()
  let state = 12_345
  const random = (limit: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % limit
  }
  const seeds = [
    tcp(HOST, [1, 2], [3, 4], 2),
    udp(HOST, 68, 67, Array<number>(300).fill(1)),
    ipv4(1, HOST, [8, 0, 0, 0]),
  ]
  for (let round = 0; round < 2000; round++) {
    const frame = [...(seeds[random(seeds.length)] as number[])]
    for (let change = random(4); change >= 0; change--) frame[random(frame.length)] = random(256)
    frame.length = Math.max(14, frame.length - random(30))
    guest.send(frame)
  }
  guest.frames.length = 0
  const message = [8, 0, 0, 0, 1, 2, 0, 1]
  message.splice(2, 2, ...word(checksum(message)))
  guest.send(ipv4(1, HOST, message))
  await guest.next((frame) => frame[23] === 1)
  t.pass()
  net.close()
})
