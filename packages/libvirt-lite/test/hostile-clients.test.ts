// Clients that mean harm or are broken, against a whole daemon.
import { once } from 'node:events'
import { readFileSync, readdirSync, statSync, symlinkSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import * as fc from 'fast-check'
import { Daemon } from '../src/daemon/daemon.ts'
import { DaemonError } from '../src/daemon/daemon-error.ts'
import { Client, PROCEDURES, QEMU } from '../src/rpc/index.ts'
import { encodeMessage } from '../src/rpc/message.ts'
import type { Message } from '../src/rpc/message.ts'
import type { TestDaemon } from './support/daemon.ts'
import { define, domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { MIB, REMOTE, Raw, rig } from './support/rig.ts'

const QEMU_PROGRAM = 0x20008087
const DENIED = 29
const RPC_FAILED = 39

/** Every procedure with the shortest arguments that are well-formed: zeros, no text, no elements. */
const CALLS = [
  ...Object.entries(PROCEDURES).map(([name, it]) => ({ ...it, name, program: REMOTE })),
  ...Object.entries(QEMU).map(([name, it]) => ({ ...it, name, program: QEMU_PROGRAM })),
].map(({ name, number, program, args, isRead, hasStream }) => ({
  name,
  number,
  program,
  isRead,
  hasStream,
  shortest: Buffer.alloc(args.size),
}))

async function raw(t: ExecutionContext, path: string): Promise<Raw> {
  const socket = connect({ path })
  await once(socket, 'connect')
  t.teardown(() => socket.destroy())
  return new Raw(socket)
}

const codeOf = ({ status, payload }: Message): number => (status === 0 ? 0 : payload.readInt32BE(0))

/** Whether it still serves: a new client defines, lists and undefines. */
async function serves({ client: open }: TestDaemon): Promise<boolean> {
  const client = await open()
  const dom = await define(client, domainXml('alive'))
  const { count } = await client.call('CONNECT_LIST_ALL_DOMAINS', { needResults: 1, flags: 0 })
  await client.call('DOMAIN_UNDEFINE', { dom })
  await client.close()
  return count > 0
}

test('calls whose arguments are cut, changed or too long are answered, and nothing of the daemon breaks', async (t) => {
  const daemon = await startDaemon(t)
  const peer = await raw(t, daemon.socket)
  await peer.open()
  const calls = CALLS.filter(({ name, hasStream }) => !hasStream && name !== 'CONNECT_CLOSE')
  let serial = 1
  const word = fc.constantFrom(0, 1, 2, 4, 0x7fffffff, 0x80000000, 0xffffffff, 0x00400001)
  const change = fc.record({ at: fc.nat(400), word })
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...calls),
      fc.array(change, { maxLength: 4 }),
      fc.integer({ min: -8, max: 12 }),
      async ({ number, program, shortest }, changes, longer) => {
        const payload = Buffer.alloc(Math.max(0, shortest.length + longer))
        for (const { at, word } of changes) {
          if (payload.length >= 4) payload.writeUInt32BE(word, (at * 4) % (payload.length & ~3))
        }
        peer.call(number, payload, { program, serial: ++serial })
        const reply = await peer.next()
        return reply.serial === serial && reply.type === 1 && reply.status <= 1
      },
    ),
    { numRuns: 2000 },
  )
  // What a client sends is never the daemon's own mistake.
  t.deepEqual(daemon.log, [])
  t.true(await serves(daemon))
})

test('arguments that are cut anywhere are refused as such, for every procedure', async (t) => {
  const daemon = await startDaemon(t)
  const peer = await raw(t, daemon.socket)
  await peer.open()
  for (const { name, number, program, shortest } of CALLS) {
    for (const length of new Set([0, 4, shortest.length - 4, shortest.length + 4])) {
      if (length < 0 || length === shortest.length) continue
      peer.call(number, Buffer.alloc(length), { program })
      const code = codeOf(await peer.next())
      // Those that are not there at all are refused before that.
      t.true(code === RPC_FAILED || code === 3, `${name} with ${length} bytes: ${code}`)
    }
  }
  t.deepEqual(daemon.log, [])
})

