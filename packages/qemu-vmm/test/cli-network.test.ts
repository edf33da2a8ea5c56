// What -netdev and -nic make of their arguments, and how they refuse them.
import test from 'ava'
import { OPTIONS } from '../src/cli/registry.ts'
import { BRIDGE_KEYS } from '../src/net/bridge/options.ts'
import { TAP_KEYS } from '../src/net/tap/options.ts'
import { USER_KEYS } from '../src/net/user/options.ts'
import type { NetdevConfig } from '../src/net/config.ts'
import { HUB_KEYS } from '../src/net/hub-options.ts'
import { DGRAM_KEYS, SOCKET_KEYS, STREAM_KEYS } from '../src/net/socket/options.ts'
import { commandLine } from './support/command-line.ts'

const { config, refusal, printed } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')

function only(...argv: string[]): NetdevConfig {
  const [netdev] = config(...argv).netdevs ?? []
  if (netdev === undefined) throw new Error('no network')
  return netdev
}

test('nic: a network and a card that is connected to it', (t) => {
  const { netdevs, plug } = config(
    '-nic',
    'user,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::53-:53,mac=52:54:00:00:00:01',
    '-nic',
    'user,model=virtio,id=lan,addr=9,restrict=on',
  )
  t.deepEqual(
    netdevs?.map((netdev) => netdev.type === 'user' && [netdev.id, netdev.restrict]),
    [
      ['nic0', false],
      ['lan', true],
    ],
  )
  const [first] = netdevs ?? []
  t.is(first?.type === 'user' && first.hostForwards.length, 2)
  t.deepEqual(plug, [
    { driver: 'e1000', properties: { netdev: 'nic0', mac: '52:54:00:00:00:01' } },
    { driver: 'virtio-net-pci', properties: { netdev: 'lan', addr: '9' } },
  ])
  t.deepEqual(config('-nic', 'none').plug, [])
})

test('a machine that is told of no network has a card in user mode', (t) => {
  const { config: bare } = commandLine('-kernel', 'k', '-nographic')
  for (const [machine, driver] of [
    ['pc', 'e1000'],
    ['q35', 'e1000e'],
    ['pc-q35-7.2', 'e1000e'],
  ] as const) {
    const { netdevs, plug } = bare('-machine', machine)
    t.like(netdevs, [{ type: 'user', id: 'nic0', restrict: false, hostForwards: [] }])
    t.deepEqual(plug?.[1], { driver, properties: { netdev: 'nic0' } })
  }
  for (const chosen of [
    ['-nic', 'none'],
    ['-net', 'none'],
    ['-nodefaults'],
    ['-netdev', 'user,id=n'],
  ]) {
    t.false(
      bare(...chosen).plug?.some(({ driver }) => driver === 'e1000'),
      chosen.join(' '),
    )
  }
  // A device does not displace it, as in QEMU.
  const two = bare('-device', 'e1000,netdev=nic0').plug ?? []
  t.is(two.filter(({ driver }) => driver === 'e1000').length, 2)
  const { settings } = commandLine('-display', 'none')
  t.deepEqual(settings('-machine', 'none').netdevs, [])
})

test('net: cards and networks are at one hub, or at the network that is named', (t) => {
  const { netdevs, plug } = config(
    '-net',
    'nic,model=virtio,macaddr=52:54:00:00:00:01',
    '-net',
    'user,restrict=on',
    '-net',
    'socket,listen=127.0.0.1:0,id=other',
    '-netdev',
    'user,id=n',
    '-net',
    'nic,netdev=n',
  )
  t.like(netdevs, [
    { type: 'hubport', id: 'hub0port0', hub: 0 },
    { type: 'user', id: 'user.0', restrict: true },
    { type: 'hubport', id: 'hub0port1', hub: 0, netdev: 'user.0' },
    { type: 'socket', id: 'other' },
    { type: 'hubport', id: 'hub0port2', hub: 0, netdev: 'other' },
    { type: 'user', id: 'n' },
  ])
  t.deepEqual(plug, [
    {
      driver: 'virtio-net-pci',
      properties: { netdev: 'hub0port0', mac: '52:54:00:00:00:01' },
    },
    { driver: 'e1000', properties: { netdev: 'n' } },
  ])
})

