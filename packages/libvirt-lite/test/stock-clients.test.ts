// The clients that people have: Debian's virsh and libvirt for Python. Where they are missing these tests say so.
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { PYTHON, hasPython, hasVirsh, virsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'

test.serial('virsh runs a domain from its definition to its end', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  const card = `<interface type='network'><source network='default'/><model type='virtio'/></interface>`
  writeFileSync(file, domainXml('a', { devices: diskXml(buttonDisk(at)) + card }))
  const network = join(at, 'n.xml')
  writeFileSync(network, `<network><name>n</name><bridge name='virbr1'/></network>`)
  const steps: [string, RegExp][] = [
    ['list --all', /^ Id +Name +State\n-+\n\n$/],
    ['uri', /socket=/],
    ['version', /QEMU 7\.2\.0/],
    ['nodeinfo', /CPU model: +x86_64/],
    ['nodecpustats', /idle:/],
    ['nodememstats', /total +:/],
    ['nodecpumap', /CPUs online: +\d/],
    ['freecell', /Total: \d+ KiB/],
    ['capabilities', /<domain type='qemu'\/>/],
    [
      'domcapabilities --virttype qemu',
      /<machine>pc-i440fx-7.2<[^]*<model usable='yes'>IvyBridge</,
    ],
    ['cpu-models x86_64', /^qemu64\nIvyBridge\n/],
    ['cpu-models sparc', /error: .*only x86_64 is there/],
    [`define ${file}`, /Domain 'a' defined/],
    ['list --all', / - +a +shut off/],
    ['dominfo a', /Persistent: +yes\nAutostart: +disable/],
    ['domstate a', /shut off/],
    ['autostart a', /marked as autostarted/],
    ['list --autostart --all --name', /^a\n/],
    ['autostart a --disable', /unmarked/],
    ['dumpxml a', /<name>a<\/name>[^]*<memory unit='KiB'>65536</],
    ['domblklist a', /vda +.*button\.img/],
    ['domid a', /^-/],
    ['domuuid a', /^[0-9a-f-]{36}\n/],
    ['vcpucount a', /maximum +config/],
    ['start a --paused', /Domain 'a' started/],
    ['domstate a --reason', /paused \(user\)/],
    ['resume a', /resumed/],
    ['domstate a --reason', /running \(unpaused\)/],
    ['domid a', /^1\n/],
    ['dumpxml a', /<domain type='qemu' id='1'>[^]*<alias name='serial0'\/>/],
    ['dumpxml a --inactive', /<domain type='qemu'>/],
    ['suspend a', /suspended/],
    ['resume a', /resumed/],
    ['reset a', /was reset/],
    ['qemu-monitor-command a --hmp info status', /VM status: running/],
    ['qemu-monitor-command a --pretty {"execute":"query-status"}', /"running": true/],
    ['vcpuinfo a', /State: +running/],
    [
      'domstats a',
      /state.state=1[^]*cpu.time=\d+[^]*balloon.maximum=65536[^]*vcpu.0.state=1[^]*block.0.name=vda\n[^]*block.0.capacity=1048576\n/,
    ],
    ['domstats --state --list-inactive', /^\n?$/],
    ['domstats --perf --enforce a', /error: .*not supported/],
    ['undefine a', /has been undefined/],
    ['dominfo a', /Persistent: +no/],
    [`define ${file}`, /error: .*already exists with uuid/],
    ['destroy a', /destroyed/],
    ['domstate a', /error: failed to get domain 'a'/],
    [`create ${file}`, /Domain 'a' created/],
    ['domname 2', /^a\n/],
    ['destroy a', /destroyed/],
    ['list --all --name', /^\n$/],
    ['net-list --all', / default +active +yes +yes/],
    ['net-list --inactive --name', /^\n?$/],
    ['net-info default', /Active: +yes\nPersistent: +yes/],
    ['net-dumpxml default', /<forward mode='nat'\/>/],
    ['net-info other', /error: failed to get network 'other'/],
    ['net-destroy default', /error: .*'default' is always there/],
    ['net-undefine default', /error: .*'default' is always there/],
    ['net-start default', /error: .*network is already active/],
    ['net-autostart default', /marked as autostarted/],
    ['net-autostart default --disable', /error: .*'default' is always there/],
    ['net-dhcp-leases default', /Expiry Time/],
    [`net-define ${network}`, /error: .*network 'n': there is only 'default'.*type 'user' an <ip>/],
    [`net-create ${network}`, /error: .*network 'n': there is only 'default'/],
    [`net-define ${file}`, /error: .*unexpected root element <domain>/],
    ['hostname', /\S/],
    ['domjobinfo nobody', /error: failed to get domain/],
    ['snapshot-create nobody', /error: /],
  ]
  for (const [command, expected] of steps) {
    const { output } = await virsh(socket, ...command.split(' '))
    t.regex(output, expected, command)
  }
})

