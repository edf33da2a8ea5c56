// What monitors do with networks, in both languages.
import test from 'ava'
import { runMonitorLine } from '../src/monitor/commands.ts'
import { networkLines } from '../src/monitor/network.ts'
import type { NetworkInfo } from '../src/net/config.ts'
import { FakeMachine, noCharacters } from './fixtures/fake-machine.ts'
import { create } from './support/qmp-session.ts'

test('the human monitor adds and removes networks, and pulls cables out', async (t) => {
  const machine = new FakeMachine()
  const context = { machine, name: undefined, uuid: undefined, characters: noCharacters() }
  const run = (line: string): Promise<string> =>
    runMonitorLine({ ...context, quit() {}, history: () => [] }, line)
  t.is(await run('netdev_add hubport,id=h,hubid=3'), '')
  t.is(await run('set_link n0 off'), '')
  t.is(await run('set_link n0 on'), '')
  t.is(await run('netdev_del h'), '')
  t.is(await run('announce_self n0,n1 again'), '')
  t.deepEqual(machine.calls, [
    'network {"add":{"type":"hubport","id":"h","hub":3}}',
    'network {"link":"n0","up":false}',
    'network {"link":"n0","up":true}',
    'network {"remove":"h"}',
    'network {"announce":{"initial":50,"max":550,"rounds":5,"step":100,"cards":["n0","n1"],"id":"again"}}',
  ])
  t.is(await run('hostfwd_add tcp::2222-:22'), '')
  t.is(
    await run('hostfwd_remove u udp:127.0.0.1:53'),
    'host forwarding rule for udp:127.0.0.1:53 removed\n',
  )
  t.deepEqual(machine.calls.splice(5), [
    'network {"forward":{"add":{"protocol":"tcp","host":{"address":"","port":2222},"guest":{"address":"","port":22}}}}',
    'network {"forward":{"remove":{"protocol":"udp","host":{"address":"127.0.0.1","port":53}}},"netdev":"u"}',
  ])
  t.regex(await run('hostfwd_add'), /string expected/)
  t.regex(await run('hostfwd_add bad'), /Invalid host forwarding rule 'bad'/)
  t.regex(await run('hostfwd_remove bad'), /Invalid host forwarding 'bad'/)
  t.regex(await run('netdev_add hubport,id=h'), /'hubid' is missing/)
  t.regex(await run('netdev_add foo,id=h'), /does not accept value 'foo'/)
  t.regex(await run('netdev_add'), /string expected/)
  t.regex(await run('netdev_del'), /string expected/)
  t.regex(await run('set_link n0'), /Expected 'on' or 'off'/)
  t.is(machine.calls.length, 5)
})

test('info network: hubs with their ports, then cards with their networks', (t) => {
  const card = (name: string) => ({ name, model: 'e1000', mac: '52:54:00:12:34:56' })
  const networks: NetworkInfo[] = [
    { id: 'p0', type: 'hubport', detail: 'hub=0', hub: 0, card: card('c0') },
    { id: 'u', type: 'user', detail: 'net=10.0.2.0,restrict=off' },
    { id: 'p1', type: 'hubport', detail: 'hub=0', hub: 0, netdev: 'u' },
    { id: 'p2', type: 'hubport', detail: 'hub=0', hub: 0 },
    { id: 's', type: 'socket', detail: 'connected to h:1', card: card('c1') },
  ]
  t.deepEqual(networkLines(networks), [
    'hub 0',
    ' \\ p0: c0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56',
    ' \\ p1: u: index=0,type=user,net=10.0.2.0,restrict=off',
    ' \\ p2',
    'c1: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56',
    ' \\ s: index=0,type=socket,connected to h:1',
  ])
})

test('QMP: networks by their members, links and filters', async (t) => {
  const { machine, say } = await create()
  await say('{"execute":"qmp_capabilities"}')
  const ask = async (execute: string, args?: object): Promise<unknown> => {
    const [answer] = await say(JSON.stringify({ execute, ...(args && { arguments: args }) }))
    const { return: result, error } = answer as { return?: unknown; error?: { desc: string } }
    return error?.desc ?? result
  }
  const before = machine.calls.length
  const inet = { type: 'inet', host: '127.0.0.1', port: '9' }
  t.deepEqual(await ask('netdev_add', { type: 'stream', id: 's', addr: inet, server: false }), {})
  const forwards = [{ str: 'tcp:127.0.0.1:2222-:22' }, { str: 'udp::53-:53' }]
  t.deepEqual(
    await ask('netdev_add', { type: 'user', id: 'u', hostfwd: forwards, ipv6: false }),
    {},
  )
  t.deepEqual(await ask('set_link', { name: 's', up: false }), {})
  t.deepEqual(await ask('netdev_del', { id: 's' }), {})
  const rounds = { initial: 1, max: 2, rounds: 3, step: 4 }
  t.deepEqual(await ask('announce-self', rounds), {})
  t.deepEqual(await ask('announce-self', { ...rounds, interfaces: ['n'], id: 'i' }), {})
  t.regex(String(await ask('announce-self', { initial: 1 })), /'max' is missing/)
  const calls = machine.calls.slice(before)
  t.is(
    calls[0],
    'network {"add":{"type":"stream","id":"s","stream":{"server":false,"address":{"host":"127.0.0.1","port":9}}}}',
  )
  t.regex(calls[1]!, /"hostForwards":\[\{"protocol":"tcp".*"protocol":"udp"/)
  t.notRegex(calls[1]!, /"ipv6"/)
  t.deepEqual(calls.slice(2), [
    'network {"link":"s","up":false}',
    'network {"remove":"s"}',
    'network {"announce":{"initial":1,"max":2,"rounds":3,"step":4}}',
    'network {"announce":{"initial":1,"max":2,"rounds":3,"step":4,"cards":["n"],"id":"i"}}',
  ])
  t.deepEqual(await ask('query-rx-filter', { name: 'n7' }), [
    {
      name: 'n7',
      promiscuous: false,
      multicast: 'all',
      unicast: 'normal',
      vlan: 'normal',
      'broadcast-allowed': true,
      'multicast-overflow': true,
      'unicast-overflow': false,
      'main-mac': '52:54:00:12:34:56',
      'vlan-table': [7],
      'unicast-table': [],
      'multicast-table': ['01:00:5e:00:00:01'],
    },
  ])
  t.regex(String(await ask('netdev_add', { type: 'stream', id: 's' })), /'addr' is missing/)
  t.regex(
    String(await ask('netdev_add', { type: 'vde', id: 's' })),
    /'type' does not accept value 'vde'/,
  )
  t.regex(String(await ask('netdev_add', { type: 'user', id: 'u', mtu: 1 })), /'mtu' is unexpected/)
  t.regex(String(await ask('set_link', { name: 's' })), /'up' is missing/)
})
