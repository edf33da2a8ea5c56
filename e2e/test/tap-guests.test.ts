// Two guests at interfaces in a bridge, in a network namespace that the test makes: one's interface is open when its machine starts,
// the other's is set up by scripts.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { must, withFolder } from '../src/disk.ts'
import { bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'

const place = `tap-guests-${process.pid}`
const possible =
  spawnSync('ip', ['netns', 'add', place]).status === 0 && spawnSync('perl', ['-v']).status === 0
const wanted = possible ? test.serial : test.serial.skip
if (!possible) test('two guests in a bridge: left out, as namespaces take root', (t) => t.pass())
test.after.always(() => void spawnSync('ip', ['netns', 'del', place]))

/** Opens `tap7` with headers of virtio (TUNSETIFF), which stays open in the program that is run in its place. */
const opener = `
$^F = 20;
open(my $tun, '+<', '/dev/net/tun') or die "no tun: $!";
my $request = pack('a16 S x22', 'tap7', 0x5002);
ioctl($tun, 0x400454ca, $request) or die "no tap: $!";
system('ip link set tap7 master br7 up') == 0 or die;
$_ =~ s/FD/fileno($tun)/e for @ARGV;
exec @ARGV or die;
`
const inside = (...words: string[]): string[] => ['netns', 'exec', place, ...words]

wanted('two guests in a bridge: one by a descriptor, one by scripts', async (t) => {
  await withFolder(async (folder) => {
    const [log, up, down] = [join(folder, 'log'), join(folder, 'up'), join(folder, 'down')]
    writeFileSync(up, `#!/bin/sh\nip link set "$1" master br7 up && echo "up $1" >>${log}\n`)
    writeFileSync(down, `#!/bin/sh\necho "down $1" >>${log}\n`)
    must('chmod', ['+x', up, down])
    must('ip', inside('ip', 'link', 'add', 'br7', 'type', 'bridge'))
    must('ip', inside('ip', 'link', 'set', 'br7', 'up'))
    const boot = bootArguments({ memoryMib: 192, initrd: guestFiles.diskInitrd })
    const first = ['-nic', 'tap,fd=FD,model=virtio,mac=52:54:00:00:07:01']
    const scripts = `script=${up},downscript=${down}`
    const second = ['-nic', `tap,ifname=tap8,${scripts},model=virtio,mac=52:54:00:00:07:02`]
    const opened = inside('perl', '-e', opener, command, ...boot, ...first)
    await withGuest(
      opened,
      async (one) => {
        await one.shell('ip addr add 10.7.0.1/24 dev eth0; ip link set eth0 up')
        await withGuest(
          inside(command, ...boot, ...second),
          async (two) => {
            t.is(readFileSync(log, 'utf8'), 'up tap8\n')
            await two.shell('ip addr add 10.7.0.2/24 dev eth0; ip link set eth0 up')
            t.regex(await two.shell('ping -c 3 10.7.0.1'), / 0% packet loss/)
            const line = 'from one guest to the other\n'
            const sum = createHash('md5').update(line.repeat(200_000)).digest('hex')
            await one.shell(`mkdir /tmp/www; yes '${line.trim()}' | head -n 200000 >/tmp/www/file`)
            await one.shell('httpd -h /tmp/www')
            const got = await two.shell('wget -q -O - http://10.7.0.1/file | md5sum')
            t.is(got.split(' ')[0], sum)
            two.type('poweroff -f\n')
            await two.end()
          },
          'ip',
        )
        t.is(readFileSync(log, 'utf8'), 'up tap8\ndown tap8\n')
      },
      'ip',
    )
    // A script that fails ends the start, and is named.
    writeFileSync(up, '#!/bin/sh\nexit 3\n')
    const refused = [...boot, '-S', '-nic', `tap,ifname=tap9,script=${up},downscript=no`]
    const { status, stderr } = spawnSync('ip', inside(command, ...refused), { encoding: 'utf8' })
    t.is(status, 1)
    t.regex(stderr, new RegExp(`network script ${up} failed with status 3`))
    const nothing = [...boot, '-S', '-nic', 'tap,fd=17']
    const none = spawnSync('ip', inside(command, ...nothing), { encoding: 'utf8' })
    t.is(none.status, 1)
    t.regex(none.stderr, /tap interface at fd=17: E(BADF|PROTO)/)
  })
})
