// Devices that come and go while a domain runs, by virsh: on our emulator, and on Debian's QEMU where it is installed.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { hasVirsh, virsh, watchEvents, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'
import type { TestDaemon } from './support/daemon.ts'
import { qemu } from './support/libvirtd.ts'

const MAC = '52:54:00:00:00:07'
const emulators: readonly (readonly [string, string | undefined])[] = [
  ['qemu-kvm', undefined],
  ...(existsSync(qemu) ? ([['QEMU', qemu]] as const) : []),
]

interface Setup extends TestDaemon {
  at: string
  /** Runs virsh, and has it succeed. */
  ok(...args: string[]): Promise<string>
  /** Runs virsh, and has it fail. */
  fails(...args: string[]): Promise<string>
}

async function setup(
  t: ExecutionContext,
  emulator: string | undefined,
  devices: string = '',
  machine: string = 'pc',
): Promise<Setup> {
  const at = folder(t)
  const daemon = await startDaemon(t, at)
  const file = join(at, 'a.xml')
  const xml = domainXml('a', {
    devices,
    more: '<features><acpi/></features>',
    ...(emulator === undefined ? {} : { emulator }),
  })
  writeFileSync(file, xml.replace("machine='pc'", `machine='${machine}'`))
  for (const name of ['vda', 'vdb', 'iso']) {
    writeFileSync(join(at, `${name}.img`), Buffer.alloc(1 << 20))
  }
  const run =
    (code: number) =>
    async (...args: string[]): Promise<string> => {
      const outcome = await virsh(daemon.socket, ...args)
      t.is(outcome.code, code, `${args.join(' ')}: ${outcome.output}`)
      return outcome.output
    }
  const setup = { ...daemon, at, ok: run(0), fails: run(1) }
  await setup.ok('define', file)
  return setup
}

for (const [name, emulator] of emulators) {
  test.serial(
    `a disk and a card come, and go when the guest lets go of them: ${name}`,
    async (t) => {
      if (!hasVirsh) return without(t, 'virsh')
      const { ok, fails, at, socket } = await setup(t, emulator)
      await ok('start', 'a')
      const disk = join(at, 'vdb.img')
      await ok('attach-disk', 'a', disk, 'vdb', '--live', '--cache', 'none', '--serial', 'abc')
      await ok('attach-interface', 'a', 'network', 'default', '--model', 'virtio', '--mac', MAC)
      t.regex(await ok('domblklist', 'a'), /vdb +\S+vdb\.img/)
      t.notRegex(await ok('domblklist', 'a', '--inactive'), /vdb/)
      const live = await ok('dumpxml', 'a')
      t.regex(live, /<alias name='virtio-disk1'\/>/)
      t.regex(live, new RegExp(`<mac address='${MAC}'/>[^]*<alias name='net0'/>`))
      t.regex(await ok('domblkinfo', 'a', 'vdb'), /Capacity: +1048576/)
      t.regex(await ok('domblkstat', 'a', 'vdb'), /vdb wr_bytes 0/)
      await ok('blockresize', 'a', 'vdb', '2M')
      t.regex(await ok('domblkinfo', 'a', 'vdb'), /Capacity: +2097152/)
      t.regex(await fails('attach-disk', 'a', disk, 'vdb'), /target 'vdb' duplicated/)
      t.regex(
        await fails('detach-interface', 'a', 'network', '--mac', '52:54:00:00:00:08'),
        /No interface/,
      )

      // The firmware alone lets go of nothing; a reset does for it.
      const removals = watchEvents(t, socket, 'a', '--event', 'device-removed')
      await ok('detach-disk', 'a', 'vdb')
      await ok('detach-interface', 'a', 'network', '--mac', MAC)
      await ok('reset', 'a')
      await until(async () => {
        const { output } = await virsh(socket, 'dumpxml', 'a')
        return !output.includes('vdb') && !output.includes(MAC)
      })
      await until(() => /'device-removed' for domain 'a': virtio-disk1/.test(removals.output()))
      await until(() => /'device-removed' for domain 'a': net0/.test(removals.output()))
      t.pass()
    },
  )

  test.serial(`what was plugged in survives a restart of the daemon: ${name}`, async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    const first = await setup(t, emulator)
    await first.ok('start', 'a')
    const disk = join(first.at, 'vdb.img')
    await first.ok('attach-disk', 'a', disk, 'vdb')
    await first.ok('attach-interface', 'a', 'network', 'default', '--mac', MAC, '--model', 'virtio')
    await first.ok('desc', 'a', '--title', '--live', 'kept')
    const before = await first.ok('dumpxml', 'a')
    await first.daemon.stop()
    const { socket } = await startDaemon(t, first.at)
    t.is((await virsh(socket, 'dumpxml', 'a')).output, before)
    t.regex((await virsh(socket, 'detach-disk', 'a', 'vdb')).output, /detached/)
    t.regex((await virsh(socket, 'detach-device-alias', 'a', 'net0')).output, /success/)
    await virsh(socket, 'reset', 'a')
    await until(async () => !(await virsh(socket, 'domblklist', 'a')).output.includes('vdb'))
    await until(async () => !(await virsh(socket, 'domiflist', 'a')).output.includes(MAC))
    const again = await virsh(socket, 'attach-disk', 'a', disk, 'vdb')
    t.regex(again.output, /attached/)
  })
}

