// Streams that nobody reads, on connections that others use.
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Client } from '../src/rpc/index.ts'
import type { RpcStream } from '../src/rpc/index.ts'
import { until } from './support/daemon.ts'
import { MIB, rig } from './support/rig.ts'

const console = {
  dom: { name: 'x', uuid: '00000000-0000-0000-0000-000000000001', id: 1 },
  device: undefined,
  flags: 0,
}

const openConsole = async (client: Client): Promise<RpcStream> =>
  (await client.openStream('DOMAIN_OPEN_CONSOLE', console)).stream

/** A guest that writes as much as it can, up to `bytes`. */
const writer =
  (bytes: number) =>
  (_args: unknown, { stream }: { stream: RpcStream }) => {
    let left = bytes
    const more = (): void => {
      while (left > 0) {
        left -= MIB
        if (!stream.write(Buffer.alloc(MIB, left / MIB))) return void stream.once('drain', more)
      }
      stream.end()
    }
    stream.on('error', () => undefined)
    setImmediate(more)
  }

test('calls are answered while a stream is not read, and nothing of it is lost', async (t) => {
  const { client: open } = await rig(t, { DOMAIN_OPEN_CONSOLE: writer(24 * MIB) })
  const client = await open()
  const stream = await openConsole(client)
  for (let i = 0; i < 20; i++) {
    t.deepEqual(await client.call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
    await sleep(5)
  }
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  const all = Buffer.concat(chunks)
  t.is(all.length, 24 * MIB)
  for (let i = 0; i < 24; i++) t.is(all[i * MIB + 7], 23 - i)
})

test('a daemon waits for the reader of a stream while no call waits for the daemon', async (t) => {
  const { client: open } = await rig(t, { DOMAIN_OPEN_CONSOLE: writer(200 * MIB) })
  const client = await open()
  const stream = await openConsole(client)
  await until(() => stream.readableLength >= MIB)
  await sleep(100)
  t.true(stream.readableLength < 8 * MIB)
  stream.destroy()
  t.deepEqual(await client.call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
})

test('a stream that is not read while a call waits has a limit, and the connection lives', async (t) => {
  let go: (() => void) | undefined
  const { client: open } = await rig(t, {
    DOMAIN_OPEN_CONSOLE: writer(200 * MIB),
    CONNECT_GET_HOSTNAME: async () => {
      await new Promise<void>((resolve) => (go = resolve))
      return { hostname: 'h' }
    },
  })
  const client = await open()
  const stream = await openConsole(client)
  let failure: Error | undefined
  stream.on('error', (error) => (failure = error))
  const waiting = client.call('CONNECT_GET_HOSTNAME', undefined)
  await until(() => failure !== undefined)
  t.regex(failure!.message, /unread bytes while a call waits/)
  t.deepEqual(await client.call('CONNECT_GET_TYPE', undefined), { type: 'QEMU' })
  go!()
  t.deepEqual(await waiting, { hostname: 'h' })
})

test('who holds up its peer does not take it for dead', async (t) => {
  const { connections, port } = await rig(t, { DOMAIN_OPEN_CONSOLE: writer(24 * MIB) })
  const keepAlive = { keepAliveMs: 20, keepAliveCount: 2 }
  const client = await Client.open({ port, host: '127.0.0.1' }, keepAlive)
  t.teardown(() => client.destroy())
  const stream = await openConsole(client)
  await until(() => stream.readableLength >= MIB)
  await sleep(300)
  t.false(connections[0]!.isClosed)
  let length = 0
  for await (const chunk of stream) length += (chunk as Buffer).length
  t.is(length, 24 * MIB)
})