test('netdev: JSON, as management programs give it', (t) => {
  const user = only(
    '-netdev',
    '{"type":"user","id":"n","hostfwd":[{"str":"tcp::22-:22"}],"restrict":true}',
  )
  t.like(user, { type: 'user', id: 'n', restrict: true })
  t.is(user.type === 'user' && user.hostForwards.length, 1)
  const address = { type: 'unix', path: '/tmp/a,b' }
  const stream = { type: 'stream', id: 's', addr: address, server: true }
  t.like(only('-netdev', JSON.stringify(stream)), {
    stream: { server: true, address: { path: '/tmp/a,b' } },
  })
  for (const [text, reason] of [
    ['{', /no JSON object/],
    ['{"type":"user"}', /'id' is missing/],
    ['{"type":"user","id":"n","hostfwd":["x"]}', /Invalid parameter type for 'hostfwd'/],
    ['{"type":"user","id":null}', /Invalid parameter type for 'id'/],
    ['{"type":"user","id":"n","a":{"b":{"c":1}}}', /Invalid parameter type for 'a.b'/],
    ['{"type":"user","id":"n","__proto__":1}', /__proto__/],
  ] as const) {
    t.regex(refusal('-netdev', text), reason)
  }
})

test('sockets: where they are, as QEMU 7.2 has it', (t) => {
  const address = { host: '127.0.0.1', port: 1234 }
  const inet = (key: string): string => `${key}.type=inet,${key}.host=127.0.0.1,${key}.port=1234`
  const all: readonly (readonly [string, object])[] = [
    ['socket,listen=127.0.0.1:1234', { stream: { server: true, address } }],
    ['socket,listen=:1234', { stream: { server: true, address: { host: '', port: 1234 } } }],
    ['socket,connect=[::1]:9', { stream: { server: false, address: { host: '::1', port: 9 } } }],
    [
      'socket,mcast=230.0.0.1:1234,localaddr=127.0.0.1',
      {
        dgram: {
          remote: { host: '230.0.0.1', port: 1234 },
          local: { host: '127.0.0.1', port: 0 },
          isGroup: true,
        },
      },
    ],
    [
      'socket,udp=127.0.0.1:1234,localaddr=:99',
      { dgram: { remote: address, local: { host: '', port: 99 }, isGroup: false } },
    ],
    [`stream,${inet('addr')}`, { stream: { server: false, address } }],
    [
      'stream,server=on,addr.type=unix,addr.path=/tmp/x',
      { stream: { server: true, address: { path: '/tmp/x' } } },
    ],
    ['tap,ifname=tap7,script=no,downscript=no', { type: 'tap', ifname: 'tap7' }],
    ['tap,fd=7', { type: 'tap', fd: 7 }],
    ['tap,script=/bin/up', { type: 'tap', script: '/bin/up', downscript: '/etc/qemu-ifdown' }],
    ['tap,downscript=', { type: 'tap', script: '/etc/qemu-ifup' }],
    ['bridge', { type: 'bridge', id: 's' }],
    ['bridge,br=br7,helper=/bin/h', { type: 'bridge', br: 'br7', helper: '/bin/h' }],
    [`dgram,${inet('local')}`, { dgram: { local: address, isGroup: false } }],
  ]
  for (const [text, expected] of all) t.like(only('-netdev', `${text},id=s`), expected)
  const refused: readonly (readonly [string, RegExp])[] = [
    ['socket', /exactly one of listen=, connect=, mcast=, udp= or fd= is required/],
    ['socket,listen=:1,connect=h:2', /exactly one of/],
    ['socket,connect=h', /'connect' is 'h': an address and a port/],
    ['socket,connect=h:0', /needs an address and a port/],
    ['socket,listen=:65536', /the port '65536': it is a number up to 65535/],
    ['socket,mcast=10.0.0.1:1', /does not contain a multicast address/],
    ['socket,udp=h:1', /localaddr= is mandatory with udp=/],
    ['socket,listen=:1,localaddr=:2', /localaddr= is only valid with mcast= or udp=/],
    ['stream', /'addr.type' is missing/],
    ['stream,addr.type=vsock', /does not accept value 'vsock': use inet, unix or fd/],
    ['stream,addr.type=fd', /'addr.str' is '': the number of a descriptor/],
    ['stream,addr.type=fd,addr.str=4,addr.path=x', /'addr.path' has no meaning with addr.type fd/],
    ['stream,addr.type=unix,addr.path=x,addr.str=4', /'addr.str' has no meaning/],
    ['socket,fd=1', /'fd' is '1': the number of a descriptor/],
    ['socket,fd=5,connect=a:1', /exactly one of/],
    ['stream,addr.type=unix', /'addr.path' has 0 bytes/],
    ['stream,addr.type=unix,addr.path=x,addr.port=1', /'addr.port' has no meaning/],
    ['stream,addr.type=inet,addr.host=h', /needs an address and a port/],
    ['dgram', /dgram requires local= parameter/],
    ['dgram,local.type=unix,local.path=x', /no datagrams over UNIX sockets/],
    ['tap,fd=5,ifname=t', /ifname= is invalid with fd=/],
    ['tap,fd=5,script=no', /script= is invalid with fd=/],
    ['tap,fd=2', /'fd' is '2': the number of a descriptor/],
    ['tap,fd=name', /'fd' is 'name': the number of a descriptor/],
    ['tap,script=no,vhost=on', /'vhost' is not supported/],
    ['tap,script=no,ifname=a/b', /'ifname' is 'a\/b': a name of an interface/],
    ['tap,script=no,queues=2', /'queues' is not supported/],
    ['tap,script=no,br=br0', /use the type 'bridge'/],
    ['bridge,br=a/b', /'br' is 'a\/b': a name of an interface/],
    ['bridge,br=abcdefghijklmnop', /has 1 to 15 bytes/],
    ['bridge,helper=qemu-bridge-helper', /'helper' is 'qemu-bridge-helper': the absolute path/],
    ['bridge,helper=/bin/x --br=b', /'helper' is '\/bin\/x --br=b': the absolute path/],
    ['bridge,ifname=x', /Invalid parameter 'ifname' of a bridge network: it has br, helper/],
    ['hubport', /'hubid' is missing/],
    ['hubport,hubid=-1', /'hubid' is '-1': it is a number up to/],
  ]
  for (const [text, reason] of refused) t.regex(refusal('-netdev', `${text},id=s`), reason)
})

