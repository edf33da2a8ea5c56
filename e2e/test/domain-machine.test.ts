// A domain's document as options of a machine in this process, and back.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { XmlError, formatDomain, fromMachine, toMachine } from 'libvirt-lite'
import type { DomainMachine } from 'libvirt-lite'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'
import { openCharacters, readCommandLine } from 'qemu-vmm/command-line'
import { guestFiles } from '../src/guest.ts'

const one = <T>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values)

/** Documents of all kinds of what a machine in this process can have. */
const documents = fc
  .record({
    machine: one('pc', 'q35'),
    memory: one("<memory unit='MiB'>64</memory>", '<memory>1048576</memory>'),
    vcpu: one('', '<vcpu>2</vcpu>', "<vcpu current='1'>4</vcpu>"),
    cpu: one(
      '',
      "<cpu mode='maximum'/>",
      "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='require' name='ssse3'/></cpu>",
    ),
    boot: one(
      '',
      "<boot dev='hd'/>",
      '<kernel>/k</kernel><initrd>/i</initrd><cmdline>a=b,c d</cmdline>',
    ),
    backing: one(
      '',
      "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
    ),
    clock: one('', "<clock offset='localtime'/>", "<clock offset='absolute' start='1000'/>"),
    ends: one('', '<on_poweroff>preserve</on_poweroff><on_reboot>destroy</on_reboot>'),
    disks: fc.uniqueArray(
      one(
        "<disk type='file'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/><source file='/a,b'/><target dev='vda' bus='virtio'/><serial>x</serial></disk>",
        "<disk type='block'><source dev='/dev/sdx'/><target dev='vdb' bus='virtio'/><readonly/></disk>",
        "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>",
        "<disk type='file' device='floppy'><source file='/f'/><target dev='fda' bus='fdc'/></disk>",
        "<disk type='file'><source file='/s'/><target dev='sda' bus='sata'/></disk>",
      ),
    ),
    others: fc.uniqueArray(
      one(
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
        "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='e1000'/><ip family='ipv4' address='172.17.2.0' prefix='24'/></interface>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<console type='pty'/>",
        "<parallel type='null'/>",
        "<channel type='null'><target type='virtio' name='org.a'/></channel>",
        "<panic model='isa'/>",
        "<video><model type='vga'/></video>",
        "<memballoon model='none'/>",
      ),
    ),
  })
  .map(
    (has) => `<domain type='qemu'><name>any</name><uuid>11111111-2222-4333-8444-555555555555</uuid>
  <title>A &amp; title</title><description>kept</description>
  <metadata><m:m xmlns:m='urn:m'>1</m:m></metadata>
  ${has.memory}${has.backing}${has.vcpu}${has.cpu}<os><type machine='${has.machine}'>hvm</type>${has.boot}</os>
  <features><acpi/></features>${has.clock}${has.ends}
  <devices><emulator>/usr/bin/qemu-kvm</emulator>${has.disks.join('')}${has.others.join('')}</devices></domain>`,
  )

/** The machine of a document; undefined where its board has not what the document asks for. */
function machineOf(xml: string): DomainMachine<MachineConfig> | undefined {
  try {
    return toMachine(xml, readCommandLine)
  } catch (error) {
    if (!(error instanceof XmlError)) throw error
    return undefined
  }
}

const written = (machine: DomainMachine<MachineConfig>): string =>
  formatDomain(fromMachine(machine, readCommandLine), { secure: true })

test('a document is the same after it was the options of a machine', (t) => {
  let made = 0
  fc.assert(
    fc.property(documents, (xml) => {
      const machine = machineOf(xml)
      if (machine === undefined) return
      made++
      // Whether it is one that can be: the files are not there.
      void new VirtualMachine(machine.options)
      t.is(written(machine), formatDomain(machine.definition, { secure: true }))
      t.regex(written(machine), /<title>A &amp; title<\/title>[^]*kept[^]*urn:m/)
    }),
    { numRuns: 60 },
  )
  t.true(made > 25, `${made} machines`)
})

/** Every leaf of plain options, by its path. */
function leaves(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [path]
  return Object.entries(value).flatMap(([key, item]) => leaves(item, [...path, key]))
}

test('options that are changed change the document, or are refused', (t) => {
  let refused = 0
  let taken = 0
  fc.assert(
    fc.property(documents, fc.nat(), fc.nat(), fc.nat(9), (xml, part, place, by) => {
      const machine = machineOf(xml)
      if (machine === undefined) return
      // What is behind character devices are objects, not options.
      const { chardevs, serial, ...plain } = machine.options
      const keys = Object.keys(plain)
      const key = keys[part % keys.length]!
      const all = leaves(plain[key as keyof typeof plain], [key])
      const path = all[place % all.length]
      if (path === undefined) return
      const options: MachineConfig = structuredClone(plain)
      if (chardevs !== undefined) options.chardevs = chardevs
      if (serial !== undefined) options.serial = serial
      let at = options as unknown as Record<string, unknown>
      for (const step of path.slice(0, -1)) at = at[step] as Record<string, unknown>
      const last = path.at(-1)!
      const old = at[last]
      at[last] =
        typeof old === 'number'
          ? old + by * 1048576
          : typeof old === 'boolean'
            ? !old
            : `${old}${by}`
      try {
        const def = fromMachine({ ...machine, options }, readCommandLine)
        const again = toMachine(formatDomain(def, { secure: true }), readCommandLine)
        t.deepEqual(again.options, options, `${path.join('.')} = ${String(at[last])}`)
        taken++
      } catch (error) {
        if (!(error instanceof XmlError)) throw error
        refused++
      }
    }),
    { numRuns: 150 },
  )
  t.true(taken > 0 && refused > 0, `${taken} taken, ${refused} refused`)
})

