/** A command of virsh, for both daemons. `DIR` is a folder of each. */
export interface Step {
  command: string
  /** Why what they say is not the same. */
  differs?: string
}

const UUID = '00000000-0000-4000-8000-00000000000'

/** Documents that the script uses, by the name of their file. */
export function domains(at: string, emulator: string): Record<string, string> {
  const domain = (name: string, number: number, devices: string, more: string = ''): string =>
    `<domain type='qemu'><name>${name}</name><uuid>${UUID}${number}</uuid>
<memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>${more}
<devices><emulator>${emulator}</emulator>${devices}</devices></domain>`
  const volume = (name: string, more: string): string =>
    `<volume><name>${name}</name><capacity unit='MiB'>10</capacity><target><format type='qcow2'/>${more}</target></volume>`
  const disk = `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${at}/vda.img'/><target dev='vda' bus='virtio'/></disk>`
  const drive = `<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>`
  const card = `<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>`
  return {
    a: domain(
      'a',
      1,
      `${disk}${drive}${card}<serial type='pty'/><video><model type='vga'/></video>`,
    ),
    b: domain('b', 2, ''),
    v: domain('v', 4, '').replace('<vcpu>1', "<vcpu current='1'>3"),
    p: domain('p', 5, '').replace('<vcpu>1', '<vcpu>2'),
    nowhere: domain('n', 6, '', '').replace('<vcpu>1', "<vcpu cpuset='900'>1"),
    'nowhere-emulator': domain('n', 6, '', '').replace(
      '</vcpu>',
      "</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='900'/></cputune>",
    ),
    'same-name': domain('a', 3, ''),
    'same-uuid': domain('c', 1, ''),
    'no-memory': '<domain type="qemu"><name>x</name></domain>',
    broken: '<domain',
    unknown: domain('x', 8, '<gizmo/>'),
    disk: `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${at}/vdb.img'/><target dev='vdb' bus='virtio'/></disk>`,
    absent: `<disk type='file' device='disk'><source file='${at}/vdb.img'/><target dev='vdq' bus='virtio'/></disk>`,
    card: `<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/></interface>`,
    rng: `<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>`,
    volume: volume('x.qcow2', '<compat>1.1</compat><permissions><mode>0640</mode></permissions>'),
    over: volume('over.qcow2', '<compat>1.1</compat>').replace(
      '</volume>',
      `<backingStore><path>${at}/pool/x.qcow2</path><format type='qcow2'/></backingStore></volume>`,
    ),
    lazy: volume('l.qcow2', '<compat>0.10</compat><features><lazy_refcounts/></features>'),
    nameless: volume('', ''),
    elsewhere: volume('a/b', ''),
    pool: `<pool type='dir'><name>p</name><uuid>${UUID}9</uuid><target><path>${at}/pool</path></target></pool>`,
  }
}

const steps = (text: string): Step[] =>
  text
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => {
      const [command = '', differs] = line.split(/ {2,}# /)
      return differs === undefined ? { command } : { command, differs }
    })