test('lengths of 4 GiB, other programs and other versions cost nothing', async (t) => {
  const daemon = await startDaemon(t)
  const before = process.memoryUsage().rss
  for (const length of [0, 27, 0x02000001, 0x80000000, 0xffffffff]) {
    const peer = await raw(t, daemon.socket)
    await peer.open()
    const head = Buffer.alloc(64)
    head.writeUInt32BE(length)
    peer.socket.write(head)
    await peer.end()
  }
  const peer = await raw(t, daemon.socket)
  await peer.open()
  for (const extra of [{ version: 0 }, { version: 2 }, { program: 0 }, { program: 0x00068000 }]) {
    peer.call(1, Buffer.alloc(0), extra)
    t.is(codeOf(await peer.next()), RPC_FAILED)
  }
  for (const procedure of [0, -1, 444, 0x7fffffff]) {
    peer.call(procedure, Buffer.alloc(0))
    t.is(codeOf(await peer.next()), 3)
  }
  t.true(process.memoryUsage().rss - before < 100 * MIB)
  t.true(await serves(daemon))
})

/** Names and contents of all files below a folder, but for what time alone changes. */
function contents(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const file = join(entry.parentPath, entry.name)
      return `${file} ${statSync(file).mtimeMs} ${readFileSync(file, 'latin1')}`
    })
    .toSorted()
}

test('a client that may only read is refused each procedure that changes something, and the others change nothing', async (t) => {
  const daemon = await startDaemon(t)
  const writer = await daemon.client()
  // The one that all-zero arguments name.
  await define(writer, domainXml('x', { uuid: '00000000-0000-0000-0000-000000000000' }))
  const before = contents(daemon.state)
  const heard: number[] = []
  writer.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ message }) => heard.push(message.event))
  const every = { event: 0, dom: undefined }
  await writer.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', every)
  const readOnlySocket = await raw(t, `${daemon.socket}-ro`)
  await readOnlySocket.open()
  const gaveUp = await raw(t, daemon.socket)
  const open = Buffer.from('0000000000000001', 'hex')
  gaveUp.call(1, open)
  t.is((await gaveUp.next()).status, 0)
  for (const peer of [readOnlySocket, gaveUp]) {
    // What was given up cannot be had again.
    peer.call(1, Buffer.alloc(8))
    await peer.next()
    for (const { name, number, program, isRead, shortest } of CALLS) {
      if (name === 'CONNECT_CLOSE') continue
      peer.call(number, shortest, { program })
      const code = codeOf(await peer.next())
      t.is(code === DENIED, !isRead, `${name}: ${code}`)
    }
  }
  t.deepEqual(contents(daemon.state), before)
  t.deepEqual(heard, [])
  t.deepEqual(daemon.log, [])
})

test('thousands of calls in one piece are each answered once', async (t) => {
  const daemon = await startDaemon(t)
  const peer = await raw(t, daemon.socket)
  await peer.open()
  const header = { program: REMOTE, version: 1, type: 0, status: 0 }
  const names = ['CONNECT_GET_TYPE', 'CONNECT_GET_VERSION', 'CONNECT_NUM_OF_DOMAINS'] as const
  const flood = Array.from({ length: 6000 }, (_, serial) =>
    encodeMessage(
      { ...header, procedure: PROCEDURES[names[serial % 3]!].number, serial },
      Buffer.alloc(0),
    ),
  )
  peer.socket.write(Buffer.concat(flood))
  const seen = new Set<number>()
  for (let i = 0; i < flood.length; i++) {
    const { serial, status } = await peer.next()
    t.is(status, 0)
    seen.add(serial)
  }
  t.is(seen.size, flood.length)
})

test('a thousand clients are served at once, and nothing of them stays', async (t) => {
  const daemon = await startDaemon(t)
  const clients = await Promise.all(
    Array.from({ length: 1000 }, () => Client.open({ path: daemon.socket })),
  )
  const counts = await Promise.all(
    clients.map(async (client) => {
      const event = { event: 0, dom: undefined }
      await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', event)
      return (await client.call('CONNECT_NUM_OF_DOMAINS', undefined)).count
    }),
  )
  t.is(counts.length, 1000)
  // Half say goodbye, half are gone.
  await Promise.all(clients.map((client, i) => (i % 2 === 0 ? client.close() : client.destroy())))
  t.true(await serves(daemon))
  t.deepEqual(daemon.log, [])
})

