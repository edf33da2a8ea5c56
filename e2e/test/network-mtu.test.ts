// The lengths of packets that a guest may set, from the shortest to the longest that IPv4 knows, and those that `host_mtu` gives it.
import { spawnSync } from 'node:child_process'
import test from 'ava'
import { type GuestProcess, bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'

function machine(card: string): string[] {
  const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
  return [...boot, '-netdev', 'user,id=n', '-device', `virtio-net-pci,netdev=n${card}`]
}

async function up(guest: GuestProcess): Promise<void> {
  await guest.shell('ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up')
}

const setMtu = (mtu: number): string => `ip link set eth0 mtu ${mtu} 2>&1 && echo set`
const ping = (bytes: number): string => `ping -c 3 -s ${bytes} 10.0.2.2`

test.serial('a guest sets packets of 68 to 65535 bytes, and they come and go', async (t) => {
  await withGuest(machine(''), async (guest) => {
    await up(guest)
    t.regex(await guest.shell('ip link show eth0'), /mtu 1500 /)
    for (const mtu of [68, 65_535]) {
      t.is(await guest.shell(setMtu(mtu)), 'set\n')
      t.regex(await guest.shell('ip link show eth0'), new RegExp(`mtu ${mtu} `))
      // In one packet, and in several.
      for (const bytes of [40, mtu === 68 ? 1000 : 65_000]) {
        t.regex(await guest.shell(ping(bytes)), /3 packets received, 0% packet loss/, `${bytes}`)
      }
    }
    for (const mtu of [67, 65_536]) {
      t.notRegex(await guest.shell(`${setMtu(mtu)}; true`), /^set$/m, `${mtu}`)
    }
  })
})

for (const mtu of [68, 9000, 65_535]) {
  test.serial(`host_mtu=${mtu} is what the guest begins with, and its most`, async (t) => {
    await withGuest(machine(`,host_mtu=${mtu}`), async (guest) => {
      await up(guest)
      t.regex(await guest.shell('ip link show eth0'), new RegExp(`mtu ${mtu} `))
      t.notRegex(await guest.shell(`${setMtu(mtu + 1)}; true`), /^set$/m)
      t.regex(await guest.shell(ping(mtu - 28)), /3 packets received, 0% packet loss/)
    })
  })
}

test('other lengths are refused with what there is', (t) => {
  for (const mtu of [67, 65_536, -1]) {
    const { status, stderr } = spawnSync(command, machine(`,host_mtu=${mtu}`), {
      encoding: 'utf8',
      timeout: 60_000,
    })
    t.is(status, 1)
    t.regex(stderr, new RegExp(`host_mtu' .*${mtu}`))
  }
})
