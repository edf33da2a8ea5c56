import { once } from 'node:events'
import { createServer, connect } from 'node:net'
import { createSocket } from 'node:dgram'
import type { AddressInfo } from 'node:net'

import test from 'ava'
import { FrameBatch, Link, type LinkEnd, type LinkSide } from 'virtio'

import type { UserNetConfig } from '../src/net/user/config.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { UserNet } from '../src/net/user/user-net.ts'

const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56]
const ROUTER = [0x52, 0x55, 10, 0, 2, 2]
const ADDRESS = [10, 0, 2, 15]
const HOST = [10, 0, 2, 2]

/** A guest that says what a test lets it say. */
class Guest implements LinkEnd {
  readonly accepts: number
  readonly maxFrame = 1514
  readonly frames: Uint8Array[] = []
  readonly headers: Uint8Array[] = []
  /** How many frames it takes before it wants to be waited for. */
  room = Number.POSITIVE_INFINITY
  readonly #batch = new FrameBatch()
  readonly #side: LinkSide
  #wake: (() => void) | undefined

  constructor(side: LinkSide, accepts = 0) {
    this.accepts = accepts
    this.#side = side
    side.attach(this)
  }

  receive(batch: FrameBatch, from: number): number {
    let at = from
    for (; at < batch.used && this.room > 0; at = batch.next(at), this.room--) {
      this.frames.push(batch.frame(at).slice())
      this.headers.push(batch.header(at).slice())
    }
    this.#wake?.()
    return at
  }

  resume(): void {}
  linkChanged(): void {}

  ready(room: number): void {
    this.room = room
    this.#side.ready()
  }

  send(...frames: readonly number[][]): void {
    this.#batch.clear()
    for (const frame of frames) this.#batch.push(Uint8Array.from(frame))
    this.#side.send(this.#batch)
  }

  /** The first frame for which `matches`, once it is there. */
  async next(matches: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    for (;;) {
      const found = this.frames.findIndex((frame) => matches(frame))
      if (found >= 0) return this.frames.splice(found, 1)[0] as Uint8Array
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}

function word(value: number): number[] {
  return [(value >> 8) & 255, value & 255]
}

function long(value: number): number[] {
  return [...word(value >>> 16), ...word(value & 0xffff)]
}

function checksum(bytes: readonly number[]): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

function ipv4(
  protocol: number,
  to: readonly number[],
  payload: readonly number[],
  from = ADDRESS,
): number[] {
  const header = [
    0x45,
    0,
    ...word(20 + payload.length),
    0,
    0,
    0,
    0,
    64,
    protocol,
    0,
    0,
    ...from,
    ...to,
  ]
  const sum = checksum(header)
  header[10] = sum >> 8
  header[11] = sum & 255
  return [...ROUTER, ...MAC, 8, 0, ...header, ...payload]
}

function udp(
  to: readonly number[],
  fromPort: number,
  toPort: number,
  data: readonly number[],
  from = ADDRESS,
): number[] {
  return ipv4(
    17,
    to,
    [...word(fromPort), ...word(toPort), ...word(8 + data.length), 0, 0, ...data],
    from,
  )
}

function tcp(
  to: readonly number[],
  ports: readonly [number, number],
  numbers: readonly [number, number],
  flags: number,
  data: readonly number[] = [],
): number[] {
  const segment = [
    ...word(ports[0]),
    ...word(ports[1]),
    ...long(numbers[0]),
    ...long(numbers[1]),
    0x50,
    flags,
    ...word(60_000),
    0,
    0,
    0,
    0,
    ...data,
  ]
  const sum = checksum([...ADDRESS, ...to, 0, 6, ...word(segment.length), ...segment])
  segment[16] = sum >> 8
  segment[17] = sum & 255
  return ipv4(6, to, segment)
}

const isTcp = (frame: Uint8Array): boolean => frame[12] === 8 && frame[13] === 0 && frame[23] === 6
const isUdp = (frame: Uint8Array): boolean => frame[12] === 8 && frame[13] === 0 && frame[23] === 17

function sequence(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint32(38)
}

function network(
  options: Record<string, string> = {},
  accepts = 0,
): { net: UserNet; guest: Guest; config: UserNetConfig } {
  const config = parseUserOptions(
    'net0',
    Object.entries(options).map(([key, value]) => ({ key, value })),
  )
  const net = new UserNet(config, {
    nowUs: () => performance.now() * 1000,
    seed: 1,
    report: (message) => {
      throw new Error(message)
    },
  })
  const link = new Link()
  const guest = new Guest(link.b, accepts)
  net.attach(link.a)
  return { net, guest, config }
}

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
