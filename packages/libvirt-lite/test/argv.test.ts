import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import {
  XmlError,
  domainArgv,
  parseDomain,
  qemuFeatures,
  qemuKvmFeatures,
} from '../src/domain/index.ts'
import type { ArgvOptions } from '../src/domain/index.ts'
import { without } from './support/clients.ts'
import { qemu } from './support/libvirtd.ts'
import { emulators, startAndQuit } from './support/emulator.ts'

const folder = mkdtempSync(join(tmpdir(), 'libvirt-lite-argv-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const options: ArgvOptions = { qmpSocket: '/run/d/qmp.sock', stateDir: '/run/d' }

function imported(machine: string, devices: string, around: string = ''): string {
  return `<domain type='qemu'>
  <name>imported</name>
  <uuid>9c4f4c0e-2b7a-4c29-8d5e-0d1f7f0c6b11</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>${around}
  <os><type arch='x86_64' machine='${machine}'>hvm</type></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/>
  </clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>${devices}</devices>
</domain>`
}

function refusal(xml: string, more: Partial<ArgvOptions> = {}): XmlError {
  try {
    domainArgv(parseDomain(xml), { ...options, ...more })
  } catch (error) {
    if (error instanceof XmlError) return error
    throw error
  }
  throw new Error('it was accepted')
}

for (const machine of ['pc', 'q35']) {
  for (const emulator of emulators()) {
    test.serial(
      `a domain as virt-install --import makes it starts: ${machine}, ${emulator.name}`,
      async (t) => {
        const floppy = join(folder, 'floppy.img')
        writeFileSync(floppy, Buffer.alloc(1_474_560))
        const image = join(folder, 'a,b.img')
        writeFileSync(image, Buffer.alloc(1 << 20))
        const cdrom = machine === 'pc' ? 'hdc' : 'sda'
        const bus = machine === 'pc' ? 'ide' : 'sata'
        const balloon = emulator.features.devices?.has('virtio-balloon-pci') ?? true
        const xml = imported(
          machine,
          `<disk type='file' device='disk'><driver name='qemu' type='raw' discard='unmap'/><source file='${image}'/><target dev='vda' bus='virtio'/></disk>
        <disk type='file' device='cdrom'><target dev='${cdrom}' bus='${bus}'/></disk>
        <disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='${floppy}'/><target dev='fda'/></disk>
        <interface type='user'><model type='virtio'/></interface>
        <console type='pty'/>
        <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
        <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
        <memballoon model='${balloon ? 'virtio' : 'none'}'/>`,
        )
        const qmpSocket = join(folder, 'qmp.sock')
        rmSync(qmpSocket, { force: true })
        const command = domainArgv(parseDomain(xml), {
          qmpSocket,
          stateDir: folder,
          features: emulator.features,
        })
        t.deepEqual(command.endpoints, [
          { alias: 'serial0', path: join(folder, 'serial0.sock') },
          { alias: 'channel0', path: join(folder, 'channel0.sock') },
        ])
        const { status, name } = await startAndQuit(emulator, command, qmpSocket)
        t.like(status, { status: 'prelaunch', running: false })
        t.deepEqual(name, { name: 'imported' })
      },
    )
  }
}

test('what cannot be started yet is defined, and refused at the start with its path', (t) => {
  const cases: [string, RegExp][] = [
    ["<graphics type='vnc'/>", /^unsupported: \/domain\/devices\/graphics\[1\]: .*serial console/],
    [
      "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>",
      /interface\[1\]\/@type/,
    ],
    [
      "<interface type='network'><source network='lan'/><model type='virtio'/></interface>",
      /source\/@network.*"default"/,
    ],
    [
      "<disk type='file'><source file='/a'/><target dev='vda'/><iotune><total_bytes_sec>1</total_bytes_sec></iotune></disk>",
      /disk\[1\], iotune/,
    ],
    [
      "<disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/></disk>",
      /has no device "lsi"/,
    ],
    [
      "<disk type='file'><source file='/a'/><target dev='vda'/><driver io='threads'/></disk>",
      /driver, io/,
    ],
    [
      "<redirdev bus='usb' type='tcp'><source mode='connect' host='h' service='1'/></redirdev>",
      /redirdev\[1\].*USB/,
    ],
    ["<input type='tablet' bus='usb'/>", /input\[1\]\/@bus: "usb" is not there yet.*remove it/],
    ["<graphics type='spice'/>", /virt-install --graphics none/],
    ["<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>", /tpm\[1\].*--tpm none/],
    ["<sound model='ich9'/>", /sound\[1\].*--sound none/],
    ["<video><model type='qxl'/></video>", /video\[1\]\/model\/@type: expected one of vga, none/],
    [
      "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
      /channel\[1\]\/@type.*goes with a screen/,
    ],
    [
      "<watchdog model='itco' action='reset'/>",
      /watchdog\[1\]\/@model.*no watchdog "itco"; remove it/,
    ],
    ['<gizmo/>', /\/domain\/devices\/gizmo/],
    ["<memballoon model='none' lazy='yes'/>", /memballoon\/@lazy/],
    ["<sound model='ac97'/>", /sound\[1\]/],
    [
      "<serial type='tcp'><source mode='bind' host='h' service='1'/><protocol type='tls'/></serial>",
      /serial\[1\]\/protocol\/@type.*raw or telnet/,
    ],
    [
      "<serial type='tcp'><source mode='bind' host='h' service='1' tls='yes'/></serial>",
      /serial\[1\]\/source\[1\], tls/,
    ],
    ["<serial type='dev'><source path='/dev/ttyS0'/></serial>", /serial\[1\]\/@type.*"dev"/],
    ["<watchdog model='i6300esb'/>", /watchdog\[1\]\/@model.*no watchdog "i6300esb"/],
  ]
  for (const [devices, expected] of cases) {
    const error = refusal(imported('pc', devices))
    t.regex(error.message, expected)
    t.is(error.libvirtCode, 67)
  }
  t.regex(refusal(imported('pc', '', '<cputune><shares>9</shares></cputune>')).message, /cputune/)
})

test('character devices are at TCP, telnet, UDP and pipes, with the words of libvirt', async (t) => {
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [`${pipe}.in`, `${pipe}.out`])
  const xml = imported(
    'pc',
    `<serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/><protocol type='raw'/></serial>
    <serial type='tcp'><source mode='bind' host='127.0.0.1' service='0'/><protocol type='telnet'/></serial>
    <serial type='udp'><source mode='bind' host='127.0.0.1' service='0'/><source mode='connect' host='127.0.0.1' service='9'/></serial>
    <serial type='pipe'><source path='${pipe}'/></serial>
    <parallel type='tcp'><source mode='connect' host='127.0.0.1' service='1'><reconnect enabled='yes' timeout='60'/></source></parallel>
    <channel type='udp'><source mode='connect' service='9'/><target type='virtio' name='org.example.0'/></channel>`,
  )
  const wanted = [
    'socket,id=charserial0,host=127.0.0.1,port=0,server=on,wait=off',
    'socket,id=charserial1,host=127.0.0.1,port=0,telnet=on,server=on,wait=off',
    'udp,id=charserial2,host=127.0.0.1,port=9,localaddr=127.0.0.1,localport=0',
    `pipe,id=charserial3,path=${pipe}`,
    'socket,id=charparallel0,host=127.0.0.1,port=1,reconnect=60',
    'udp,id=charchannel0,host=,port=9,localaddr=,localport=0',
  ]
  const { args } = domainArgv(parseDomain(xml), options)
  const got = args.filter((_, i) => args[i - 1] === '-chardev' && !args[i]?.includes('monitor'))
  t.deepEqual(new Set(got), new Set(wanted))
  for (const [i, emulator] of emulators().entries()) {
    const qmpSocket = join(folder, `char-${i}.sock`)
    const more = { qmpSocket, stateDir: folder, features: emulator.features }
    const { status } = await startAndQuit(emulator, domainArgv(parseDomain(xml), more), qmpSocket)
    t.like(status, { status: 'prelaunch' })
  }
})

test('QEMU is told what it can and ours cannot', (t) => {
  const xml = imported(
    'q35',
    "<emulator>/usr/bin/qemu-system-x86_64</emulator><disk type='file'><driver name='qemu' type='qcow2' io='threads' queues='2'/><source file='/a'/><target dev='vda'/></disk>",
  ).replace("offset='utc'", "offset='localtime'")
  const { args, program } = domainArgv(parseDomain(xml), options)
  t.is(program, '/usr/bin/qemu-system-x86_64')
  t.true(args.includes('base=localtime,driftfix=slew'))
  t.true(args.includes('file=/a,format=qcow2,if=none,id=drive-virtio-disk0,aio=threads'))
  t.regex(
    args.join(' '),
    /virtio-blk-pci,drive=drive-virtio-disk0,bootindex=1,num-queues=2,id=virtio-disk0,bus=pci\.\d,addr=0x0/,
  )
  t.regex(args.join(' '), /qemu-xhci,id=usb,bus=pci\.1/)
  t.is(domainArgv(parseDomain(xml), { ...options, features: qemuFeatures }).warnings.length, 0)
})

test('what Windows may know of its hypervisor is told by QEMU, and not missed where it is not', (t) => {
  const hyperv = `<features><acpi/><hyperv><relaxed state='on'/><vapic state='off'/><spinlocks state='on' retries='8191'/>
<stimer state='on'><direct state='on'/></stimer><vendor_id state='on' value='me'/></hyperv></features>
<clock offset='utc'><timer name='hypervclock' present='yes'/></clock>`
  const xml = imported('q35', '')
    .replace(/<features>[^]*?<\/features>/, '')
    .replace(/<clock[^]*?<\/clock>/, '')
    .replace('<devices>', `${hyperv}<devices>`)
  const { args, warnings } = domainArgv(parseDomain(xml), { ...options, features: qemuFeatures })
  t.is(
    args[args.indexOf('-cpu') + 1],
    'qemu64,hv-time=on,hv-relaxed=on,hv-stimer=on,hv-stimer-direct=on,hv-spinlocks=0x1fff,hv-vendor-id=me',
  )
  t.notRegex(warnings.join(' '), /Hyper-V/)
  const ours = domainArgv(parseDomain(xml), options)
  t.notRegex(ours.args.join(' '), /hv-/)
  t.regex(ours.warnings.join(' '), /\/domain\/features\/hyperv: .*no Hyper-V/)
})

test('the clock shows what the definition says at the start', (t) => {
  const base = (attributes: string): [string | undefined, Record<string, string>] => {
    const xml = imported('pc', '').replace("<clock offset='utc'>", `<clock ${attributes}>`)
    const { args, env } = domainArgv(parseDomain(xml), options)
    return [args[args.indexOf('-rtc') + 1]?.split(',')[0], env]
  }
  t.deepEqual(base("offset='utc'"), ['base=utc', {}])
  t.deepEqual(base("offset='localtime'"), ['base=localtime', {}])
  t.deepEqual(base("offset='timezone' timezone='Asia/Kolkata'"), [
    'base=localtime',
    { TZ: 'Asia/Kolkata' },
  ])
  t.deepEqual(base("offset='absolute' start='1150560081'"), ['base=2006-06-17T16:01:21', {}])
  for (const [wrong, expected] of [
    ["offset='utc' basis='utc'", /\/domain\/clock, basis/],
    ["offset='absolute' start='999999999999999'", /clock\/@start/],
  ] as const) {
    const xml = imported('pc', '').replace("<clock offset='utc'>", `<clock ${wrong}>`)
    t.regex(refusal(xml).message, expected)
  }
})

test('arguments that a definition passes through come last', (t) => {
  const xml = imported('pc', '').replace(
    '</domain>',
    `<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-d'/><q:arg value='x'/><q:env name='A' value='b'/></q:commandline></domain>`,
  )
  const { args, env } = domainArgv(parseDomain(xml), options)
  t.deepEqual(args.slice(-2), ['-d', 'x'])
  t.deepEqual(env, { A: 'b' })
})

test('controllers have the names that QEMU has for them', (t) => {
  const named = (devices: string): string[] => {
    const xml = imported('pc', `<emulator>/usr/bin/qemu-system-x86_64</emulator>${devices}`)
    const { args } = domainArgv(parseDomain(xml), options)
    return args.filter((_, i) => args[i - 1] === '-device').map((arg) => arg.split(',')[0]!)
  }
  for (const [controller, driver] of [
    ["type='usb' model='nec-xhci' ports='15'", 'nec-usb-xhci'],
    ["type='usb' model='qemu-xhci'", 'qemu-xhci'],
    ["type='usb' model='ich9-ehci1'", 'ich9-usb-ehci1'],
    ["type='scsi' model='virtio-scsi'", 'virtio-scsi-pci'],
    ["type='scsi' model='lsilogic'", 'lsi'],
    ["type='scsi' model='lsisas1068'", 'mptsas1068'],
    ["type='scsi' model='lsisas1078'", 'megasas'],
    ["type='scsi' model='vmpvscsi'", 'pvscsi'],
  ] as const) {
    t.true(named(`<controller ${controller}/>`).includes(driver), controller)
  }
  if (!existsSync(qemu)) return without(t, qemu)
  const known = execFileSync(qemu, ['-device', 'help'], { encoding: 'utf8' })
  for (const driver of ['nec-usb-xhci', 'mptsas1068', 'megasas', 'pvscsi', 'isa-fdc']) {
    t.true(known.includes(`name "${driver}"`), driver)
  }
  const odd = imported('pc', "<controller type='scsi' model='ibmvscsi'/>")
  t.regex(refusal(odd).message, /controller\[\d\]\/@model: expected one of virtio-scsi/)
})

test('a card has the option ROM that its definition says', (t) => {
  for (const [rom, expected] of [
    ['', ''],
    ["<rom bar='off'/>", ',rombar=0'],
    ["<rom bar='on' file='/a.rom'/>", ',rombar=1,romfile=/a.rom'],
    ["<rom enabled='no'/>", ',romfile='],
  ] as const) {
    const xml = imported('pc', `<interface type='user'><model type='e1000'/>${rom}</interface>`)
    const card = domainArgv(parseDomain(xml), options).args.find((arg) => arg.startsWith('e1000,'))
    t.is(card?.replace(/^.*?mac=[^,]*/, '').replace(/,id=.*$/, ''), expected)
  }
})

test('making a command leaves the definition as it was', (t) => {
  const def = parseDomain(imported('pc', "<console type='pty'/>"))
  const before = structuredClone(def)
  domainArgv(def, options)
  t.deepEqual(def, before)
})

test("the watchdog of q35's chipset is turned on in QEMU", (t) => {
  const xml = imported('q35', "<watchdog model='itco' action='poweroff'/>")
  const { args } = domainArgv(parseDomain(xml), { ...options, features: qemuFeatures })
  t.true(args.includes('ICH9-LPC.noreboot=off'))
  t.is(args[args.indexOf('-action') + 1], 'watchdog=poweroff')
  t.false(args.some((arg) => arg.startsWith('itco')))
  const pc = imported('pc', "<watchdog model='itco'/>")
  t.regex(refusal(pc, { features: qemuFeatures }).message, /a part of q35/)
})

test('what our command has is known without asking it', (t) => {
  const [own] = emulators()
  t.deepEqual([...qemuKvmFeatures.devices!].toSorted(), [...own!.features.devices!].toSorted())
})

test('the real-time clock follows what its timer says, and catches up on ticks', (t) => {
  const rtc = (timer: string): string | undefined => {
    const xml = imported('pc', '').replace("<timer name='rtc' tickpolicy='catchup'/>", timer)
    const { args } = domainArgv(parseDomain(xml), options)
    return args[args.indexOf('-rtc') + 1]
  }
  t.is(rtc("<timer name='rtc' tickpolicy='catchup'/>"), 'base=utc,driftfix=slew')
  t.is(rtc("<timer name='rtc' tickpolicy='delay'/>"), 'base=utc')
  t.is(rtc("<timer name='rtc' track='guest'/>"), 'base=utc,clock=vm')
  t.is(
    rtc("<timer name='rtc' track='wall' tickpolicy='catchup'/>"),
    'base=utc,clock=host,driftfix=slew',
  )
  t.is(rtc(''), 'base=utc')
  for (const timer of ["tickpolicy='merge'", "tickpolicy='discard'", "track='boot'"]) {
    const xml = imported('pc', '').replace(
      "<timer name='rtc' tickpolicy='catchup'/>",
      `<timer name='rtc' ${timer}/>`,
    )
    t.regex(refusal(xml).message, /timer\[1\]\/@(?:tickpolicy|track).*expected one of/)
  }
})

test('what SMBIOS is to tell is told, and machines can be without ACPI', (t) => {
  const sysinfo = `<sysinfo type='smbios'>
    <bios><entry name='vendor'>Me</entry></bios>
    <system><entry name='manufacturer'>A, Inc.</entry><entry name='serial'>SN-42</entry></system>
    <baseBoard><entry name='product'>Board</entry></baseBoard>
    <chassis><entry name='asset'>7</entry></chassis>
    <oemStrings><entry>one,two</entry><entry>three</entry></oemStrings>
  </sysinfo>`
  const xml = imported(
    'pc',
    '',
    `<os><type arch='x86_64' machine='pc'>hvm</type><smbios mode='sysinfo'/></os>${sysinfo}`,
  )
    .replace(/<os><type[^>]*>hvm<\/type><\/os>/, '')
    .replace('<acpi/>', '')
  const { args, warnings } = domainArgv(parseDomain(xml), options)
  t.deepEqual(
    args.flatMap((arg, i) => (arg === '-smbios' ? [args[i + 1]] : [])),
    [
      'type=0,vendor=Me',
      'type=1,manufacturer=A,, Inc.,serial=SN-42',
      'type=2,product=Board',
      'type=3,asset=7',
      'type=11,value=one,,two,value=three',
    ],
  )
  t.true(args.includes('-no-acpi'))
  t.notRegex(warnings.join(' '), /SMBIOS|ACPI/i)
})

test('a port may keep what is behind it, and a licence comes in a table', (t) => {
  const xml = imported(
    'q35',
    "<controller type='pci' model='pcie-root-port' index='1'><target chassis='1' port='0x8' hotplug='off'/></controller>",
  ).replace('</type></os>', "</type><acpi><table type='slic'>/etc/slic</table></acpi></os>")
  const { args } = domainArgv(parseDomain(xml), options)
  t.regex(args.join(' '), /-device pcie-root-port,port=8,chassis=1,hotplug=off,id=pci\.1/)
  t.is(args[args.indexOf('-acpitable') + 1], 'sig=SLIC,file=/etc/slic')
})
