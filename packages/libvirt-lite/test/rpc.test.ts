import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import test from 'ava'
import * as fc from 'fast-check'
import { encode, encodeMessage } from '../src/rpc/message.ts'
import type { Message } from '../src/rpc/message.ts'
import { FrameReader } from '../src/rpc/frame-reader.ts'
import { Client, PROCEDURES, RpcError, VirtError } from '../src/rpc/index.ts'
import { KEEPALIVE, MIB, REMOTE, rig } from './support/rig.ts'

const errorOf = ({ payload }: Message) => {
  const code = payload.readInt32BE(0)
  return { code, message: payload.subarray(16, 16 + payload.readUInt32BE(12)).toString() }
}

test('frames are the same however they are cut', (t) => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 10 })
  fc.assert(
    fc.property(
      messages,
      fc.array(fc.integer({ min: 1, max: 97 }), { minLength: 1 }),
      (payloads, cuts) => {
        const bytes = Buffer.concat(
          payloads.map((payload, serial) =>
            encodeMessage(
              { program: 1, version: 1, procedure: -3, type: 0, serial, status: 0 },
              payload,
            ),
          ),
        )
        const reader = new FrameReader()
        const got: Message[] = []
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + cuts[i % cuts.length]!
          reader.push(bytes.subarray(at, end))
          at = end
          for (let next = reader.next(); next !== undefined; next = reader.next()) got.push(next)
        }
        return (
          reader.pending === 0 &&
          got.length === payloads.length &&
          got.every(
            ({ payload, serial, procedure }, i) =>
              serial === i && procedure === -3 && payload.equals(payloads[i]!),
          )
        )
      },
    ),
  )
  t.pass()
})

test('a length that no message has ends the stream, and one that is announced reserves nothing', (t) => {
  for (const hex of ['00000000', '0000001b', '02000001', 'ffffffff']) {
    const reader = new FrameReader()
    reader.push(Buffer.from(hex, 'hex'))
    t.is(t.throws(() => reader.next(), { instanceOf: RpcError }).code, 'E_FRAME')
  }
  const readers = Array.from({ length: 1000 }, () => new FrameReader())
  const before = process.memoryUsage().rss
  for (const reader of readers) {
    reader.push(Buffer.from('02000000', 'hex'))
    t.is(reader.next(), undefined)
  }
  t.true(process.memoryUsage().rss - before < 100 * MIB)
})

test('a large message in tiny pieces takes linear time', (t) => {
  const reader = new FrameReader()
  const bytes = encodeMessage(
    { program: 1, version: 1, procedure: 1, type: 0, serial: 0, status: 0 },
    Buffer.alloc(2 * MIB),
  )
  const started = performance.now()
  for (let at = 0; at < bytes.length; at += 3) {
    reader.push(bytes.subarray(at, at + 3))
    if (at + 3 < bytes.length) reader.next()
  }
  t.is(reader.next()?.payload.length, 2 * MIB)
  t.true(performance.now() - started < 5000)
})

