// What happens to storage pools is told, as libvirtd tells it.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Client } from '../src/rpc/index.ts'
import type { VirtError } from '../src/rpc/index.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { bothSides } from './support/both-sides.ts'
import type { Side } from './support/both-sides.ts'
import { folder, startDaemon, until } from './support/daemon.ts'
import { missing } from './support/libvirtd.ts'

const LIFECYCLE = 0
const REFRESH = 1

/** Everything that can happen to a pool, and what is told of it. */
async function live(t: ExecutionContext, { at, socket }: Pick<Side, 'at' | 'socket'>) {
  const client = await Client.open({ path: socket }, { uri: 'qemu:///session' })
  t.teardown(() => client.destroy())
  const told: string[] = []
  client.on('STORAGE_POOL_EVENT_LIFECYCLE', ({ callbackId, pool, event, detail }) =>
    told.push(`${callbackId} ${pool.name} ${event} ${detail}`),
  )
  client.on('STORAGE_POOL_EVENT_REFRESH', ({ callbackId, pool }) =>
    told.push(`${callbackId} ${pool.name} refresh`),
  )
  const register = (event: number, pool?: { name: string; uuid: string }) =>
    client.call('CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY', { event, pool })
  for (const event of [LIFECYCLE, REFRESH]) await register(event)
  const xml = (name: string): string =>
    `<pool type='dir'><name>${name}</name><target><path>${join(at, 'pool', name)}</path></target></pool>`
  const { pool } = await client.call('STORAGE_POOL_DEFINE_XML', { xml: xml('p'), flags: 0 })
  await register(LIFECYCLE, pool)
  await client.call('STORAGE_POOL_BUILD', { pool, flags: 0 })
  await client.call('STORAGE_POOL_CREATE', { pool, flags: 0 })
  await client.call('STORAGE_POOL_REFRESH', { pool, flags: 0 })
  await client.call('STORAGE_POOL_DESTROY', { pool })
  await client.call('STORAGE_POOL_DELETE', { pool, flags: 0 })
  await client.call('STORAGE_POOL_UNDEFINE', { pool })
  const refused: [number, string][] = []
  const refusal = async (work: Promise<unknown>): Promise<void> => {
    const { code, message } = (await t.throwsAsync(work)) as VirtError
    refused.push([code, message])
  }
  await refusal(register(2))
  await client.call('CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY', { callbackId: 2 })
  await refusal(client.call('CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY', { callbackId: 2 }))
  const { pool: brief } = await client.call('STORAGE_POOL_CREATE_XML', { xml: xml('q'), flags: 1 })
  await client.call('STORAGE_POOL_DESTROY', { pool: brief })
  await until(() => told.some((text) => text.includes('q 3 0')))
  return { told, refused }
}

test('who waits for what happens to pools is told, and others are not', async (t) => {
  const at = folder(t)
  mkdirSync(join(at, 'pool'))
  const { socket } = await startDaemon(t, at)
  const { told } = await live(t, { at, socket })
  const first = ['0 p 0 0', '0 p 4 0', '2 p 4 0', '0 p 2 0', '2 p 2 0', '1 p refresh', '0 p 3 0']
  const rest = ['2 p 3 0', '0 p 5 0', '2 p 5 0', '0 p 1 0', '2 p 1 0', '0 q 2 0']
  t.deepEqual(told, [...first, ...rest, '0 q 3 0'])
})

test('libvirtd tells the same', async (t) => {
  const none = missing()
  if (none !== undefined) return without(t, none)
  const [ours, theirs] = await Promise.all((await bothSides(t)).map((side) => live(t, side)))
  t.deepEqual(ours, theirs)
})

test('kinds of events that do not happen can be waited for, and others are refused', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { socket, client: open } = await startDaemon(t)
  for (const sort of ['net', 'nodedev', 'secret', 'pool']) {
    const { code, output } = await virsh(
      socket,
      `${sort}-event`,
      '--event',
      'lifecycle',
      '--timeout',
      '1',
    )
    t.is(code, 1, output)
    t.regex(output, /^event loop timed out/)
  }
  const client = await open()
  for (const register of [
    client.call('CONNECT_NETWORK_EVENT_REGISTER_ANY', { event: 1, net: undefined }),
    client.call('CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY', { event: 2, device: undefined }),
    client.call('CONNECT_SECRET_EVENT_REGISTER_ANY', { event: -1, secret: undefined }),
    client.call('CONNECT_DOMAIN_EVENT_REGISTER_ANY', { event: 99 }),
  ]) {
    await t.throwsAsync(register, { message: /unsupported .*event ID/ })
  }
})
