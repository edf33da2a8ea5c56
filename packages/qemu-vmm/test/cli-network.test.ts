// What -netdev and -nic make of their arguments, and how they refuse them.
import test from 'ava'
import { OPTIONS } from '../src/cli/registry.ts'
import { USER_KEYS } from '../src/net/user/options.ts'
import type { UserNetConfig } from '../src/net/user/config.ts'
import { commandLine } from './support/command-line.ts'

const { config, refusal, printed } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')

function only(...argv: string[]): UserNetConfig {
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
    netdevs?.map(({ id, restrict }) => ({ id, restrict })),
    [
      { id: 'nic0', restrict: false },
      { id: 'lan', restrict: true },
    ],
  )
  t.is(netdevs?.[0]?.hostForwards.length, 2)
  t.deepEqual(plug, [
    { driver: 'virtio-net-pci', properties: { netdev: 'nic0', mac: '52:54:00:00:00:01' } },
    { driver: 'virtio-net-pci', properties: { netdev: 'lan', addr: '9' } },
  ])
  t.deepEqual(config('-nic', 'none').plug, [])
})

test('netdev: its options are those of its type', (t) => {
  const net = only('-netdev', 'user,id=n,net=192.168.7.0/24,hostname=guest,dnssearch=a,dnssearch=b')
  t.like(net, { type: 'user', id: 'n', hostname: 'guest', dnssearch: ['a', 'b'] })
  t.like(net.ipv4, { host: '192.168.7.2', dns: '192.168.7.3', dhcpStart: '192.168.7.15' })
})

test('what cannot be is refused with the reason', (t) => {
  t.is(refusal('-netdev', 'user'), "-netdev user: Parameter 'id' is missing")
  t.regex(refusal('-netdev', 'id=n'), /Parameter 'type' is missing/)
  t.regex(refusal('-netdev', 'tap,id=n'), /Parameter 'type' does not accept value 'tap'/)
  t.regex(refusal('-netdev', 'user,id=n,mtu=9'), /Invalid parameter 'mtu'/)
  t.regex(refusal('-netdev', 'user,id=n', '-netdev', 'user,id=n'), /Duplicate ID 'n' for netdev/)
  t.regex(refusal('-netdev', 'user,id=n,smb=/x'), /'smb' is not supported: there is no SMB server/)
  t.regex(
    refusal('-nic', 'user,model=e100'),
    /Unsupported NIC model: e100 \(did you mean 'e1000'\?\)/,
  )
  t.regex(refusal('-nic', 'none,mac=1'), /'mac' has no meaning with type 'none'/)
  t.regex(refusal('-net', 'nic'), /not supported yet/)
})

test('the help has all keys that a user network takes, and no others', (t) => {
  const documented = (OPTIONS.get('netdev')?.keys ?? []).map(({ name }) => name)
  t.deepEqual(
    documented.filter((key) => key !== 'type' && key !== 'id').toSorted(),
    [...USER_KEYS].toSorted(),
  )
})

test('lists', (t) => {
  t.is(printed('-netdev', 'help'), 'Available netdev backend types:\nuser')
  t.is(printed('-nic', 'model=help'), 'Available NIC models:\nvirtio-net-pci\ne1000')
  t.regex(printed('-device', 'virtio-net-pci,help'), /^ {2}mac=<str>/m)
})
