// Limits of domains: in a tree like the kernel's, and in the kernel's own where it is delegated.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { examineControlGroups } from '../src/doctor/control-groups.ts'
import { findOwnGroup } from '../src/driver/control-groups/find.ts'
import { ControlGroups } from '../src/driver/control-groups/groups.ts'
import { kill, start } from '../src/driver/process.ts'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { define, domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { GroupTree } from './support/group-tree.ts'

const OTHER = 4_000_000
const TUNED = `<blkiotune><weight>300</weight></blkiotune>
<memtune><hard_limit unit='MiB'>512</hard_limit><soft_limit unit='MiB'>256</soft_limit><swap_hard_limit unit='GiB'>1</swap_hard_limit></memtune>
<cputune><shares>250</shares><period>50000</period><quota>25000</quota><global_quota>80000</global_quota></cputune>`

const tuned = (name: string, more: string = TUNED): string => domainXml(name, { more })

/** A host whose process 7 is in a group that has these files. */
function host(
  t: ExecutionContext,
  group: Readonly<Record<string, string>>,
  mounts: string,
): string {
  const root = folder(t)
  const files = {
    '/proc/self/mountinfo': mounts,
    '/proc/self/cgroup': '1:cpu:/x\n0::/user.slice/lite.service\n',
    ...Object.fromEntries(
      Object.entries(group).map(([name, text]) => [
        `/sys/fs/cgroup/user.slice/lite.service/${name}`,
        text,
      ]),
    ),
  }
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  return root
}

test('the group of the daemon is found, or why it cannot be divided', (t) => {
  const mounts = '30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n'
  const whole = {
    'cgroup.controllers': 'cpuset cpu io memory pids\n',
    'cgroup.type': 'domain\n',
    'cgroup.subtree_control': '',
    'cgroup.procs': '7\n',
  }
  const root = host(t, whole, mounts)
  const found = findOwnGroup({ root, pid: 7 })
  t.deepEqual(found, {
    path: join(root, '/sys/fs/cgroup/user.slice/lite.service'),
    controllers: new Set(['cpu', 'memory', 'io']),
  })
  const who = { root, uid: 1, groups: [1], user: 'ann', arch: 'x64' }
  t.is(examineControlGroups(who, 7).verdict, 'ok')
  t.regex(examineControlGroups(who, 8).text, /process 7 is in it/)
  t.regex(examineControlGroups(who, 8).remedy!, /systemd-run --user -p Delegate=yes/)

  // A service manager may have put it where it would go.
  const placed = host(t, { ...whole, 'cgroup.procs': '' }, mounts)
  writeFileSync(join(placed, '/proc/self/cgroup'), '0::/user.slice/lite.service/daemon\n')
  t.like(findOwnGroup({ root: placed, pid: 7 }), {
    path: join(placed, '/sys/fs/cgroup/user.slice/lite.service'),
  })

  // In a container, the mount may begin where the process is.
  const inner = mounts.replace(' / /sys', ' /user.slice /sys')
  const shifted = host(t, {}, inner)
  const at = join(shifted, '/sys/fs/cgroup/lite.service')
  mkdirSync(at, { recursive: true })
  for (const [name, text] of Object.entries(whole)) writeFileSync(join(at, name), text)
  t.like(findOwnGroup({ root: shifted, pid: 7 }), { path: at })

  const cases: [Record<string, string>, string, RegExp][] = [
    [whole, '30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n', /no control groups of version 2/],
    [{}, mounts, /no control group of version 2/],
    [{ ...whole, 'cgroup.controllers': 'pids\n' }, mounts, /has none of cpu, memory, io/],
    [{ 'cgroup.controllers': 'cpu\n' }, mounts, /not delegated to this user/],
    [{ ...whole, 'cgroup.procs': `7\n${OTHER}\n` }, mounts, /process 4000000 is in it/],
  ]
  for (const [group, mount, expected] of cases) {
    const none = findOwnGroup({ root: host(t, group, mount), pid: 7 })
    t.regex('reason' in none ? none.reason : '', expected)
  }
})

test('a group is divided once, and what others left in it is removed', (t) => {
  const tree = new GroupTree(folder(t), 'cpu memory', [process.pid])
  const uuid = '00000000-0000-4000-8000-000000000001'
  const left = join(tree.path, `domain-${uuid}-7`)
  tree.make(left)
  tree.make(join(left, 'vcpu0'))
  const groups = ControlGroups.open(tree.path, tree)
  t.is(groups.missing, undefined)
  t.false(existsSync(left))
  t.is(readFileSync(join(tree.path, 'cgroup.procs'), 'utf8'), '')
  t.is(readFileSync(join(tree.path, 'daemon/cgroup.procs'), 'utf8').trim(), `${process.pid}`)
  t.is(groups.lacks('cpu'), undefined)
  t.regex(groups.lacks('io')!.reason, /no controller "io"/)
  t.throws(() => groups.make(uuid, { weight: 100 }), {
    message: /Block I\/O tuning is not available.*remove <blkiotune>/,
  })
  t.false(existsSync(left))
  const path = groups.make(uuid, { shares: 5 })!
  t.is(readFileSync(join(path, 'cpu.weight'), 'utf8'), '5')
  t.false(existsSync(join(path, 'memory.max')))

  const wrong: [object, RegExp][] = [
    [{ shares: 0 }, /cputune shares must be in range \[1, 10000\], not 0/],
    [{ period: 999 }, /cputune period must be in range \[1000, 1000000\]/],
    [{ quota: 5 }, /cputune quota/],
    [{ weight: 99 }, /blkiotune weight must be in range \[100, 1000\]/],
    [{ hardLimit: 1, softLimit: 2 }, /soft_limit 2 KiB: at most the hard_limit/],
    [{ swapHardLimit: 9 }, /that has a hard_limit as well/],
  ]
  for (const [limits, message] of wrong) t.throws(() => groups.make(uuid, limits), { message })
})

test('a domain is in a group with its limits from the start, and they change while it runs', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const tree = new GroupTree(at, 'cpu memory io', [process.pid])
  const groups = ControlGroups.open(tree.path, tree)
  const { socket, client: open } = await startDaemon(t, at, { groups })
  const client = await open()
  const dom = await define(client, tuned('a'))
  const group = join(tree.path, `domain-${dom.uuid}-1`)
  const value = (name: string): string => readFileSync(join(group, name), 'utf8').trim()
  await client.call('DOMAIN_CREATE', { dom })
  t.is(value('cpu.weight'), '250')
  t.is(value('cpu.max'), '80000 100000')
  t.is(value('memory.max'), `${512 << 20}`)
  t.is(value('memory.high'), `${256 << 20}`)
  t.is(value('memory.swap.max'), `${512 << 20}`)
  t.is(value('io.weight'), 'default 300')
  t.is(value('vcpu0/cpu.max'), '25000 50000')
  t.is(value('vcpu0/cgroup.type'), 'threaded')
  const pid = value('cgroup.procs')
  t.regex(readFileSync(`/proc/${pid}/cmdline`, 'latin1'), new RegExp(`^[^]*qemu-kvm[^]*guest=a`))
  t.true(existsSync(`/proc/${pid}/task/${value('vcpu0/cgroup.threads')}`))

  const says = async (command: string): Promise<string> =>
    (await virsh(socket, ...command.split(' '))).output.replaceAll(/ +/g, ' ').trim()
  t.regex(
    await says('schedinfo a'),
    /^Scheduler : posix\ncpu_shares : 250\nvcpu_period : 50000\nvcpu_quota : 25000\n/,
  )
  t.regex(
    await says('memtune a'),
    /^hard_limit : 524288\nsoft_limit : 262144\nswap_hard_limit: 1048576$/,
  )
  t.regex(await says('blkiotune a'), /weight : 300/)

  await says('schedinfo a --live cpu_shares=700 vcpu_quota=-1')
  t.deepEqual([value('cpu.weight'), value('vcpu0/cpu.max')], ['700', 'max 50000'])
  t.regex(await says('schedinfo a --config'), /cpu_shares : 250/)
  await says('schedinfo a --config --set global_period=20000')
  t.is(value('cpu.max'), '80000 100000')
  t.regex(await says('dumpxml a --inactive'), /<global_period>20000</)
  t.regex(await says('dumpxml a'), /<shares>700<[^]*<quota>-1</)
  await says('memtune a --live --config --soft-limit 100000 --swap-hard-limit -1')
  t.deepEqual([value('memory.high'), value('memory.swap.max')], [`${100_000 * 1024}`, 'max'])
  t.regex(await says('dumpxml a --inactive'), /<soft_limit unit='KiB'>100000</)
  t.notRegex(await says('dumpxml a --inactive'), /swap_hard/)
  await says('blkiotune a --weight 500')
  t.is(value('io.weight'), 'default 500')
  t.regex(await says('schedinfo a cpu_shares=0'), /cputune shares must be in range/)
  t.is(value('cpu.weight'), '700')
  t.regex(
    await says('schedinfo a emulator_quota=5000'),
    /'emulator_quota' not supported|invalid scheduler option/,
  )

  await client.call('DOMAIN_DESTROY', { dom })
  await until(() => !existsSync(group))

  // Without limits it has a group as well: they may come.
  const plain = await define(client, domainXml('b'))
  await client.call('DOMAIN_CREATE', { dom: plain })
  await says('memtune b --hard-limit 300000')
  const memory = join(tree.path, `domain-${plain.uuid}-2`, 'memory.max')
  t.is(readFileSync(memory, 'utf8'), `${300_000 * 1024}`)

  // An emulator that does not start leaves no group.
  const broken = await define(client, tuned('c', '<cputune><shares>99999</shares></cputune>'))
  await t.throwsAsync(client.call('DOMAIN_CREATE', { dom: broken }), { message: /cputune shares/ })
  t.deepEqual(
    readdirSync(tree.path).filter((name) => name.includes(broken.uuid)),
    [],
  )
})

