// Networks over sockets: frames between machines, peers that die, and what no peer should send.
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate, setTimeout } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { FrameBatch, Link, MAX_FRAME_BYTES } from 'virtio'
import { NetEnd, batchOf } from 'virtio/testing'
import { DgramNet } from '../src/net/socket/dgram-net.ts'
import { FrameReader, streamOf } from '../src/net/socket/frame-reader.ts'
import { StreamNet } from '../src/net/socket/stream-net.ts'
import type { StreamLine } from '../src/net/socket/config.ts'
import { frameOf } from './support/e1000-driver.ts'
import { random } from './support/random.ts'

/** A network and somebody in a card's place. */
class Station {
  readonly link: Link = new Link()
  readonly card: NetEnd = new NetEnd()
  readonly said: string[] = []

  constructor() {
    this.link.b.attach(this.card)
  }

  readonly say = (message: string): void => void this.said.push(message)

  stream(t: ExecutionContext, line: StreamLine): StreamNet {
    const net = new StreamNet(line, this.link.a, this.say)
    t.teardown(() => net.close())
    return net
  }

  get frames(): Uint8Array[] {
    return this.card.got.map(({ frame }) => frame)
  }
}

async function until(done: () => boolean): Promise<void> {
  for (let i = 0; !done() && i < 1000; i++) await setTimeout(5)
}

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'net-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

const here = { host: '127.0.0.1', port: 0 }

test('frames find their ends in a stream, however it is cut', (t) => {
  const next = random(5)
  const frames = Array.from({ length: 200 }, () => frameOf(14 + next(3000)))
  frames.push(frameOf(MAX_FRAME_BYTES))
  const sent = new FrameBatch(4 << 20)
  for (const frame of frames) sent.push(frame)
  const data = streamOf(sent, 0)
  const reader = new FrameReader()
  const batch = new FrameBatch()
  const got: Uint8Array[] = []
  for (let at = 0; at < data.length;) {
    const piece = data.subarray(at, at + 1 + next(5000))
    let done = 0
    while (done < piece.length) {
      done = reader.read(piece, done, batch)
      for (const record of batch.records()) got.push(batch.frame(record).slice())
      batch.clear()
    }
    at += piece.length
  }
  t.deepEqual(got, frames)
})

test('what is no frame is left out, and what is no stream of frames is noticed', (t) => {
  const reader = new FrameReader()
  const batch = new FrameBatch()
  t.is(reader.read(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3), 0, batch), 11)
  t.is(batch.used, 0)
  t.is(reader.read(Uint8Array.of(0, 1, 0x20, 0), 0, batch), -1)
})

for (const kind of ['TCP', 'UNIX']) {
  test(`two machines over ${kind}, in both directions`, async (t) => {
    const [a, b] = [new Station(), new Station()]
    const path = join(folder(t), 'socket')
    const server = a.stream(t, { server: true, address: kind === 'UNIX' ? { path } : here })
    await server.ready
    const address = kind === 'UNIX' ? { path } : { ...here, port: server.port! }
    const client = b.stream(t, { server: false, address })
    await client.ready
    await until(() => server.detail.startsWith('connection'))
    const frames = Array.from({ length: 50 }, (_, i) => frameOf(60 + 20 * i))
    a.link.b.send(batchOf(...frames))
    b.link.b.send(batchOf(frameOf(99)))
    await until(() => b.frames.length === 50 && a.frames.length === 1)
    t.deepEqual(b.frames, frames)
    t.deepEqual(a.frames, [frameOf(99)])
    t.regex(client.detail, /^connected to /)
  })
}

test('a card that takes nothing stops the stream, and nothing is lost', async (t) => {
  const [a, b] = [new Station(), new Station()]
  const server = a.stream(t, { server: true, address: here })
  await server.ready
  const client = b.stream(t, { server: false, address: { ...here, port: server.port! } })
  await client.ready
  await until(() => server.detail.startsWith('connection'))
  b.card.room = 3
  const batch = batchOf(...Array.from({ length: 100 }, (_, i) => frameOf(1000 + i)))
  let from = 0
  let sent = 0
  // The host's buffers hold a few megabytes.
  for (let i = 0; i < 5000 && from < batch.used; i++) {
    from = a.link.b.send(batch)
    if (from === batch.used) sent += 100
    if (i % 20 === 0) await setImmediate()
    if (from < batch.used) break
    from = 0
  }
  t.true(sent > 0 && from < batch.used, 'the card waits')
  const told = a.card.told.length
  b.card.room = Infinity
  b.link.b.ready()
  await until(() => b.frames.length === sent)
  t.is(b.frames.length, sent)
  t.deepEqual(b.frames.at(-1), frameOf(1099))
  t.true(a.card.told.slice(told).includes('resume'))
})

