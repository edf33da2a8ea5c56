// A card at an interface of the host, in a network namespace that the test makes: root alone can.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'

/** A namespace of networks and of processes: whatever is started there ends with the first of them. */
const namespace = ['-n', '-p', '-f', '--kill-child']
const possible =
  spawnSync('unshare', [...namespace, 'sh', '-c', 'ip tuntap add dev t mode tap']).status === 0
const wanted = possible ? test.serial : test.serial.skip
if (!possible) test('tap: left out, as namespaces and interfaces take root', (t) => t.pass())

/** Serves a file, and tells the sum of what it is sent. */
const server = `
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
const body = readFileSync(process.argv[2])
createServer((request, response) => {
  const hash = createHash('md5')
  request.on('data', (data) => hash.update(data))
  request.on('end', () => response.end(request.method === 'GET' ? body : hash.digest('hex') + '\\n'))
}).listen(80, '10.8.0.1')
`

/** A machine in a namespace of its own, with an interface that has an address there. */
function inNamespace(folder: string, args: readonly string[]): string[] {
  // The interface goes when a file comes.
  const gone = `until test -e ${join(folder, 'gone')}; do sleep 0.1; done; ip link del tap7`
  const script = [
    'ip link set lo up',
    'ip tuntap add dev tap7 mode tap',
    'ip addr add 10.8.0.1/24 dev tap7',
    'ip link set tap7 up',
    `node ${join(folder, 'server.mjs')} ${join(folder, 'body')} &`,
    `(${gone}) &`,
    `exec ${[command, ...args].map((word) => `'${word}'`).join(' ')}`,
  ]
  return [...namespace, 'sh', '-c', script.join('\n')]
}

for (const [model, kernel, initrd] of [
  ['virtio', guestFiles.kernel, guestFiles.diskInitrd],
  ['e1000', guestFiles.cardsKernel, guestFiles.cardsInitrd],
] as const) {
  wanted(`${model} at a tap interface: both directions, whole`, async (t) => {
    await withFolder(async (folder) => {
      const body = Buffer.alloc(8 << 20, 'over the tap ')
      const sum = createHash('md5').update(body).digest('hex')
      writeFileSync(join(folder, 'body'), body)
      writeFileSync(join(folder, 'server.mjs'), server)
      const boot = bootArguments({ memoryMib: 256, kernel, initrd })
      const nic = `tap,ifname=tap7,script=no,downscript=no,model=${model}`
      await withGuest(
        inNamespace(folder, [...boot, '-nic', nic]),
        async (guest) => {
          await guest.shell('ip addr add 10.8.0.2/24 dev eth0; ip link set eth0 up')
          // An Intel card talks to its cable first.
          await guest.shell(
            'until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done',
          )
          t.regex(await guest.shell('ping -c 3 10.8.0.1'), / 0% packet loss/)
          const got = await guest.shell('wget -q -O /tmp/body http://10.8.0.1/; md5sum </tmp/body')
          t.is(got.split(' ')[0], sum)
          const length = `Content-Length: ${body.length}`
          await guest.shell(`printf 'POST / HTTP/1.0\\r\\n${length}\\r\\n\\r\\n' >/tmp/post`)
          const answer = await guest.shell('cat /tmp/post /tmp/body | nc 10.8.0.1 80')
          t.regex(answer, new RegExp(sum))
          t.regex(answer, /200 OK/)
        },
        'unshare',
      )
    })
  })
}

wanted(
  'an interface that goes in mid-stream is a cable to nowhere, and the guest goes on',
  async (t) => {
    await withFolder(async (folder) => {
      writeFileSync(join(folder, 'body'), '')
      writeFileSync(join(folder, 'server.mjs'), server)
      const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
      const nic = ['-nic', 'tap,ifname=tap7,script=no,downscript=no,model=virtio']
      const second = ['-nic', 'user,model=virtio']
      await withGuest(
        inNamespace(folder, [...boot, ...nic, ...second]),
        async (guest) => {
          await guest.shell('ip addr add 10.8.0.2/24 dev eth0; ip link set eth0 up')
          await guest.shell('ip addr add 10.0.2.15/24 dev eth1; ip link set eth1 up')
          t.regex(await guest.shell('ping -c 3 10.8.0.1'), / 0% packet loss/)
          // Both directions are busy, with full queues, when it goes.
          const upload = "(printf 'POST / HTTP/1.0\\r\\n\\r\\n'; cat /dev/zero) | nc 10.8.0.1 80"
          await guest.shell(`(${upload} >/dev/null 2>&1; echo over >/tmp/over) &`)
          await guest.shell('ping -A 10.8.0.1 >/tmp/ping 2>&1 & sleep 1')
          writeFileSync(join(folder, 'gone'), '')
          while (!/netdev \S+: the interface is gone/.test(guest.stderr)) {
            await new Promise((resolve) => setTimeout(resolve, 100))
          }
          t.regex(await guest.shell('ping -c 2 -w 3 10.8.0.1; true'), / 100% packet loss/)
          t.is(await guest.shell('cat /sys/class/net/eth0/carrier'), '1\n')
          const sent = async (): Promise<number> =>
            Number(await guest.shell('cat /sys/class/net/eth0/statistics/tx_packets'))
          const before = await sent()
          // Its queue still moves: what is sent is lost, and does not wait. Neighbours are asked for first.
          await guest.shell('arping -c 3 -w 4 -I eth0 10.8.0.1 >/dev/null 2>&1; true')
          t.true((await sent()) >= before + 3)
          t.regex(await guest.shell('ping -c 3 10.0.2.2'), / 0% packet loss/)
          t.notRegex(await guest.shell('dmesg'), /WATCHDOG|BUG|Oops/)
        },
        'unshare',
      )
    })
  },
)

test('without the right to it, an interface is refused with what is missing', (t) => {
  const args = [...bootArguments(), '-netdev', 'tap,id=n,ifname=tap7,script=no']
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups']
  const [program, ...words] =
    process.getuid?.() === 0 ? ['setpriv', ...user, command, ...args] : [command, ...args]
  const { stderr, status } = spawnSync(program!, words, { encoding: 'utf8', timeout: 60_000 })
  t.is(status, 1)
  t.regex(stderr, /could not configure the tap interface 'tap7': (EPERM|EACCES): /)
})