test('where there are no groups, limits are refused at the start, with why', async (t) => {
  const { client: open } = await startDaemon(t)
  const client = await open()
  const dom = await define(client, tuned('a', '<memtune><hard_limit>1</hard_limit></memtune>'))
  await t.throwsAsync(client.call('DOMAIN_CREATE', { dom }), {
    message:
      /Memory tuning is not available: control groups are turned off: .*, or remove <memtune>/,
  })
  const memory = { dom, max: 0, flags: 0 }
  await t.throwsAsync(client.call('DOMAIN_GET_MEMORY_PARAMETERS', memory), {
    message: /^Operation not supported: Memory tuning is not available/,
  })
  const { dom: plain } = await client.call('DOMAIN_DEFINE_XML', { xml: domainXml('b') })
  await client.call('DOMAIN_CREATE', { dom: plain })

  // What no group limits is refused as before.
  const emulator = '<cputune><emulator_quota>5000</emulator_quota></cputune>'
  const other = await define(client, tuned('c', emulator))
  await t.throwsAsync(client.call('DOMAIN_CREATE', { dom: other }), {
    message: /cputune, emulatorQuota/,
  })
})

test("the kernel takes limits, where it delegates to this test's process", (t) => {
  const groups = ControlGroups.open()
  if (groups.missing !== undefined) {
    t.log(`left out: ${groups.missing.reason}`)
    t.pass()
    return
  }
  const limits = { shares: 50, globalQuota: 50_000, hardLimit: 1 << 20, softLimit: 1 << 19 }
  const path = groups.make('00000000-0000-4000-8000-0000000000ff', limits)!
  t.teardown(() => groups.remove(path))
  t.is(readFileSync(join(path, 'cpu.weight'), 'utf8').trim(), '50')
  t.is(readFileSync(join(path, 'cpu.max'), 'utf8').trim(), '50000 100000')
  t.is(readFileSync(join(path, 'memory.max'), 'utf8').trim(), `${2 ** 30}`)
})

