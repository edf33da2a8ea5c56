import { createServer, connect } from 'node:net'
import type { AddressInfo } from 'node:net'

import test from 'ava'

import { SeededEntropy } from '../src/machine/entropy.ts'
import { Netdevs } from '../src/net/netdevs.ts'
import { parseForwardPlace, parseHostForward } from '../src/net/user/forwards.ts'
import { parseUserOptions } from '../src/net/user/options.ts'

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Whether somebody listens there. */
function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
  }).finally(() => socket.destroy()) as Promise<boolean>
}

for (const [what, ...options] of [
  ['a network that has not begun'],
  ['one that has ports already', { key: 'hostfwd', value: 'tcp:127.0.0.1:0-:22' }],
] as const) {
  test(`ports of the host lead to the guest, and no longer, while it runs: ${what}`, async (t) => {
    const netdevs = new Netdevs({ entropy: new SeededEntropy(1), log: () => {} })
    try {
      netdevs.add(parseUserOptions('u', [...options]))
      const port = await freePort()
      const add = parseHostForward(`tcp:127.0.0.1:${port}-:22`)
      const remove = parseForwardPlace(`tcp:127.0.0.1:${port}`)
      t.false(await answers(port))
      await netdevs.change({ forward: { add } })
      t.true(await answers(port))
      await t.throwsAsync(netdevs.change({ forward: { add } }), {
        code: 'E_NETDEV',
        message: /Could not set up host forwarding rule/,
      })
      await netdevs.change({ forward: { remove }, netdev: 'u' })
      t.false(await answers(port))
      await t.throwsAsync(netdevs.change({ forward: { remove } }), {
        code: 'E_NETDEV',
        message: `host forwarding rule for tcp:127.0.0.1:${port} not found`,
      })
    } finally {
      netdevs.close()
    }
  })
}

test('forwards are refused where no network in user mode can have them', async (t) => {
  const netdevs = new Netdevs({ entropy: new SeededEntropy(1), log: () => {} })
  try {
    const add = parseHostForward('tcp:127.0.0.1:9-[fec0::15]:22')
    await t.throwsAsync(netdevs.change({ forward: { add } }), {
      message: /no network in user mode/,
    })
    await t.throwsAsync(netdevs.change({ forward: { add }, netdev: 'x' }), {
      code: 'E_DEVICE_NOT_FOUND',
    })
    netdevs.add({ type: 'hubport', id: 'h', hub: 0 })
    await t.throwsAsync(netdevs.change({ forward: { add }, netdev: 'h' }), {
      message: /no network in user mode named 'h'/,
    })
    netdevs.add(parseUserOptions('u', [{ key: 'ipv6', value: 'off' }]))
    await t.throwsAsync(netdevs.change({ forward: { add } }), { message: /a family that is off/ })
  } finally {
    netdevs.close()
  }
})