test('netdev: its options are those of its type', (t) => {
  const net = only('-netdev', 'user,id=n,net=192.168.7.0/24,hostname=guest,dnssearch=a,dnssearch=b')
  t.like(net, { type: 'user', id: 'n', hostname: 'guest', dnssearch: ['a', 'b'] })
  t.like(net.type === 'user' && net.ipv4, {
    host: '192.168.7.2',
    dns: '192.168.7.3',
    dhcpStart: '192.168.7.15',
  })
})

test('what cannot be is refused with the reason', (t) => {
  t.is(refusal('-netdev', 'user'), "-netdev user: Parameter 'id' is missing")
  t.regex(refusal('-netdev', 'id=n'), /Parameter 'type' is missing/)
  t.regex(refusal('-netdev', 'vde,id=n'), /Parameter 'type' does not accept value 'vde'/)
  t.regex(refusal('-netdev', 'user,id=n,mtu=9'), /Invalid parameter 'mtu'/)
  t.regex(refusal('-netdev', 'user,id=n', '-netdev', 'user,id=n'), /Duplicate ID 'n' for netdev/)
  t.regex(refusal('-netdev', 'user,id=n,smb=/x'), /'smb' is not supported: there is no SMB server/)
  t.regex(
    refusal('-nic', 'user,model=e100'),
    /Unsupported NIC model: e100 \(did you mean 'e1000'\?\)/,
  )
  t.regex(refusal('-nic', 'none,mac=1'), /'mac' has no meaning with type 'none'/)
  t.regex(refusal('-net', 'tap,fd=1'), /'fd' is '1': the number of a descriptor/)
  t.regex(refusal('-net', 'nic,vectors=3'), /Invalid parameter 'vectors'/)
  t.regex(refusal('-net', 'none,id=x'), /'id' has no meaning with type 'none'/)
})

test('the help has all keys that networks take, and no others', (t) => {
  const documented = (OPTIONS.get('netdev')?.keys ?? []).map(({ name }) => name)
  t.deepEqual(
    documented.filter((key) => key !== 'type' && key !== 'id').toSorted(),
    [
      ...new Set([
        ...USER_KEYS,
        ...HUB_KEYS,
        ...SOCKET_KEYS,
        ...STREAM_KEYS,
        ...DGRAM_KEYS,
        ...TAP_KEYS,
        ...BRIDGE_KEYS,
      ]),
    ].toSorted(),
  )
})

test('lists', (t) => {
  t.is(
    printed('-netdev', 'help'),
    'Available netdev backend types:\nsocket\nstream\ndgram\nhubport\ntap\nuser\nbridge',
  )
  const models = 'Supported NIC models:\ne1000\ne1000e\nrtl8139\nvirtio-net-pci'
  t.is(printed('-nic', 'model=help'), models)
  t.is(printed('-net', 'nic,model=help'), models)
  t.regex(printed('-device', 'e1000,help'), /^ {2}netdev=<str>/m)
  t.regex(printed('-device', 'virtio-net-pci,help'), /^ {2}mac=<str>/m)
})