/** A folder in the kernel's own hierarchy of version 2; undefined, with why, where none can be made. */
function realGroup(t: ExecutionContext): string | undefined {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1]
  const own = /^0::(\S+)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
  try {
    if (mount === undefined || own === undefined) throw new Error('the host has none of version 2')
    const path = join(mount, own, `libvirt-lite-test-${process.pid}`)
    mkdirSync(path)
    // Whether processes may go in as well.
    const child = spawnSync('/bin/sh', ['-c', 'echo $$ > "$0"', join(path, 'cgroup.procs')])
    if (child.status === 0) return path
    rmdirSync(path)
    throw new Error(child.stderr.toString().trim())
  } catch (error) {
    t.log(`left out: no control group can be made: ${(error as Error).message}`)
    t.pass()
    return undefined
  }
}

test('a process is in its group from the start, and the group goes when it has ended: the kernel', async (t) => {
  const path = realGroup(t)
  if (path === undefined) return
  const at = folder(t)
  const { id, exited } = await start('/bin/sleep', ['100'], {
    logFile: join(at, 'log'),
    folder: at,
    env: {},
    notes: [],
    group: path,
  })
  const groups = ControlGroups.open(false)
  try {
    await until(() => readFileSync(`/proc/${id.pid}/cmdline`, 'utf8').startsWith('/bin/sleep'))
    const group = /^0::(.*)$/m.exec(readFileSync(`/proc/${id.pid}/cgroup`, 'utf8'))?.[1]
    t.true(group?.endsWith(`/libvirt-lite-test-${process.pid}`), group)
    t.is(readFileSync(join(path, 'cgroup.procs'), 'utf8').trim(), `${id.pid}`)
    // Threads of vCPUs have groups below it.
    mkdirSync(join(path, 'vcpu0'))
    groups.remove(path)
    t.true(existsSync(path), 'somebody is in it')
  } finally {
    await kill(id, 0)
    await exited
  }
  await until(() => !existsSync(path))
  t.false(existsSync(path))
})