for (const [name, emulator] of emulators) {
  test.serial(
    `random numbers come and go, and so does a medium that is attached: ${name}`,
    async (t) => {
      if (!hasVirsh) return without(t, 'virsh')
      const drive = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>"
      const { ok, fails, at } = await setup(t, emulator, drive)
      const rng = join(at, 'rng.xml')
      writeFileSync(rng, "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
      await ok('start', 'a')
      await ok('attach-device', 'a', rng, '--live')
      t.regex(await ok('dumpxml', 'a'), /<rng model='virtio'>[^]*<alias name='rng0'\/>/)
      t.notRegex(await ok('dumpxml', 'a', '--inactive'), /<rng/)
      await ok('detach-device', 'a', rng, '--live')
      await ok('reset', 'a')
      await until(async () => !(await ok('dumpxml', 'a')).includes('<rng'))
      t.regex(await fails('detach-device', 'a', rng, '--live'), /no rng of the domain/)
      // Where its numbers come from went with it: the name is free.
      await ok('attach-device', 'a', rng, '--live')

      await ok('attach-disk', 'a', join(at, 'iso.img'), 'hdc', '--type', 'cdrom', '--live')
      t.regex(await ok('domblklist', 'a'), /hdc +\S+iso\.img/)
      t.regex(await ok('domblkinfo', 'a', 'hdc'), /Capacity: +1048576/)
      await ok('attach-disk', 'a', join(at, 'vda.img'), 'hdc', '--type', 'cdrom', '--live')
      t.regex(await ok('domblklist', 'a'), /hdc +\S+vda\.img/)
      const other = await fails('attach-disk', 'a', join(at, 'vdb.img'), 'hdc', '--type', 'disk')
      t.regex(other, /target 'hdc' duplicated/)
    },
  )
}

test.serial('what fails leaves all as it was', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { ok, fails, at } = await setup(t, undefined)
  await ok('start', 'a')
  const before = await ok('dumpxml', 'a')
  const missing = join(at, 'missing.img')
  t.regex(await fails('attach-disk', 'a', missing, 'vdb'), /blockdev-add.*missing\.img/)
  t.regex(
    await fails('attach-disk', 'a', join(at, 'vdb.img'), 'sda', '--targetbus', 'sata'),
    /plugged in and out at the bus "virtio"/,
  )
  t.regex(
    await fails('attach-disk', 'a', join(at, 'vdb.img'), 'vdb', '--cache', 'writethrough'),
    /disk\/driver\/@cache/,
  )
  t.regex(await fails('attach-interface', 'a', 'bridge', 'br0'), /user-mode network only/)
  const device = join(at, 'device.xml')
  for (const [xml, expected] of [
    ['<disk', /XML/],
    ['<domain/>', /is no device that a domain can have/],
    [
      "<disk><target dev='vdb' bus='vrtio'/></disk>",
      /\/disk\/target\/@bus = "vrtio".*did you mean/,
    ],
    ["<watchdog model='i6300esb'/>", /only disks, network cards and random/],
    [
      "<rng model='virtio'><backend model='random'>/nowhere</backend></rng>",
      /nowhere|No such file/,
    ],
    ["<memballoon model='virtio'/>", /there already/],
  ] as const) {
    writeFileSync(device, xml)
    t.regex(await fails('attach-device', 'a', device), expected)
  }
  t.is(await ok('dumpxml', 'a'), before)
  // Nothing is left of what was undone: the same works now.
  writeFileSync(missing, Buffer.alloc(1 << 20))
  await ok('attach-disk', 'a', missing, 'vdb')
})

test.serial('a disk of a running domain is not plugged into another', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const { ok, fails, at } = await setup(t, undefined)
  const other = join(at, 'b.xml')
  writeFileSync(other, domainXml('b', { more: '<features><acpi/></features>' }))
  await ok('start', 'a')
  await ok('create', other)
  await ok('attach-disk', 'a', join(at, 'vdb.img'), 'vdb')
  t.regex(
    await fails('attach-disk', 'b', join(at, 'vdb.img'), 'vdb'),
    /is disk vdb of the running domain 'a'/,
  )
})

test.serial(
  'q35 has room for one more in a port of its own, and says when there is none',
  async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    const { ok, fails, at } = await setup(t, undefined, '', 'q35')
    await ok('start', 'a')
    await ok('attach-disk', 'a', join(at, 'vda.img'), 'vda')
    t.regex(
      await fails('attach-disk', 'a', join(at, 'vdb.img'), 'vdb'),
      /No more available PCI slots/,
    )
  },
)