test('connections that are half open hold up nobody', async (t) => {
  const daemon = await startDaemon(t)
  for (let i = 0; i < 100; i++) {
    const peer = await raw(t, daemon.socket)
    if (i % 2 === 0) peer.socket.write(Buffer.from('0000001c2000', 'hex'))
  }
  // One that says that it is done, in the middle of a message, is done.
  const done = await raw(t, daemon.socket)
  await done.open()
  done.socket.end(Buffer.from('0000001c2000', 'hex'))
  await done.end()
  t.true(await serves(daemon))
})

test('before a connection is open, long messages end it', async (t) => {
  const daemon = await startDaemon(t)
  const peer = await raw(t, daemon.socket)
  const head = Buffer.alloc(28)
  head.writeUInt32BE(MIB)
  peer.socket.write(head)
  await peer.end()
  // Afterwards they are taken.
  const open = await raw(t, daemon.socket)
  await open.open()
  open.call(PROCEDURES.DOMAIN_DEFINE_XML.number, Buffer.alloc(MIB))
  t.is(codeOf(await open.next()), RPC_FAILED)
})

test('of daemons that start at once on one state folder, one has it', async (t) => {
  const at = folder(t)
  const starts = await Promise.allSettled(
    Array.from({ length: 5 }, (_, i) =>
      Daemon.start({ stateDir: join(at, i % 2 ? 'state' : './state/'), socket: join(at, `s${i}`) }),
    ),
  )
  const daemons = starts.filter((it) => it.status === 'fulfilled')
  await Promise.all(daemons.map(({ value }) => value.stop()))
  t.is(daemons.length, 1)
  for (const it of starts) {
    if (it.status === 'fulfilled') continue
    t.true(it.reason instanceof DaemonError, String(it.reason))
    t.regex(it.reason.message, /another daemon has the state folder/)
  }
})

test('a socket is not put where a link leads', async (t) => {
  const at = folder(t)
  const theirs = createServer().listen(join(at, 'theirs'))
  await once(theirs, 'listening')
  t.teardown(() => theirs.close())
  symlinkSync(join(at, 'theirs'), join(at, 's'))
  symlinkSync(join(at, 'nowhere'), join(at, 'ok-ro'))
  for (const [socket, link] of [
    ['s', 's'],
    ['ok', 'ok-ro'],
  ] as const) {
    const options = { stateDir: join(at, 'state'), socket: join(at, socket) }
    const error = await t.throwsAsync(Daemon.start(options), { instanceOf: DaemonError })
    t.regex(error.message, new RegExp(`${link}' exists and is no socket: remove it`))
  }
  // Neither is anything left of what did not start.
  t.deepEqual(readdirSync(at).toSorted(), ['ok-ro', 's', 'state', 'theirs'])
})

test('packets of streams in any order break no connection, and every stream ends', async (t) => {
  const STREAM = 3
  const { number, args } = PROCEDURES.DOMAIN_OPEN_CONSOLE
  const payload = Buffer.alloc(args.size)
  let open = 0
  const { raw: connectRaw } = await rig(t, {
    DOMAIN_OPEN_CONSOLE: (_args, { stream }) => {
      open++
      stream.once('close', () => open--)
      stream.on('data', (chunk: Buffer) => stream.write(chunk))
      stream.once('end', () => stream.end('bye'))
    },
  })
  const packet = fc.record({
    // Few streams, so that many packets meet one; some call for a stream with a serial that has one.
    serial: fc.integer({ min: 1, max: 3 }),
    isCall: fc.boolean(),
    status: fc.constantFrom(0, 1, 2, 2, 2, 7),
    bytes: fc.constantFrom(0, 0, 1, 100, 70_000),
    procedure: fc.constantFrom(number, number, 1, -1),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(packet, { maxLength: 40 }), async (packets) => {
      const peer = await connectRaw()
      await peer.open()
      for (const { serial, isCall, status, bytes, procedure } of packets) {
        if (isCall) peer.call(number, payload, { serial })
        else peer.call(procedure, Buffer.alloc(bytes, 'x'), { serial, status, type: STREAM })
      }
      peer.call(PROCEDURES.CONNECT_GET_TYPE.number, Buffer.alloc(0), { serial: 9 })
      for (let reply = await peer.next(); reply.serial !== 9;) reply = await peer.next()
      peer.socket.destroy()
    }),
    { numRuns: 150 },
  )
  await until(() => open === 0)
  t.pass()
})