test('calls are answered, several at once and in any order', async (t) => {
  let go: (() => void) | undefined
  const { client: open } = await rig(t, {
    DOMAIN_LOOKUP_BY_NAME: async ({ name }) => {
      if (name === 'slow') await new Promise<void>((resolve) => (go = resolve))
      else setTimeout(() => go?.(), 10)
      return { dom: { name, uuid: '00000000-0000-0000-0000-000000000001', id: -1 } }
    },
  })
  const client = await open()
  const order: string[] = []
  const call = async (name: string) => {
    const { dom } = await client.call('DOMAIN_LOOKUP_BY_NAME', { name })
    order.push(dom.name)
  }
  await Promise.all([call('slow'), call('quick')])
  t.deepEqual(order, ['quick', 'slow'])
  t.deepEqual(await client.call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
})

test('errors of handlers arrive with their code, and other errors as internal ones', async (t) => {
  const seen: string[] = []
  const { client: open } = await rig(
    t,
    {
      DOMAIN_LOOKUP_BY_NAME: () => {
        throw new VirtError(42, "Domain not found: no domain with matching name 'x'")
      },
      DOMAIN_LOOKUP_BY_ID: () => {
        throw new TypeError('a mistake')
      },
    },
    { onInternalError: (_error, name) => seen.push(name) },
  )
  const client = await open()
  const missing = await t.throwsAsync(client.call('DOMAIN_LOOKUP_BY_NAME', { name: 'x' }), {
    instanceOf: VirtError,
  })
  t.is(missing.code, 42)
  const internal = await t.throwsAsync(client.call('DOMAIN_LOOKUP_BY_ID', { id: 1 }), {
    instanceOf: VirtError,
  })
  t.is(internal.code, 1)
  t.deepEqual(seen, ['DOMAIN_LOOKUP_BY_ID'])
})

test('unknown procedures, programs and versions are refused, and the connection lives', async (t) => {
  const { raw } = await rig(t)
  const peer = await raw()
  await peer.open()
  for (const procedure of [9999, -1, 0, 443]) {
    peer.call(procedure, Buffer.alloc(0), { serial: 7 })
    const reply = await peer.next()
    t.is(reply.status, 1)
    t.is(reply.serial, 7)
    t.is(errorOf(reply).code, 3)
  }
  // Known, and not handled here.
  peer.call(23, Buffer.from('0000000161000000', 'hex'))
  t.regex(errorOf(await peer.next()).message, /not supported.*virDomainLookupByName/)
  peer.call(1, Buffer.alloc(0), { program: 0x12345678 })
  t.is(errorOf(await peer.next()).code, 39)
  peer.call(1, Buffer.alloc(0), { version: 2 })
  t.is(errorOf(await peer.next()).code, 39)
  // Arguments that are cut short, too long or no text.
  for (const hex of ['', '00000005', '00000001610000000000', 'ffffffff']) {
    peer.call(23, Buffer.from(hex, 'hex'))
    t.is((await peer.next()).status, 1)
  }
  peer.call(3, Buffer.alloc(0))
  t.is((await peer.next()).status, 0)
})

test('nothing is answered before the connection is open, and open it must be in time', async (t) => {
  const { raw } = await rig(t, {}, { openTimeoutMs: 100 })
  const peer = await raw()
  peer.call(3, Buffer.alloc(0))
  t.regex(errorOf(await peer.next()).message, /not open/)
  await peer.end()
  const half = await raw()
  half.socket.write(Buffer.from('0000', 'hex'))
  await half.end()
  t.pass()
})

test('what is not a message of a client ends the connection', async (t) => {
  const { raw, client } = await rig(t)
  for (const type of [1, 2, 4, 5, 6, 99]) {
    const peer = await raw()
    peer.call(3, Buffer.alloc(0), { type })
    await peer.end()
  }
  const peer = await raw()
  peer.socket.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  await peer.end()
  // Others are served.
  t.deepEqual(await (await client()).call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
})

test('a connection that may only read changes nothing', async (t) => {
  const { raw } = await rig(t, { DOMAIN_CREATE: () => undefined }, { readOnly: true })
  const peer = await raw()
  await peer.open()
  const dom = { name: 'a', uuid: '00000000-0000-0000-0000-000000000001', id: -1 }
  for (const [name, procedure] of Object.entries(PROCEDURES)) {
    if (procedure.isRead) continue
    // Refused before the arguments are looked at.
    peer.call(
      procedure.number,
      name === 'DOMAIN_CREATE' ? encode(PROCEDURES[name].args, { dom }) : Buffer.alloc(0),
    )
    const { code, message } = errorOf(await peer.next())
    t.is(code, 29, name)
    t.regex(message, /read only access prevents vir/)
  }
})

test('PING is answered while calls are under way', async (t) => {
  const { raw } = await rig(t, { CONNECT_GET_HOSTNAME: () => new Promise(() => undefined) })
  const peer = await raw()
  await peer.open()
  peer.call(59, Buffer.alloc(0))
  peer.call(1, Buffer.alloc(0), { program: KEEPALIVE, type: 2 })
  const pong = await peer.next()
  t.is(pong.program, KEEPALIVE)
  t.is(pong.procedure, 2)
})

test('a flood of calls to a client that never reads is bounded', async (t) => {
  let calls = 0
  const xml = 'x'.repeat(MIB)
  const { raw, client, connections } = await rig(t, {
    CONNECT_GET_CAPABILITIES: () => {
      calls++
      return { xml }
    },
  })
  const peer = await raw()
  await peer.open()
  peer.socket.pause()
  peer.socket.removeAllListeners('data')
  const flood = Buffer.concat(
    Array.from({ length: 2000 }, (_, serial) =>
      encodeMessage(
        { program: REMOTE, version: 1, procedure: 7, type: 0, serial, status: 0 },
        Buffer.alloc(0),
      ),
    ),
  )
  peer.socket.write(flood)
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.true(calls < 64, `${calls} calls were run`)
  t.false(connections[0]!.isClosed)
  // The others do not notice.
  t.deepEqual(await (await client()).call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
})

test('events to a client that never reads end its connection', async (t) => {
  const { raw, connections } = await rig(t)
  const peer = await raw()
  await peer.open()
  peer.socket.pause()
  peer.socket.removeAllListeners('data')
  const dom = { name: 'x'.repeat(100_000), uuid: '00000000-0000-0000-0000-000000000001', id: 1 }
  for (let i = 0; i < 1000 && !connections[0]!.isClosed; i++) {
    connections[0]!.event('DOMAIN_EVENT_CALLBACK_LIFECYCLE', {
      callbackId: 0,
      message: { dom, event: 0, detail: 0 },
    })
  }
  t.true(connections[0]!.isClosed)
})

test('a silent peer is noticed by keepalive', async (t) => {
  const server = createServer((socket) => {
    const frames = new FrameReader()
    socket.on('data', (chunk: Buffer) => {
      frames.push(chunk)
      // Answers calls, and no PING.
      for (let next = frames.next(); next !== undefined; next = frames.next()) {
        if (next.program !== REMOTE) continue
        const result =
          next.procedure === 66 ? '0000000100000000' : next.procedure === 60 ? '00000001' : ''
        socket.write(encodeMessage({ ...next, type: 1 }, Buffer.from(result, 'hex')))
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const client = await Client.open(
    { port, host: '127.0.0.1' },
    { keepAliveMs: 20, keepAliveCount: 3 },
  )
  const reason = await client.ended
  t.true(reason instanceof RpcError && reason.code === 'E_TIMEOUT')
  await t.throwsAsync(client.call('CONNECT_GET_TYPE', undefined), { instanceOf: RpcError })
})

const dom = { name: 'a', uuid: '00000000-0000-0000-0000-000000000001', id: 1 }

test('a stream carries bytes both ways, and each end hears of the other one', async (t) => {
  const { client: open } = await rig(t, {
    DOMAIN_OPEN_CONSOLE: (_args, { stream }) => {
      stream.on('data', (chunk: Buffer) => stream.write(chunk.toString().toUpperCase()))
      stream.on('end', () => stream.end('bye'))
    },
  })
  const client = await open()
  const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', {
    dom,
    device: undefined,
    flags: 0,
  })
  // All that is waited for may come in one piece, and is over then.
  const closed = once(stream, 'close')
  stream.write('hello')
  const [first] = (await once(stream, 'data')) as [Buffer]
  t.is(first.toString(), 'HELLO')
  // Data and end may come at once.
  stream.end()
  const [last] = (await once(stream, 'data')) as [Buffer]
  t.is(last.toString(), 'bye')
  await closed
  t.deepEqual(await client.call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
})

test('megabytes go through a stream whole, up and down', async (t) => {
  const data = Buffer.alloc(5 * MIB, 'abcdefg')
  let got = Buffer.alloc(0)
  const { client: open } = await rig(t, {
    STORAGE_VOL_DOWNLOAD: (_args, { stream }) => void stream.end(data),
    STORAGE_VOL_UPLOAD: (_args, { stream }) => {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        got = Buffer.concat(chunks)
        stream.end()
      })
    },
  })
  const client = await open()
  const args = { vol: { pool: 'p', name: 'v', key: 'k' }, offset: 0n, length: 0n, flags: 0 }
  const down = await client.openStream('STORAGE_VOL_DOWNLOAD', args)
  const chunks: Buffer[] = []
  for await (const chunk of down.stream) chunks.push(chunk as Buffer)
  t.true(Buffer.concat(chunks).equals(data))
  const up = await client.openStream('STORAGE_VOL_UPLOAD', args)
  up.stream.resume()
  up.stream.end(data)
  await once(up.stream, 'close')
  t.true(got.equals(data))
})

test('a stream that is aborted tells the other end why, and a lost connection cuts it', async (t) => {
  const seen: Error[] = []
  const { client: open, connections } = await rig(t, {
    DOMAIN_OPEN_CONSOLE: ({ device }, { stream }) => {
      stream.on('error', (error) => seen.push(error))
      if (device === 'gone') {
        stream.once('data', () => stream.destroy(new VirtError(55, 'no guest')))
      }
    },
  })
  const client = await open()
  const gone = await client.openStream('DOMAIN_OPEN_CONSOLE', { dom, device: 'gone', flags: 0 })
  const failed = once(gone.stream, 'error')
  gone.stream.write('go')
  const [error] = (await failed) as [VirtError]
  t.is(error.code, 55)
  const left = await client.openStream('DOMAIN_OPEN_CONSOLE', { dom, device: undefined, flags: 0 })
  left.stream.destroy()
  while (seen.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  t.regex(seen[1]!.message, /aborted/)
  const cut = await client.openStream('DOMAIN_OPEN_CONSOLE', { dom, device: undefined, flags: 0 })
  const lost = once(cut.stream, 'error')
  connections[0]!.close()
  await lost
  t.pass()
})