/** What is asked, in this order. Behind `#` is why the answers are not the same. */
export const SCRIPT: readonly Step[] = steps(`
uri
capabilities  # it lists what works here
domcapabilities --virttype qemu  # it lists what works here
cpu-models x86_64  # those of the emulator are listed, in its order
nwfilter-list
secret-list
nodedev-dumpxml nothing
iface-dumpxml nothing
secret-dumpxml ${UUID}1
nwfilter-dumpxml nothing
nwfilter-dumpxml ${UUID}1
version
hostname
nodeinfo
nodecpumap
nodecpustats
nodememstats
freecell
maxvcpus --type qemu
list --all
list
list --all --name
define DIR/no-memory.xml  # our messages say the path and the line, and what is looked at first is another
define DIR/unknown.xml --validate  # ours is not RelaxNG
define DIR/broken.xml  # another parser, with another message
define DIR/a.xml
define DIR/same-name.xml
define DIR/same-uuid.xml
define DIR/a.xml
list --all
list --inactive --uuid
list --all --title
dominfo a
domstate a
domstate a --reason
domid a
domuuid a
domname a
domname ${UUID}1
domstate nobody
dumpxml a
dumpxml a --inactive
dumpxml a --migratable
domblklist a
domblklist a --details
domiflist a
domif-getlink a 52:54:00:00:00:01
domblkinfo a vda
domblkinfo a vdq
vcpucount a
vcpucount a --maximum
vcpucount a --live
domcontrol a
domjobinfo a
domjobinfo a --completed
dommemstat a
domblkstat a vda
destroy a
suspend a
resume a
shutdown a
reset a
autostart a
list --autostart --all
autostart a --disable
dominfo a
setmem a 32M --config
setmem a 128M --config
setmaxmem a 128M --config
setmaxmem a 64M --config
setvcpus a 2 --config
setvcpus a 2 --config --maximum
setvcpus a 1 --config --maximum
dumpxml a
desc a
desc a some words
desc a
desc a --title short --config
desc a --title
metadata a http://example.org/x
metadata a http://example.org/x --key app --set <m><n>1</n></m>
metadata a http://example.org/x
dumpxml a
attach-device a DIR/disk.xml --config
attach-device a DIR/disk.xml --config
attach-device a DIR/card.xml --config
attach-device a DIR/rng.xml --config
attach-device a DIR/disk.xml --live
attach-device a DIR/broken.xml --config  # another parser, with another message
dumpxml a
detach-device a DIR/disk.xml --config
detach-device a DIR/disk.xml --config
detach-device a DIR/card.xml --config
detach-device a DIR/card.xml --config
detach-device a DIR/rng.xml --config
detach-disk a vdq --config
update-device a DIR/disk.xml --config
attach-disk a DIR/vdb.img vdz --config
attach-disk a DIR/vdb.img vdy --config
attach-disk a DIR/iso.img hdd --config --type cdrom
attach-disk a DIR/vdb.img vdx --config
dumpxml a
detach-disk a vdx --config
detach-disk a vdz --config
detach-disk a vdy --config
detach-disk a hdd --config
dumpxml a
change-media a hdc DIR/iso.img --insert --config
domblklist a
change-media a hdc --eject --config
change-media a vda --eject --config
start a --force-boot --bypass-cache
destroy a
start a --paused
start a
vcpucount a --guest
list
domid a
domstate a --reason
resume a
resume a
domstate a --reason
suspend a
domstate a --reason
resume a
dumpxml a
dumpxml a --inactive
vcpuinfo a
vcpucount a
setvcpus a 2
setvcpus a 1
setmem a 32M
setmem a 128M
setmaxmem a 128M
setmaxmem a 128M --live
dommemstat a
domblkstat a vda
domblkstat a vdq
domblkinfo a vda
domblkinfo a --all
domifstat a 52:54:00:00:00:01
domifstat a vnet9
domifaddr a
domcontrol a
domjobinfo a
domjobabort a
attach-device a DIR/disk.xml
attach-device a DIR/disk.xml
domblklist a
attach-device a DIR/card.xml --live
domiflist a
detach-device a DIR/absent.xml
domblkstat a vdb
blockresize a vdb 2M
domblkinfo a vdb
dumpxml a
change-media a hdc DIR/iso.img --insert --live
domblklist a
change-media a hdc --eject --live
attach-disk a DIR/iso.img hdc --type cdrom --live
domblklist a
detach-disk a hdc --live
change-media a hdc --eject --live
domif-setlink a 52:54:00:00:00:01 down
domif-getlink a 52:54:00:00:00:01
domif-setlink a 52:54:00:00:00:01 up
metadata a http://example.org/x --live
metadata a http://example.org/x --remove --live --config
send-key a KEY_A KEY_B
send-key a 999
screenshot a DIR/pool/picture
screenshot a DIR/pool/picture --screen 3
qemu-monitor-command a --hmp info status
qemu-monitor-command a {"execute":"query-status"}
qemu-monitor-command a {"execute":"nonsense"}
qemu-monitor-command a nonsense
domstats a --state --balloon --vcpu
domstats a --block  # an empty drive has no image to number, and the size of a file is asked for at the time
domstats a --interface
vcpupin a
emulatorpin a
iothreadinfo a
schedinfo a  # there are no control groups
memtune a  # there are no control groups
blkdeviotune a vda  # there are no limits
domblkerror a
domxml-to-native qemu-argv --domain a  # it is another command line for the same machine
domxml-to-native other-argv --domain a
inject-nmi a  # there are no such interrupts
domdisplay a
vncdisplay a
ttyconsole a  # a console is a socket of the daemon here, not a terminal
domhostname a
domtime a
domfsinfo a
guestinfo a
snapshot-list a
snapshot-current a
snapshot-info a nothing
managedsave-remove a
dominfo a
rename-not-a-command
domrename a z
undefine a
list --transient
dominfo a
domrename a z
destroy a
list --all
define DIR/b.xml
start b --paused
screenshot b DIR/pool/picture
destroy b
domrename b z
list --all
domrename z b
create DIR/b.xml
domstate b
shutdown b
reboot b --mode agent
reboot b --mode acpi
reset b
destroy b
undefine b --nvram
undefine b
net-info nothing
net-list  # the network default is always there
pool-list --all  # the pool default is always there
pool-define DIR/pool.xml
pool-start p
pool-info p
pool-list  # the pool default is always there
pool-dumpxml p
vol-list p
vol-create-as p v.img 1M
vol-create-as p v.img 1M
vol-create-as p q.qcow2 1M --format qcow2
vol-info v.img p
vol-info q.qcow2 p
vol-path v.img p
vol-dumpxml v.img p
vol-create p DIR/volume.xml
vol-create p DIR/over.xml
vol-create p DIR/lazy.xml
vol-create p DIR/nameless.xml
vol-create p DIR/elsewhere.xml
pool-refresh p
vol-dumpxml x.qcow2 p
vol-dumpxml over.qcow2 p
vol-dumpxml ../x p
vol-info x.qcow2 p --physical
vol-resize v.img 2M p
vol-info v.img p
vol-clone v.img w.img p
vol-delete w.img p
vol-delete w.img p
vol-name DIR/pool/v.img
vol-pool DIR/pool/v.img
vol-key v.img p
pool-refresh p
pool-autostart p
pool-list --all  # the pool default is always there
pool-destroy p
vol-list p
pool-undefine p
pool-info p
# Where processors run
define DIR/p.xml
vcpupin p
emulatorpin p
vcpupin p 0 0 --config
vcpupin p 1 0-1 --config
vcpupin p 2 0 --config
vcpupin p 0 0 --live
vcpupin p 0 4000 --config
emulatorpin p 1 --config
dumpxml p
vcpupin p
emulatorpin p
start p
vcpuinfo p
vcpupin p
vcpupin p 0 1 --live
vcpupin p 1 r
vcpupin p 2 0
emulatorpin p 0
vcpupin p --live
vcpupin p --config
emulatorpin p --live
emulatorpin p --config
vcpuinfo p
dumpxml p
dumpxml p --inactive
destroy p
undefine p
define DIR/nowhere.xml
emulatorpin n
start n
undefine n
define DIR/nowhere-emulator.xml
start n
undefine n
# Processors that come and go
define DIR/v.xml
setvcpu v 1 --enable --config
dumpxml v
setvcpus v 3 --config
setvcpus v 2 --config --hotpluggable
dumpxml v
setvcpu v 0 --disable --config
setvcpu v 5 --enable --config
setvcpu v x --enable --config
setvcpu v 1 --enable --live
setvcpus v 1 --config
dumpxml v
start v
vcpucount v
setvcpus v 2 --live
setvcpus v 4 --live
setvcpu v 1 --enable --live
setvcpu v 0 --disable --live
setvcpu v 5 --enable
setvcpu v 1 --enable
setvcpu v 2 --enable --live --config
vcpucount v
dumpxml v --inactive
setvcpus v 1 --guest
destroy v
setvcpus v 2 --config --maximum
dumpxml v
undefine v
`)