test('a peer that dies in mid-frame leaves nothing behind, and another may come', async (t) => {
  const a = new Station()
  const server = a.stream(t, { server: true, address: here })
  await server.ready
  const peer = async (): Promise<Socket> => {
    const socket = connect(server.port!, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    return socket
  }
  const first = await peer()
  await until(() => server.detail.startsWith('connection'))
  const frames = streamOf(batchOf(frameOf(100), frameOf(200)), 0)
  first.write(frames.subarray(0, 250))
  await until(() => a.frames.length === 1)
  const second = await peer()
  await once(second, 'close')
  t.regex(a.said.join(), /there is a peer already/)
  first.resetAndDestroy()
  await until(() => server.detail.startsWith('listening'))
  // Nobody is there: frames are lost, and the card does not wait.
  const batch = batchOf(frameOf(80))
  t.is(a.link.b.send(batch), batch.used)
  const third = await peer()
  third.write(frames)
  await until(() => a.frames.length === 3)
  t.deepEqual(
    a.frames.map(({ length }) => length),
    [100, 100, 200],
  )
  third.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff))
  await once(third, 'close')
  t.regex(a.said.join(), /what are no frames/)
})

test('what cannot be opened is refused with the reason', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const busy = new Station().stream(t, { server: true, address: { ...here, port } })
  await t.throwsAsync(busy.ready, { code: 'E_NETDEV', message: /can't listen at .*EADDRINUSE/ })
  const nobody = new Station().stream(t, { server: false, address: { path: '/nonexistent/x' } })
  await t.throwsAsync(nobody.ready, { code: 'E_NETDEV', message: /can't connect to .*ENOENT/ })
})

test('one that is closed while it connects holds no connection', async (t) => {
  const others = new Set<Socket>()
  const server = createServer((socket) => {
    others.add(socket)
    socket.on('close', () => others.delete(socket)).on('error', () => {})
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const net = new Station().stream(t, { server: false, address: { ...here, port } })
  net.close()
  await net.ready
  await until(() => others.size === 0)
  await setTimeout(50)
  t.is(others.size, 0)
})

test('a socket that a dead process left is taken, one in use is not', async (t) => {
  const path = join(folder(t), 'socket')
  const first = new Station().stream(t, { server: true, address: { path } })
  await first.ready
  const second = new Station().stream(t, { server: true, address: { path } })
  await t.throwsAsync(second.ready, { message: /another process listens there/ })
})

test('datagrams between two machines, and to nobody', async (t) => {
  const [a, b] = [new Station(), new Station()]
  const first = new DgramNet({ local: here, isGroup: false }, a.link.a, a.say)
  t.teardown(() => first.close())
  await first.ready
  const remote = { ...here, port: first.port }
  const second = new DgramNet({ local: here, remote, isGroup: false }, b.link.a, b.say)
  t.teardown(() => second.close())
  await second.ready
  // Without a peer frames are only received; one that is too long for a datagram is lost.
  const batch = batchOf(frameOf(100), frameOf(MAX_FRAME_BYTES), frameOf(300))
  t.is(a.link.b.send(batch), batch.used)
  t.is(b.link.b.send(batch), batch.used)
  await until(() => a.frames.length === 2)
  t.deepEqual(a.frames, [frameOf(100), frameOf(300)])
  t.deepEqual(b.frames, [])
})

test('a group hears every member, and nobody hears himself', async (t) => {
  const group = { host: '230.77.7.7', port: 20_000 + (process.pid % 40_000) }
  const line = { local: { host: '127.0.0.1', port: 0 }, remote: group, isGroup: true }
  const stations = [new Station(), new Station(), new Station()]
  for (const station of stations) {
    const net = new DgramNet(line, station.link.a, station.say)
    t.teardown(() => net.close())
    await net.ready
  }
  const [first, ...others] = stations
  first!.link.b.send(batchOf(frameOf(100)))
  await until(() => others.every(({ frames }) => frames.length === 1))
  for (const { frames } of others) t.deepEqual(frames, [frameOf(100)])
  await setTimeout(50)
  t.deepEqual(first!.frames, [])
})

test('a descriptor that is no connection is refused', async (t) => {
  const file = openSync('/dev/null', 'r')
  t.teardown(() => closeSync(file))
  for (const fd of [file, 987_654]) {
    const net = new StreamNet({ server: false, address: { fd } }, new Link().a, () => {})
    await t.throwsAsync(net.ready, {
      code: 'E_NETDEV',
      message: new RegExp(`can't connect to fd=${fd}`),
    })
    net.close()
  }
})
