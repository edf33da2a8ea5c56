// Networks between machines: two of ours, one of ours and Debian's QEMU.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { freePort } from '../src/free-port.ts'
import {
  GuestProcess,
  bootArguments,
  command,
  guestFiles,
  hasPeer,
  peer,
  prompt,
  withGuest,
} from '../src/guest.ts'

const boot = bootArguments({ memoryMib: 192, initrd: guestFiles.diskInitrd })

/** Two guests at their shells, each with an address of its own. */
async function twoGuests(
  programs: readonly [string, readonly string[]][],
  work: (first: GuestProcess, second: GuestProcess) => Promise<void>,
): Promise<void> {
  const guests: GuestProcess[] = []
  try {
    for (const [program, network] of programs) {
      const guest = new GuestProcess(program, [...boot, ...network])
      guests.push(guest)
      await guest.expect(prompt)
      await guest.shell(`ip addr add 10.9.0.${guests.length}/24 dev eth0; ip link set eth0 up`)
    }
    await work(guests[0]!, guests[1]!)
  } finally {
    for (const guest of guests) await guest.kill()
  }
}

const card = (mac: number): string[] => {
  return ['-device', `virtio-net-pci,netdev=n,mac=52:54:00:00:00:0${mac}`]
}

/** Both hear each other, and a megabyte arrives whole. */
async function talk(first: GuestProcess, second: GuestProcess): Promise<string> {
  const ping = await second.shell('ping -c 3 10.9.0.1')
  await first.shell('mkdir /tmp/www; seq 150000 >/tmp/www/numbers')
  await first.shell('httpd -p 80 -h /tmp/www')
  const sums = [
    await first.shell('md5sum </tmp/www/numbers'),
    await second.shell('wget -q -O - http://10.9.0.1/numbers | md5sum'),
  ]
  return `${/\d+% packet loss/.exec(ping)?.[0]}, ${sums[0] === sums[1] ? 'same' : 'other'}`
}

test.serial('two guests over a UNIX socket, and one alone when the other has died', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'e2e-'))
  const stream = `stream,id=n,addr.type=unix,addr.path=${join(folder, 'wire')}`
  try {
    const server = ['-netdev', `${stream},server=on`, ...card(1)]
    const client = ['-netdev', stream, ...card(2)]
    await twoGuests(
      [
        [command, server],
        [command, client],
      ],
      async (first, second) => {
        t.is(await talk(first, second), '0% packet loss, same')
        second.type(
          'wget -O /dev/null http://10.9.0.1/numbers; wget -O /dev/null http://10.9.0.1/numbers\n',
        )
        await second.kill()
        t.regex(await first.shell('ping -c 1 -W 1 10.9.0.2'), /100% packet loss/)
      },
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

const compare = hasPeer ? test.serial : test.serial.skip

compare("a guest of ours and one of Debian's QEMU over a TCP connection", async (t) => {
  const port = await freePort()
  const theirs = [
    '-nodefaults',
    '-serial',
    'stdio',
    '-netdev',
    `socket,id=n,listen=127.0.0.1:${port}`,
  ]
  const ours = ['-netdev', `socket,id=n,connect=127.0.0.1:${port}`, ...card(2)]
  await twoGuests(
    [
      [peer, [...theirs, ...card(1)]],
      [command, ours],
    ],
    async (first, second) => {
      t.is(await talk(first, second), '0% packet loss, same')
    },
  )
})

compare("a guest of ours and one of Debian's QEMU by datagrams", async (t) => {
  const ports = [await freePort(), await freePort()] as const
  const inet = (end: string, port: number): string =>
    `${end}.type=inet,${end}.host=127.0.0.1,${end}.port=${port}`
  const dgram = (own: number, other: number): string =>
    `dgram,id=n,${inet('local', own)},${inet('remote', other)}`
  const theirs = ['-nodefaults', '-serial', 'stdio', '-netdev', dgram(ports[0], ports[1])]
  await twoGuests(
    [
      [peer, [...theirs, ...card(1)]],
      [command, ['-netdev', dgram(ports[1], ports[0]), ...card(2)]],
    ],
    async (first, second) => {
      t.is(await talk(first, second), '0% packet loss, same')
    },
  )
})

/** Connects to a socket, which stays open in the program that is run in its place: FD stands for its number. */
const connector = `
use IO::Socket::UNIX;
$^F = 20;
my $socket = IO::Socket::UNIX->new(Peer => shift @ARGV) or die "no peer: $!";
s/FD/fileno($socket)/e for @ARGV;
exec @ARGV or die;
`
for (const network of ['stream,addr.type=fd,addr.str=FD', 'socket,fd=FD']) {
  test.serial(`a guest talks over a socket that was open before: ${network}`, async (t) => {
    if (spawnSync('perl', ['-v']).status !== 0) return void t.pass('perl is not installed')
    const folder = mkdtempSync(join(tmpdir(), 'fd-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'socket')
    const server = `stream,server=on,addr.type=unix,addr.path=${path},model=virtio`
    const args = [...boot, '-nic', `${network},model=virtio,mac=52:54:00:00:00:02`]
    await withGuest([...boot, '-nic', server], async (first) => {
      await first.shell('ip addr add 10.9.0.1/24 dev eth0; ip link set eth0 up')
      const opened = ['-e', connector, path, command, ...args]
      await withGuest(
        opened,
        async (second) => {
          await second.shell('ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up')
          t.regex(await second.shell('ping -c 3 10.9.0.1'), / 0% packet loss/)
        },
        'perl',
      )
    })
  })
}