test.serial('virsh on the read-only socket is told that it may not', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  writeFileSync(file, domainXml('a'))
  const { code, output } = await virsh(`${socket}-ro`, 'define', file)
  t.is(code, 1)
  t.regex(output, /read only access prevents virDomainDefineXML/)
})

test.serial('what is wrong with a document reaches the user, with its place', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  const disk = diskXml('/tmp/x').replace("bus='virtio'", "bus='vrtio'")
  writeFileSync(file, domainXml('a', { devices: disk }))
  const { output } = await virsh(socket, 'define', file)
  t.regex(
    output,
    /\/domain\/devices\/disk\[1\]\/target\/@bus = "vrtio" \(line \d+\).*did you mean "virtio"/,
  )
})

const hasInstaller = spawnSync('virt-install', ['--version']).status === 0

test.serial('virt-install makes a domain from a disk, and a new volume for another', async (t) => {
  if (!hasInstaller) return without(t, 'virt-install')
  const { socket, state } = await startDaemon(t)
  const disks = folder(t)
  const file = join(disks, 'disk.raw')
  writeFileSync(file, Buffer.alloc(1 << 20))
  const uri = `qemu+unix:///session?socket=${socket}`
  const options =
    '--import --osinfo generic --graphics none --memory 64 --virt-type qemu --noautoconsole'
  const network = ['--network', 'network=default,model=virtio']
  for (const [name, disk, path] of [
    ['i', `path=${file},bus=virtio`, file],
    ['j', 'pool=default,size=1,format=qcow2,bus=virtio', join(state, 'images/j.qcow2')],
  ] as const) {
    const args = [
      '--connect',
      uri,
      '--name',
      name,
      '--disk',
      disk,
      ...options.split(' '),
      ...network,
    ]
    const { stdout } = await promisify(execFile)('virt-install', args, { timeout: 120_000 })
    t.regex(stdout, /Domain creation completed/)
    const { output } = await virsh(socket, 'list', '--all')
    t.regex(output, new RegExp(`\\d +${name} +running`))
    t.regex((await virsh(socket, 'dominfo', name)).output, /Persistent: +yes/)
    const { output: disksOfIt } = await virsh(socket, 'domblklist', name)
    t.true(disksOfIt.includes(path), disksOfIt)
  }
})

const EVENTS = `
import libvirt, sys, threading, time
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True: libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
conn = libvirt.open('qemu+unix:///session?socket=' + sys.argv[1])
def say(*words): print(*words, flush=True)
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
    lambda c, dom, event, detail, o: say('lifecycle', dom.name(), event, detail), None)
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, lambda c, dom, o: say('reboot', dom.name()), None)
conn.setKeepAlive(1, 3)
say('ready')
dom = conn.defineXML(sys.stdin.read())
dom.create()
stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
dom.suspend(); dom.resume(); dom.reset(0)
# Longer than the daemon may stay silent.
time.sleep(5)
say('alive', conn.isAlive())
dom.destroy(); dom.undefine()
time.sleep(0.5)
conn.close()
say('end')
`

test.serial('python3-libvirt hears events, and its keepalive is answered', async (t) => {
  if (!hasPython) return without(t, 'python3-libvirt')
  const { socket } = await startDaemon(t)
  const child = spawn(PYTHON, ['-c', EVENTS, socket], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stdin.end(domainXml('p'))
  const [code] = (await once(child, 'close')) as [number]
  t.is(code, 0)
  const lines = output.trim().split('\n')
  const lifecycle = ['0 0', '4 0', '2 0', '3 0', '4 0']
  const expected = ['ready', ...lifecycle.map((it) => `lifecycle p ${it}`), 'reboot p', 'alive 1']
  t.deepEqual(lines, [...expected, 'lifecycle p 5 1', 'lifecycle p 1 0', 'end'])
})

const CONSOLE = `
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0: os.execvp('virsh', ['virsh', '-c', 'qemu+unix:///session?socket=' + sys.argv[1], 'console', 'c'])
def read(want, seconds):
    got, end = b'', time.time() + seconds
    while time.time() < end and want not in got:
        if not select.select([fd], [], [], 0.2)[0]: continue
        try: got += os.read(fd, 4096)
        except OSError: break
    return want in got
print(read(b'Escape character', 20), flush=True)
print(read(b'R', 60), flush=True)
os.write(fd, b'\\x1d')
read(b'never', 2)
print(os.waitpid(pid, 0)[1], flush=True)
`

test.serial('virsh console shows what the guest writes, and leaves', async (t) => {
  if (!hasVirsh || !hasPython) return without(t, 'virsh or python3-libvirt')
  const at = folder(t)
  const { socket } = await startDaemon(t, at)
  const file = join(at, 'c.xml')
  writeFileSync(file, domainXml('c', { devices: diskXml(buttonDisk(at)) }))
  await virsh(socket, 'create', file, '--paused')
  const child = spawn(PYTHON, ['-c', CONSOLE, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await until(() => output.includes('True'))
  await virsh(socket, 'resume', 'c')
  await once(child, 'close')
  t.is(output, 'True\nTrue\n0\n')
})
