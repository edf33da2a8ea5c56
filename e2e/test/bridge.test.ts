// A card in a bridge of the host, in a network namespace that the test makes: root alone can.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { GuestProcess, bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'

/** Namespaces of networks, of mounts and of processes: whatever is started there ends with the first of them. */
const namespace = ['-n', '-m', '-p', '-f', '--kill-child']
const make = 'ip link add br7 type bridge && ip tuntap add dev tap7 mode tap'
const possible = spawnSync('unshare', [...namespace, 'sh', '-c', make]).status === 0
const wanted = possible ? test.serial : test.serial.skip
if (!possible) test('bridge: left out, as namespaces and interfaces take root', (t) => t.pass())
const helper = '/usr/lib/qemu/qemu-bridge-helper'
const withHelper = possible && existsSync(helper) ? test.serial : test.serial.skip

/** A bridge with an address, whatever `lines` do, and then a machine with a card there. */
function inNamespace(lines: readonly string[], args: readonly string[]): string[] {
  const script = [
    'ip link add br7 type bridge',
    'ip link set br7 mtu 1400',
    'ip addr add 10.8.0.1/24 dev br7',
    'ip link set br7 up',
    ...lines,
    `exec ${[command, ...args].map((word) => `'${word}'`).join(' ')}`,
  ]
  return [...namespace, 'sh', '-c', script.join('\n')]
}

/** Gives qemu-bridge-helper a file of rules, where the host may have none. */
function rules(folder: string, text: string): string[] {
  return [
    'mount --make-rprivate /',
    `cp -a /etc ${folder}/etc`,
    `mkdir -p ${folder}/etc/qemu`,
    `echo '${text}' >${folder}/etc/qemu/bridge.conf`,
    `mount --bind ${folder}/etc /etc`,
  ]
}

/** A machine that does not run, by what its monitor shows of its networks. */
function standing(nic: string): string[] {
  return ['-S', '-nodefaults', '-display', 'none', '-monitor', 'stdio', '-nic', nic]
}

wanted('a card in a bridge reaches the host', async (t) => {
  const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
  // What the host has is in the log, as its own namespace is gone afterwards.
  const look = '(sleep 5; ip -d -o link show master br7 >&2) &'
  const args = inNamespace([look], [...boot, '-nic', 'bridge,br=br7,model=virtio'])
  await withGuest(
    args,
    async (guest) => {
      await guest.shell('ip addr add 10.8.0.2/24 dev eth0; ip link set eth0 up')
      t.regex(await guest.shell('ping -c 3 10.8.0.1'), / 0% packet loss/)
      t.regex(await guest.shell('ping -c 2 -s 1300 10.8.0.1'), / 0% packet loss/)
      await guest.shell('sleep 5')
      t.regex(guest.stderr, /tap0: <[^>]*UP[^>]*> mtu 1400 .*link\/ether fe:/)
    },
    'unshare',
  )
})

withHelper("QEMU's program makes the interface, for who its rules allow", async (t) => {
  await withFolder(async (folder) => {
    const nic = `bridge,br=br7,helper=${helper},model=virtio`
    const args = inNamespace(rules(folder, 'allow br7'), standing(nic))
    const guest = new GuestProcess('unshare', args)
    try {
      await guest.expect(/\(qemu\) $/)
      guest.type('info network\n')
      const text = await guest.expect(/helper=[^\n]*\n/)
      t.regex(text, new RegExp(`type=tap,helper=${helper},br=br7`))
      guest.type('quit\n')
      t.is((await guest.end()).code, 0)
    } finally {
      await guest.kill()
    }
  })
})

withHelper('what the program refuses is refused with its reason', async (t) => {
  await withFolder(async (folder) => {
    const args = inNamespace(
      rules(folder, 'deny all'),
      standing(`bridge,br=br7,helper=${helper},model=virtio`),
    )
    const { stderr, status } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })
    t.is(status, 1)
    t.regex(stderr, /access denied by acl file/)
    t.regex(stderr, /bridge helper \S+ failed: EPROTO: .*\/etc\/qemu\/bridge\.conf/)
    const missing = standing(`bridge,helper=${join(folder, 'absent')}`)
    const other = spawnSync(command, missing, { encoding: 'utf8', timeout: 60_000 })
    t.regex(other.stderr, /failed: ENOENT: there is no such program/)
  })
})

wanted('a bridge that is not there, and one that is none, are refused', (t) => {
  for (const [lines, name, reason] of [
    [[], 'br9', /bridge 'br9': ENODEV: there is no such bridge; `ip link add NAME type bridge`/],
    [['ip tuntap add dev tap9 mode tap'], 'tap9', /bridge 'tap9': \w+: it is no bridge/],
  ] as const) {
    const args = inNamespace(lines, standing(`bridge,br=${name}`))
    const { stderr, status } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })
    t.is(status, 1)
    t.regex(stderr, reason)
  }
})

test('without the right to it, an interface in a bridge is refused with what is missing', (t) => {
  const args = standing('bridge,br=br7')
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups']
  const [program, ...words] =
    process.getuid?.() === 0 ? ['setpriv', ...user, command, ...args] : [command, ...args]
  const { stderr, status } = spawnSync(program!, words, { encoding: 'utf8', timeout: 60_000 })
  t.is(status, 1)
  t.regex(stderr, /could not make an interface in the bridge 'br7': .*(EPERM|EACCES|EPROTO)/)
  t.regex(stderr, /qemu-bridge-helper/)
})
