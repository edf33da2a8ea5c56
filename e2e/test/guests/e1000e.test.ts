// Debian's driver of the e1000e: its own tests of the card, vectors, tags, floods, and the module taken out and put back.
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { withFolder } from '../../src/disk.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

const online = 'until ip -4 address | grep -q 10.0.2.15; do sleep 0.2; done'

/**
 * What `ethtool --test IF offline` does, in the Perl that every Debian has: SIOCETHTOOL with ETHTOOL_TEST. Prints flags and
 * the results of registers, EEPROM, interrupts, loopback and link, 0 for each that was passed.
 */
const selfTest = [
  'use Socket',
  'socket(my $s, AF_INET, SOCK_DGRAM, 0) or die',
  'my $t = pack("L4 Q5", 0x1a, 1, 0, 5, (99) x 5)',
  'my $r = pack("a16 P", $ARGV[0], $t) . "\\0" x 16',
  'ioctl($s, 0x8946, $r) or die "failed: $!"',
  'print join(" ", (unpack("L4 Q5", $t))[1, 4 .. 8]), "\\n"',
]

wanted("Linux's driver finds the card whole, and works with its vectors", async (t) => {
  t.timeout(1_800_000)
  await withFolder(async (folder) => {
    const network = ['-nic', 'user,model=e1000e']
    const machine = ['-machine', 'q35', '-smp', '2', ...network]
    const code = await withDebian(
      debianArguments(debianOverlay(folder), ...machine),
      async (shell) => {
        await shell(online)
        t.regex(await shell('grep -c enp0s2- /proc/interrupts'), /^2$/m)
        for (const line of selfTest) await shell(`echo '${line};' >>test.pl`)
        t.is(await shell('perl test.pl enp0s2'), '1 0 0 0 0 0\n')
        await shell(online)
        t.regex(await shell('ping -f -q -c 5000 10.0.2.2'), / 5000 received, 0% packet loss/)
        // A tag that only this end of the cable has: nobody answers, and nothing breaks.
        await shell('ip link add link enp0s2 name tagged type vlan id 7')
        await shell('ip addr add 10.7.0.1/24 dev tagged; ip link set tagged up')
        t.regex(await shell('ping -c 1 -W 1 10.7.0.2'), /100% packet loss/)
        await shell('ip link del tagged')
        await shell('for i in $(seq 20); do modprobe -r e1000e; modprobe e1000e; done')
        await shell(online)
        t.regex(await shell('ping -f -q -c 100 10.0.2.2'), / 100 received, 0% packet loss/)
        t.deepEqual(kernelErrors(await shell(errorMessages)), [])
        t.notRegex(await shell('dmesg'), /Tx Unit Hang|NETDEV WATCHDOG|Reset adapter/)
      },
    )
    t.is(code, 0)
  })
})