test.serial('a definition gets devices, loses them, and has them changed', async (t) => {
  if (!hasVirsh) return without(t, 'virsh')
  const drive = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>"
  const { ok, fails, at, state } = await setup(t, undefined, drive)
  await ok('attach-disk', 'a', join(at, 'vda.img'), 'vda', '--config')
  await ok('attach-interface', 'a', 'network', 'default', '--mac', MAC, '--config')
  t.regex(await ok('domblklist', 'a'), /vda +\S+vda\.img/)
  const uuid = (await ok('domuuid', 'a')).trim()
  t.regex(
    readFileSync(join(state, `domains/${uuid}.xml`), 'utf8'),
    new RegExp(`vda\\.img[^]*${MAC}`),
  )
  const rng = join(at, 'rng.xml')
  writeFileSync(rng, "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>")
  await ok('attach-device', 'a', rng, '--config')
  t.regex(await ok('dumpxml', 'a'), /<rng model='virtio'>/)
  await ok('detach-device', 'a', rng, '--config')
  t.notRegex(await ok('dumpxml', 'a'), /<rng/)
  t.regex(
    await fails('detach-device', 'a', rng, '--config'),
    /no rng of the domain is as described/,
  )
  await ok('change-media', 'a', 'hdc', join(at, 'iso.img'), '--insert')
  t.regex(await ok('domblklist', 'a'), /hdc +\S+iso\.img/)
  await ok('change-media', 'a', 'hdc', '--eject')
  t.regex(await ok('domblklist', 'a'), /hdc +-\n/)
  await ok('domif-setlink', 'a', MAC, 'down')
  t.regex(await ok('domif-getlink', 'a', MAC), /down/)
  await ok('detach-interface', 'a', 'network', '--mac', MAC, '--config')
  await ok('detach-disk', 'a', 'vda', '--config')
  t.notRegex(await ok('dumpxml', 'a'), new RegExp(`vda|${MAC}`))
  t.regex(await fails('attach-disk', 'a', join(at, 'vdb.img'), 'vdb', '--live'), /not running/)

  // Both at once: it is one device, with one address of its card.
  await ok('start', 'a')
  await ok('attach-interface', 'a', 'network', 'default', '--model', 'virtio', '--persistent')
  const macs = /mac address='([^']+)'/
  const kept = macs.exec(await ok('dumpxml', 'a', '--inactive'))?.[1]
  t.truthy(kept)
  t.is(macs.exec(await ok('dumpxml', 'a'))?.[1], kept)
})

for (const [name, emulator] of emulators) {
  test.serial(
    `a medium is changed, and a cable pulled, while a domain runs: ${name}`,
    async (t) => {
      if (!hasVirsh) return without(t, 'virsh')
      const drive = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>"
      const card = `<interface type='user'><mac address='${MAC}'/><link state='down'/></interface>`
      const { ok, fails, at, socket } = await setup(t, emulator, drive + card)
      const [first, second] = [join(at, 'iso.img'), join(at, 'vda.img')]
      await ok('start', 'a')
      const changes = watchEvents(t, socket, 'a', '--event', 'disk-change')
      const trays = watchEvents(t, socket, 'a', '--event', 'tray-change')
      await ok('change-media', 'a', 'hdc', first, '--insert', '--live')
      t.regex(await ok('domblklist', 'a'), /hdc +\S+iso\.img/)
      t.regex(await ok('domblkinfo', 'a', 'hdc'), /Capacity: +1048576/)
      t.regex(await fails('change-media', 'a', 'hdc', second, '--insert', '--live'), /has media/)
      await ok('change-media', 'a', 'hdc', second, '--update', '--live')
      t.regex(await ok('domblklist', 'a'), /hdc +\S+vda\.img/)
      t.regex(await ok('qemu-monitor-command', 'a', '--hmp', 'info block'), /vda\.img/)
      // What cannot be opened leaves the drive as it is known to be.
      const none = join(at, 'none.img')
      await fails('change-media', 'a', 'hdc', none, '--update', '--live')
      t.notRegex(await ok('domblklist', 'a'), /none\.img/)
      await ok('change-media', 'a', 'hdc', '--eject', '--live', '--force')
      t.regex(await ok('domblklist', 'a'), /hdc +-\n/)
      t.regex(await fails('change-media', 'a', 'hdc', '--eject', '--live'), /doesn't have media/)
      t.regex(await ok('domblklist', 'a', '--inactive'), /hdc +-\n/)
      await ok('change-media', 'a', 'hdc', first, '--insert', '--live', '--config')
      t.regex(await ok('domblklist', 'a', '--inactive'), /hdc +\S+iso\.img/)

      t.regex(await ok('qemu-monitor-command', 'a', '--hmp', 'info network'), /link=down|net0/)
      await ok('domif-setlink', 'a', MAC, 'up')
      t.regex(await ok('domif-getlink', 'a', MAC), /up/)
      const device = join(at, 'device.xml')
      writeFileSync(device, card.replace('<link', "<model type='e1000'/><link"))
      t.regex(await fails('update-device', 'a', device, '--live'), /only the link state/)
      await until(() => /disk ide0-1-0: .*iso\.img -> \S*vda\.img/.test(changes.output()))
      await until(() => /disk ide0-1-0: opened\n[^]*disk ide0-1-0: closed/.test(trays.output()))
    },
  )
}
