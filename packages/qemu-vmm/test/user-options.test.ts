import test from 'ava'

import { parseUserOptions } from '../src/net/user/options.ts'
import type { UserNetConfig } from '../src/net/user/config.ts'

/** `key=value,key=value`, as a command line has it. */
function parse(text: string): UserNetConfig {
  const items = text === '' ? [] : text.split(',')
  const options = items.map((item) => {
    const at = item.indexOf('=')
    return { key: item.slice(0, at), value: item.slice(at + 1) }
  })
  return parseUserOptions('n', options)
}

test('the network is that of QEMU when nothing is said', (t) => {
  t.deepEqual(parse(''), {
    type: 'user',
    id: 'n',
    ipv4: {
      net: '10.0.2.0',
      prefix: 24,
      host: '10.0.2.2',
      dns: '10.0.2.3',
      dhcpStart: '10.0.2.15',
    },
    ipv6: {
      net: 'fec0:0:0:0:0:0:0:0',
      prefix: 64,
      host: 'fec0:0:0:0:0:0:0:2',
      dns: 'fec0:0:0:0:0:0:0:3',
    },
    restrict: false,
    dnssearch: [],
    hostForwards: [],
    guestForwards: [],
  })
})

test('addresses follow the network', (t) => {
  const net = {
    net: '192.168.76.0',
    prefix: 24,
    host: '192.168.76.2',
    dns: '192.168.76.3',
    dhcpStart: '192.168.76.15',
  }
  for (const text of ['192.168.76.0/24', '192.168.76.9/255.255.255.0', '192.168.76.0']) {
    t.deepEqual(parse(`net=${text}`).ipv4, net, text)
  }
  t.like(parse('net=10.1.0.0/16,host=10.1.9.9,dns=10.1.9.8,dhcpstart=10.1.7.7').ipv4, {
    net: '10.1.0.0',
    host: '10.1.9.9',
    dns: '10.1.9.8',
    dhcpStart: '10.1.7.7',
  })
  t.like(parse('ipv6-net=2001:db8::/48').ipv6, {
    net: '2001:db8:0:0:0:0:0:0',
    prefix: 48,
    dns: '2001:db8:0:0:0:0:0:3',
  })
  t.like(parse('ipv6-prefix=2001:db8::,ipv6-prefixlen=80,ipv6-host=2001:db8::9').ipv6, {
    prefix: 80,
    host: '2001:db8:0:0:0:0:0:9',
  })
})

test('one family can be alone', (t) => {
  t.is(parse('ipv6=off').ipv6, undefined)
  t.is(parse('ipv4=off').ipv4, undefined)
  t.is(parse('ipv4=on').ipv6, undefined)
  t.is(parse('ipv6=on').ipv4, undefined)
  const both = parse('ipv4=on,ipv6=on')
  t.truthy(both.ipv4 && both.ipv6)
})

test('forwards are taken as QEMU writes them', (t) => {
  const { hostForwards, guestForwards } = parse(
    [
      'hostfwd=tcp:127.0.0.1:2222-:22',
      'hostfwd=udp::5353-10.0.2.20:53',
      'hostfwd=::80-:8080',
      'hostfwd=unix:/run/a-b-:22',
      'hostfwd=tcp:[::1]:22-[fec0::15]:22',
      'guestfwd=tcp:10.0.2.100:80-tcp:127.0.0.1:8000',
      'guestfwd=:10.0.2.101:80-unix:/run/x',
      'guestfwd=udp:10.0.2.100:69-udp:127.0.0.1:6969',
    ].join(','),
  )
  t.deepEqual(hostForwards, [
    {
      protocol: 'tcp',
      host: { address: '127.0.0.1', port: 2222 },
      guest: { address: '', port: 22 },
    },
    {
      protocol: 'udp',
      host: { address: '', port: 5353 },
      guest: { address: '10.0.2.20', port: 53 },
    },
    { protocol: 'tcp', host: { address: '', port: 80 }, guest: { address: '', port: 8080 } },
    { protocol: 'tcp', host: { path: '/run/a-b' }, guest: { address: '', port: 22 } },
    {
      protocol: 'tcp',
      host: { address: '::1', port: 22 },
      guest: { address: 'fec0::15', port: 22 },
    },
  ])
  t.deepEqual(guestForwards, [
    { address: '10.0.2.100', port: 80, to: { address: '127.0.0.1', port: 8000 } },
    { address: '10.0.2.101', port: 80, to: { path: '/run/x' } },
    {
      protocol: 'udp',
      address: '10.0.2.100',
      port: 69,
      to: { address: '127.0.0.1', port: 6969 },
    },
  ])
})

for (const [text, message] of [
  ['smb=/srv', /not supported.*SMB/],
  ['hostfw=tcp::1-:1', /Invalid parameter 'hostfw'/],
  ['restrict=maybe', /'restrict' expects 'on' or 'off', not 'maybe'/],
  ['ipv4=off,ipv6=off', /cannot both be off/],
  ['ipv4=off,net=10.0.0.0/8', /'net' needs IPv4, which is off/],
  ['ipv6=off,ipv6-net=fec0::/64', /'ipv6-net' needs IPv6, which is off/],
  ['net=10.0.2.0/31', /it can be 4 to 30/],
  ['net=10.0.2.0/255.0.255.0', /no mask/],
  ['net=fec0::', /expects an IPv4 network/],
  ['host=10.0.3.2', /'host' is 10.0.3.2: choose an address of 10.0.2.0\/24/],
  ['host=10.0.2.255', /choose an address/],
  ['dns=10.0.2.2', /both 10.0.2.2/],
  ['dhcpstart=x', /expects an IPv4 address/],
  ['ipv6-net=fec0::/127', /it can be 8 to 126/],
  ['ipv6-dns=fec0::2', /must differ/],
  ['hostname=', /it can have 1 to 255/],
  [`bootfile=${'x'.repeat(128)}`, /it can have 1 to 127/],
  ['hostfwd=tcp:127.0.0.1:2222', /a '-' is between/],
  ['hostfwd=sctp::1-:1', /begins with 'tcp:'/],
  ['hostfwd=tcp::70000-:1', /more than 65535/],
  ['hostfwd=tcp:1.2.3:1-:1', /no address/],
  ['hostfwd=tcp::1-:0', /1 to 65535/],
  ['hostfwd=unix:-:22', /path is missing/],
  ['ipv4=off,hostfwd=tcp::1-:1', /family that is off/],
  ['guestfwd=tcp:10.0.2.100:80-pty', /other chardevs are not supported/],
  ['guestfwd=tcp:10.0.2.100:80-cmd:', /the command is missing/],
  [`guestfwd=tcp:10.0.2.100:80-cmd:cat 'x`, /a quote in it does not end/],
  ['guestfwd=udp:10.0.2.100:80-cmd:cat', /'udp:' is on both sides, or on none/],
  ['guestfwd=udp:10.0.2.100:80-tcp:127.0.0.1:1', /'udp:' is on both sides, or on none/],
  ['guestfwd=udp:10.0.2.100:80-unix:/run/x', /'udp:' is on both sides, or on none/],
  ['guestfwd=tcp:10.0.9.100:80-tcp:127.0.0.1:1', /choose a free address/],
  ['guestfwd=tcp:10.0.2.2:80-tcp:127.0.0.1:1', /choose a free address/],
] as const) {
  test(`refused: ${text.slice(0, 60)}`, (t) => {
    const error = t.throws(() => parse(text))
    t.like(error, { code: 'E_NETDEV' })
    t.regex(error?.message ?? '', message)
  })
}
