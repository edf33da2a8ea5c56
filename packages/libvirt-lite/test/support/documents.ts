// Documents in the shapes in which programs and people write them; the same ones each time.

/** A generator of numbers that gives the same ones for the same seed. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

const memories = [
  '<memory>524288</memory>',
  "<memory unit='MiB'>512</memory>",
  "<memory unit='GiB'>1</memory><currentMemory unit='MiB'>768</currentMemory>",
  "<memory unit='KB'>600000</memory>",
  "<memory unit='G'>1</memory><currentMemory>9999999</currentMemory>",
]
const processors = [
  '',
  '<vcpu>2</vcpu>',
  "<vcpu placement='static'>4</vcpu>",
  "<vcpu current='1'>4</vcpu>",
  "<vcpu cpuset='0-3,^2'>2</vcpu>",
]
const models = [
  '',
  "<cpu mode='host-passthrough'/>",
  "<cpu mode='host-passthrough' check='none' migratable='on'/>",
  "<cpu mode='host-model' check='partial'/>",
  "<cpu mode='custom' match='exact'><model>Nehalem</model></cpu>",
  "<cpu mode='custom' match='exact' check='partial'><model fallback='allow'>kvm64</model><feature policy='require' name='ssse3'/><feature name='sse4.1'/></cpu>",
  "<cpu mode='maximum'/>",
]
const features = [
  '',
  '<features><acpi/><apic/></features>',
  '<features><acpi/><apic/><pae/></features>',
  "<features><acpi/><apic/><vmport state='off'/></features>",
  "<features><acpi/><apic/><hyperv mode='custom'><relaxed state='on'/><vapic state='on'/><spinlocks state='on' retries='8191'/></hyperv><kvm><hidden state='on'/></kvm></features>",
]
const clocks = [
  '',
  "<clock offset='utc'/>",
  "<clock offset='localtime'/>",
  "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>",
  "<clock offset='variable' adjustment='-3600'/>",
]
const lives = [
  '',
  '<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>',
  '<on_crash>restart</on_crash>',
  "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
]
const boots = [
  '',
  '',
  "<boot dev='hd'/>",
  "<boot dev='cdrom'/><boot dev='hd'/>",
  "<boot dev='network'/>",
]
const disks = [
  "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/NAME.qcow2'/><target dev='vda' bus='virtio'/></disk>",
  "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='/images/NAME.qcow2'/><target dev='vdb'/></disk>",
  "<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/><source dev='/dev/vg/NAME'/><target dev='vdc' bus='virtio'/></disk>",
  "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/iso/NAME.iso'/><target dev='sda' bus='sata'/><readonly/></disk>",
  "<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>",
  "<disk type='file'><source file='/images/s.img'/><target dev='sdc' bus='scsi'/></disk>",
  "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'><host name='nbd.example'/></source><target dev='vdd' bus='virtio'/></disk>",
  "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='default' volume='NAME.qcow2'/><target dev='vde' bus='virtio'/></disk>",
  "<disk type='file' device='floppy'><source file='/images/f.img'/><target dev='fda'/></disk>",
  "<disk type='file'><source file='/images/u.img'/><target dev='sdh' bus='usb'/></disk>",
]
const ide = [
  "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>",
  "<disk type='file' device='disk'><source file='/images/NAME.img'/><target dev='hda'/></disk>",
]
const cards = [
  "<interface type='user'/>",
  "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
  "<interface type='network'><source network='default'/><model type='virtio'/></interface>",
  "<interface type='network'><mac address='52:54:00:AA:bb:02'/><source network='default'/><target dev='vnet3'/><model type='e1000'/></interface>",
  "<interface type='bridge'><source bridge='br0'/><model type='virtio'/><driver name='vhost' queues='2'/></interface>",
  "<interface type='direct'><source dev='eth0' mode='bridge'/><model type='e1000e'/></interface>",
  "<interface type='network'><source network='default'/><model type='virtio'/><mtu size='1400'/><link state='up'/></interface>",
]
const characters = [
  '',
  "<console type='pty'/>",
  "<serial type='pty'/><console type='pty'/>",
  "<serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>",
  "<serial type='file'><source path='/log/NAME.log'/></serial>",
  "<console type='pty'><target type='virtio' port='0'/></console>",
  "<serial type='pty'/><serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/><protocol type='telnet'/></serial>",
  "<parallel type='pty'/><serial type='unix'><source mode='bind' path='/run/NAME.sock'/></serial>",
]
const channels = [
  '',
  "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
  "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel><channel type='pty'><target type='virtio' name='a.b'/></channel>",
]
const screens = [
  '',
  '',
  "<graphics type='vnc' port='-1'/>",
  "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics><video><model type='vga'/></video>",
  "<graphics type='spice' autoport='yes'><listen type='address'/><image compression='off'/></graphics><video><model type='qxl'/></video><channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel><redirdev bus='usb' type='spicevmc'/><redirdev bus='usb' type='spicevmc'/><sound model='ich9'/>",
  "<graphics type='vnc'/><video><model type='virtio' heads='1'/></video><sound model='ich6'/>",
  "<video><model type='none'/></video>",
]
const others = [
  '',
  "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
  "<memballoon model='none'/>",
  "<memballoon model='virtio'><stats period='5'/></memballoon><watchdog model='i6300esb'/>",
  "<input type='tablet' bus='usb'/><input type='keyboard' bus='ps2'/>",
  "<input type='tablet'/><input type='keyboard' bus='usb'/><input type='mouse' bus='usb'/>",
  "<panic model='isa'/><rng model='virtio'><rate bytes='1024' period='1000'/><backend model='random'/></rng>",
  "<controller type='scsi' model='virtio-scsi'/><hub type='usb'/>",
  "<filesystem type='mount' accessmode='mapped'><source dir='/srv'/><target dir='share'/></filesystem>",
  "<vsock model='virtio'><cid auto='yes'/></vsock>",
  "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xabcd'/></source></hostdev>",
  "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='6' slot='0' function='1'/></source></hostdev>",
  "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
  "<controller type='virtio-serial' index='0' ports='16'/><controller type='usb' index='0' model='nec-xhci' ports='15'/>",
]

/** Documents whose parts were put together by chance, always by the same. */
export function documents(count: number): { name: string; xml: string }[] {
  const next = random(20_230_116)
  const pick = (from: readonly string[]) => from[Math.floor(next() * from.length)] ?? ''
  const some = (from: readonly string[], most: number) => {
    const chosen = new Set<string>()
    const wanted = Math.floor(next() * (most + 1))
    for (let i = 0; i < wanted; i++) chosen.add(pick(from))
    return [...chosen].join('\n')
  }
  return Array.from({ length: count }, (_, index) => {
    const name = `made-${index}`
    const machine = pick(['pc', 'q35', 'q35', 'pc-i440fx-7.2', 'pc-q35-7.1'])
    const ports =
      machine.includes('q35') && next() < 0.2
        ? Array.from(
            { length: 8 },
            (_, i) => `<controller type='pci' index='${i + 1}' model='pcie-root-port'/>`,
          ).join('')
        : ''
    const places = machine.includes('q35') ? disks : [...disks, ...ide, ...ide]
    const uuid =
      next() < 0.5 ? `<uuid>00000000-0000-4000-8000-${String(index).padStart(12, '0')}</uuid>` : ''
    const title = next() < 0.3 ? `<title>Number ${index} &amp; "more"</title>` : ''
    const xml = `<domain type='qemu'>
<name>${name}</name>${uuid}${title}
${pick(memories)}${pick(processors)}
<os><type arch='x86_64' machine='${machine}'>hvm</type>${pick(boots)}</os>
${pick(features)}${pick(models)}${pick(clocks)}${pick(lives)}
<devices>
<emulator>/usr/bin/qemu-system-x86_64</emulator>
${some(places, 4)}
${ports}
${some(cards, 3)}
${pick(characters)}
${pick(channels)}
${pick(screens)}
${some(others, 3)}
</devices>
</domain>
`
    return { name, xml: xml.replaceAll('NAME', name) }
  })
}