test('what a document can say of changed options is known', (t) => {
  const xml = `<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory><os><type machine='pc'>hvm</type></os>
    <devices><disk type='file'><driver name='qemu' type='raw'/><source file='/a'/><target dev='vda' bus='virtio'/></disk></devices></domain>`
  const changed = (change: (options: MachineConfig) => void): string => {
    const machine = toMachine(xml, readCommandLine)
    change(machine.options)
    return written(machine)
  }
  const drive = (more: object) => (options: MachineConfig) =>
    void (options.drives = [{ ...options.drives![0]!, ...more }])
  t.regex(
    changed((options) => void (options.name = 'b')),
    /<name>b<\/name>/,
  )
  t.regex(
    changed((options) => void (options.memory = 1 << 30)),
    /<memory unit='KiB'>1048576</,
  )
  t.regex(
    changed((options) => void (options.cpus = 4)),
    /4<\/vcpu>[^]*sockets='1' dies='1' cores='4'/,
  )
  t.regex(
    changed((options) => void (options.kernel = '/k')),
    /<kernel>\/k<\/kernel>/,
  )
  t.regex(
    changed((options) => void (options.rebootAction = 'shutdown')),
    /<on_reboot>destroy</,
  )
  t.regex(
    changed((options) => void (options.shutdownAction = 'pause')),
    /<on_poweroff>preserve</,
  )
  t.regex(changed(drive({ file: '/b' })), /<source file='\/b'\/>/)
  t.regex(changed(drive({ cache: 'none', readOnly: true })), /cache='none'[^]*<readonly\/>/)
  for (const [change, message] of [
    [(options: MachineConfig) => void (options.accel = 'kvm'), /options\.accel: /],
    [(options: MachineConfig) => void (options.plug = []), /options\.plug\[0\]: /],
    [(options: MachineConfig) => void (options.memory += 4096), /options\.memory: /],
    [drive({ aio: 'threads' }), /options\.drives\[0\]\.aio: /],
  ] as const) {
    t.throws(() => changed(change), { instanceOf: XmlError, message })
  }
})

const linux = `<domain type='qemu'><name>from-xml</name><memory unit='MiB'>128</memory><vcpu>2</vcpu>
  <os><type machine='q35'>hvm</type><kernel>${guestFiles.kernel}</kernel><initrd>${guestFiles.initrd}</initrd>
  <cmdline>console=ttyS0 quiet answer=42</cmdline></os><features><acpi/><apic/></features>
  <devices><serial type='pty'/></devices></domain>`

test.serial('a machine in this process boots from a document, and back', async (t) => {
  const machine = toMachine(linux, readCommandLine)
  machine.options.cpus = { cpus: 1, sockets: 1, cores: 1, threads: 1 }
  machine.options.append += ' again'
  const def = fromMachine(machine, readCommandLine)
  t.is(def.os?.cmdline, 'console=ttyS0 quiet answer=42 again')
  t.is(def.vcpu?.value, 1)
  await using vm = await VirtualMachine.start(toMachine(def, readCommandLine).options)
  await vm.expect('# ', { timeoutMs: 300_000 })
  vm.type('cat /proc/cmdline; nproc\n')
  await vm.expect(/answer=42 again\r?\n1\r?\n/, { timeoutMs: 60_000 })
  vm.type('poweroff -f\n')
  t.like(await vm.exited, { reason: 'shutdown', guest: true })
})

test.serial('what is behind serial ports and channels can be opened, or given', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-machine-'))
  try {
    const xml = linux
      .replace(
        '</devices>',
        "<serial type='file'><source path='FOLDER/log'/></serial><channel type='unix'><target type='virtio' name='a'/></channel></devices>",
      )
      .replace('FOLDER', folder)
    t.throws(() => toMachine(xml, readCommandLine), {
      instanceOf: XmlError,
      message: /chardev 'charserial0' has nothing behind it.*openCharacters/,
    })
    let args: readonly string[] = []
    const request = { socketFolder: folder }
    toMachine(xml, (given) => void (args = given), request)
    const characters = await openCharacters(args)
    try {
      t.regex(characters.places['charserial0'] ?? '', /^pty:\/dev\/pts\/\d+$/)
      t.regex(characters.places['charchannel0'] ?? '', /channel0\.sock/)
      const { options } = toMachine(xml, (given) => readCommandLine(given, characters), request)
      t.is(options.serial?.length, 2)
      t.deepEqual(Object.keys(options.chardevs ?? {}), ['charchannel0'])
    } finally {
      characters.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('options of the process are not read as those of a machine', (t) => {
  for (const args of [
    ['-nographic'],
    ['-display', 'none', '-daemonize'],
    ['-display', 'none', '-pidfile', '/p'],
    ['-display', 'none', '-qmp', 'stdio'],
    ['-help'],
  ]) {
    t.throws(() => readCommandLine(args), { name: 'CliError' }, args.join(' '))
  }
  t.is(readCommandLine(['-display', 'none', '-m', '64', '-nodefaults']).memory, 64 << 20)
})
