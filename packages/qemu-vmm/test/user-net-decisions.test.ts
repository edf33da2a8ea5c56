import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

import test from 'ava'

import type { ConnectDecision, ConnectRequest, OnConnect } from '../src/net/user/decision.ts'
import { HOST, isTcp, isUdp, network, sequence, tcp, udp } from './support/net-guest.ts'

const NOBODY = [192, 0, 2, 7]
const ACK = 0x10
const RST = 4

/** A network whose hook says this, and what the hook was asked. */
function deciding(decision: OnConnect | ConnectDecision): ReturnType<typeof network> & {
  asked: ConnectRequest[]
} {
  const asked: ConnectRequest[] = []
  const onConnect: OnConnect = (request) => {
    asked.push(request)
    return typeof decision === 'function' ? decision(request) : decision
  }
  return { ...network({}, 0, onConnect), asked }
}

/** Something must keep the process alive while a test waits for the network, which does not. */
const alive = setInterval(() => {}, 1000)
test.after.always(() => clearInterval(alive))

test('a hook is asked who wants to speak with whom, and lets pass', async (t) => {
  const server = createServer((socket) => socket.on('error', () => {}).end('hi')).listen(
    0,
    '127.0.0.1',
  )
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { net, guest, asked } = deciding('allow')
  guest.send(tcp(HOST, [4000, port], [100, 0], 2))
  t.is((await guest.next(isTcp))[47], 0x12)
  const from = { address: '10.0.2.15', port: 4000 }
  const to = { address: '10.0.2.2', port }
  t.deepEqual(asked, [{ network: 'net0', protocol: 'tcp', from, to }])
  net.close()
  server.close()
})

test('a refused connection is reset, and a refused datagram is answered by an ICMP error', async (t) => {
  const { net, guest } = deciding('refuse')
  guest.send(tcp(NOBODY, [4000, 80], [100, 0], 2))
  t.is((await guest.next(isTcp))[47], RST | ACK)
  guest.send(udp(NOBODY, 5000, 53, [1]))
  const error = await guest.next((frame) => frame[23] === 1)
  t.deepEqual([...error.subarray(34, 36)], [3, 3])
  net.close()
})

test('a dropped connection hears nothing, however often the guest asks', async (t) => {
  const { net, guest, asked } = deciding('drop')
  for (let i = 0; i < 3; i++) {
    guest.send(tcp(NOBODY, [4000, 80], [100, 0], 2), udp(NOBODY, 5000, 53, [1]))
    await sleep(20)
  }
  t.is(guest.frames.length, 0)
  t.is(asked.length, 2)
  net.close()
})

test('a connection is redirected', async (t) => {
  const server = createServer((socket) => socket.on('error', () => {}).end('elsewhere')).listen(
    0,
    '127.0.0.1',
  )
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { net, guest } = deciding({ redirect: { address: '127.0.0.1', port } })
  guest.send(tcp(NOBODY, [4000, 80], [100, 0], 2))
  const first = sequence(await guest.next(isTcp)) + 1
  guest.send(tcp(NOBODY, [4000, 80], [101, first], ACK))
  const data = await guest.next((frame) => isTcp(frame) && frame.length > 60)
  t.is(Buffer.from(data.subarray(54)).toString(), 'elsewhere')
  net.close()
  server.close()
})

test('the program answers a connection through a stream, and both can reset it', async (t) => {
  const sockets: Socket[] = []
  const { net, guest } = deciding({
    stream(socket) {
      socket.on('data', (data) => socket.write(`${data}!`))
      sockets.push(socket)
    },
  })
  guest.send(tcp(NOBODY, [4000, 80], [100, 0], 2))
  const first = sequence(await guest.next(isTcp)) + 1
  guest.send(tcp(NOBODY, [4000, 80], [101, first], ACK, [...Buffer.from('hello')]))
  const answer = await guest.next((frame) => isTcp(frame) && frame.length >= 60 && frame[59] === 33)
  t.is(Buffer.from(answer.subarray(54, 60)).toString(), 'hello!')
  sockets[0]?.resetAndDestroy()
  t.truthy((await guest.next((frame) => isTcp(frame) && ((frame[47] ?? 0) & RST) !== 0))[47])

  guest.send(tcp(NOBODY, [4001, 80], [100, 0], 2))
  const other = sequence(await guest.next((frame) => isTcp(frame) && frame[47] === 0x12)) + 1
  const failed = once(sockets[1] as Socket, 'error')
  guest.send(tcp(NOBODY, [4001, 80], [101, other], RST))
  await t.throwsAsync(
    failed.then(([error]) => Promise.reject(error as Error)),
    { code: 'ECONNRESET' },
  )
  t.is(net.usage.tcp, 0)
  net.close()
})

test('the program answers datagrams, late and not all of them', async (t) => {
  const { net, guest } = deciding(async () => {
    await sleep(30)
    return {
      datagrams(stream) {
        stream.on('data', (data: Buffer) => {
          if (data[0] !== 0) stream.write(Buffer.concat([data, Buffer.from([7])]))
        })
      },
    }
  })
  guest.send(udp(NOBODY, 5000, 53, [1]), udp(NOBODY, 5000, 53, [0]), udp(NOBODY, 5000, 53, [2]))
  for (const value of [1, 2]) {
    const answer = await guest.next(isUdp)
    t.deepEqual([...answer.subarray(26, 30)], NOBODY)
    t.deepEqual([...answer.subarray(42)], [value, 7])
  }
  t.is(guest.frames.length, 0)
  net.close()
})

const wrong: readonly [string, OnConnect, RegExp][] = [
  ['nothing', () => undefined as never, /decided undefined: it is 'allow'/],
  ['a stream for UDP', (r) => (r.protocol === 'udp' ? { stream() {} } : 'drop'), /'datagrams' is/],
  ['datagrams for TCP', (r) => (r.protocol === 'tcp' ? { datagrams() {} } : 'drop'), /'stream' is/],
  [
    'a name',
    () => ({ redirect: { address: 'example.org', port: 80 } }),
    /an IP address and a port/,
  ],
  ['port 0', () => ({ redirect: { address: '127.0.0.1', port: 0 } }), /an IP address and a port/],
  ['a closed descriptor', () => ({ fd: 99_999 }), /EBADF|Bad file descriptor/],
  ['an exception', () => Promise.reject(new Error('not today')), /not today/],
]
for (const [what, hook, message] of wrong) {
  test(`a decision that cannot be refuses the connection and is reported: ${what}`, async (t) => {
    const reports: string[] = []
    const { net, guest } = network({}, 0, hook, (text) => reports.push(text))
    guest.send(udp(NOBODY, 5000, 53, [1]), tcp(NOBODY, [4000, 80], [100, 0], 2))
    await guest.next((frame) => frame[23] === 1 || (isTcp(frame) && frame[47] === (RST | ACK)))
    t.regex(reports.join('\n'), message)
    t.true(reports.every((text) => text.startsWith('a connection was refused: ')))
    net.close()
  })
}

test('an answer to a network that is closed gives its socket back', async (t) => {
  let answer: (decision: ConnectDecision) => void = () => {}
  const { net, guest } = deciding(() => new Promise((resolve) => (answer = resolve)))
  guest.send(tcp(NOBODY, [4000, 80], [100, 0], 2))
  await sleep(10)
  net.close()
  const ended = new Promise<void>((resolve) => {
    answer({ stream: (socket) => void socket.resume().on('end', () => resolve()) })
  })
  await t.notThrowsAsync(ended)
})
