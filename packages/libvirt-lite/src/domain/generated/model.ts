// @generated from the schema by src/domain/write-generated.ts
import type { XmlAttribute, XmlElement } from '../../xml/index.ts'

/** What a document had that the schema does not know; kept, and refused at the start. */
export interface Unknown {
  unknown?: XmlElement[]
  unknownAttributes?: XmlAttribute[]
}

/** `<acceleration>`: drawing on the host. */
export interface VideoModelAcceleration extends Unknown {
  accel2d?: boolean
  accel3d?: boolean
  rendernode?: string
}

/** `<access>`: who sees it. */
export interface MemoryBackingAccess extends Unknown {
  mode: 'shared' | 'private'
}

/** `<acpi>`: more ACPI tables. */
export interface OperatingSystemAcpi extends Unknown {
  tables?: OperatingSystemAcpiTable[]
}

/** `<active_pcr_banks>`: banks that are used. */
export interface TpmBackendActivePcrBanks extends Unknown {
  /** a bank */
  sha1?: true
  /** a bank */
  sha256?: true
  /** a bank */
  sha384?: true
  /** a bank */
  sha512?: true
}

/** `<adapter>`: a SCSI adapter. */
export interface HostDeviceSourceAdapter extends Unknown {
  name: string
}

/** `<address>`: a device of the host. */
export interface HostAddress extends Unknown {
  type?: 'pci'
  domain?: string
  bus?: string
  slot?: string
  function?: string
  device?: string
  target?: string
  unit?: string
  uuid?: string
}

/** `<address>`: where the device is for the guest. */
export type DeviceAddress =
  | (Unknown & {
      type: 'pci'
    domain?: number
    bus?: number
    slot?: number
    function?: number
    multifunction?: boolean
    })
  | (Unknown & {
      type: 'drive'
    controller?: number
    bus?: number
    target?: number
    unit?: number
    })
  | (Unknown & {
      type: 'virtio-serial'
    controller?: number
    bus?: number
    port?: number
    })
  | (Unknown & {
      type: 'ccid'
    controller?: number
    slot?: number
    })
  | (Unknown & {
      type: 'usb'
    bus?: number
    port?: string
    })
  | (Unknown & {
      type: 'isa'
    iobase?: number
    irq?: number
    })
  | (Unknown & {
      type: 'dimm'
    slot?: number
    base?: number
    })
  | (Unknown & {
      type: 'virtio-mmio'
    })
  | (Unknown & {
      type: 'unassigned'
    })

/** `<alias>`: the name of the device in the emulator; one of the user begins with ua-. */
export interface Alias extends Unknown {
  name: string
}

/** `<alignsize>`: alignment. */
export interface MemoryDeviceSourceAlignsize extends Unknown {
  unit?: string
  value: number
}

/** `<allocation>`: when it is taken. */
export interface MemoryBackingAllocation extends Unknown {
  mode?: 'immediate' | 'ondemand'
  threads?: number
}

/** `<apic>`: local interrupt controllers. */
export interface FeaturesApic extends Unknown {
  eoi?: boolean
}

/** `<audio>`: sound that goes with it. */
export interface GraphicsAudio extends Unknown {
  id: number
}

/** `<audio>`: where its sound goes. */
export interface AudioReference extends Unknown {
  id: number
}

/** `<audio>`: where the sound of cards goes. */
export interface Audio extends Unknown {
  id: number
  type: 'none' | 'alsa' | 'coreaudio' | 'jack' | 'oss' | 'pulseaudio' | 'sdl' | 'spice' | 'file' | 'dbus'
  timerPeriod?: number
  serverName?: string
  driver?: string
  path?: string
  tryMMap?: boolean
  exclusive?: boolean
  dspPolicy?: number
  input?: AudioDirection
  output?: AudioDirection
}

/** `<auth>`: who to log in as. */
export interface DiskAuth extends Unknown {
  username: string
  secret?: SecretReference
}

/** `<backend>`: devices of the host. */
export interface NetworkInterfaceBackend extends Unknown {
  tap?: string
  vhost?: string
}

/** `<backend>`: where they come from. */
export interface RandomGeneratorBackend extends Unknown {
  model: 'random' | 'egd' | 'builtin'
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  value: string
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
}

/** `<backend>`: who answers. */
export interface TpmBackend extends Unknown {
  type: 'passthrough' | 'emulator' | 'external'
  version?: '1.2' | '2.0'
  persistentState?: boolean
  device?: TpmBackendDevice
  encryption?: TpmBackendEncryption
  activePcrBanks?: TpmBackendActivePcrBanks
}

/** `<backend>`: who does it. */
export interface CryptoBackend extends Unknown {
  model: 'builtin' | 'lkcf'
  queues?: number
}

/** `<backenddomain>`: a driver domain of Xen. */
export interface DiskBackenddomain extends Unknown {
  name: string
}

/** `<backenddomain>`: a driver domain of Xen. */
export interface NetworkInterfaceBackenddomain extends Unknown {
  name: string
}

/** `<backingStore>`: the image below; empty when there is none. */
export interface BackingStore extends Unknown {
  type?: 'file' | 'block' | 'dir' | 'network' | 'volume' | 'nvme' | 'vhostuser'
  index?: number
  format?: BackingStoreFormat
  source?: DiskSource
  backingStore?: BackingStore
}

/** `<bandwidth>`: a bandwidth. */
export interface CpuNumaInterconnectsBandwidth extends Unknown {
  initiator: number
  target: number
  cache?: number
  type?: 'access' | 'read' | 'write'
  value?: number
  unit?: string
}

/** `<bandwidth>`: limits in KiB per second. */
export interface NetworkInterfaceBandwidth extends Unknown {
  inbound?: NetworkInterfaceBandwidthInbound
  outbound?: NetworkInterfaceBandwidthOutbound
}

/** `<binary>`: the program that shares it. */
export interface FilesystemBinary extends Unknown {
  path?: string
  xattr?: boolean
  cache?: FilesystemBinaryCache
  sandbox?: FilesystemBinarySandbox
  lock?: FilesystemBinaryLock
  threadPool?: FilesystemBinaryThreadPool
}

/** `<bios>`: settings of the firmware. */
export interface OperatingSystemBios extends Unknown {
  useserial?: boolean
  rebootTimeout?: number
}

/** `<bios>`: the table of bios. */
export interface SysinfoTable extends Unknown {
  entries?: SysinfoEntry[]
}

/** `<blkiotune>`: limits of disks on the host. */
export interface Blkiotune extends Unknown {
  /** share of the disks */
  weight?: number
  devices?: BlkiotuneDevice[]
}

/** `<block>`: size of blocks. */
export interface MemoryDeviceTargetBlock extends Unknown {
  unit?: string
  value: number
}

/** `<blockio>`: sizes of blocks. */
export interface DiskBlockio extends Unknown {
  logicalBlockSize?: number
  physicalBlockSize?: number
  discardGranularity?: number
}

/** `<boot>`: a kind of drive that firmware boots. */
export interface OperatingSystemBoot extends Unknown {
  dev: 'fd' | 'hd' | 'cdrom' | 'network'
}

/** `<boot>`: place in the order in which firmware tries devices. */
export interface DeviceBoot extends Unknown {
  order: number
  loadparm?: string
}

/** `<bootmenu>`: a menu of the firmware. */
export interface OperatingSystemBootmenu extends Unknown {
  enable?: boolean
  timeout?: number
}

/** `<cache>`: a cache of the node. */
export interface CpuNumaCellCache extends Unknown {
  level: number
  associativity: 'none' | 'direct' | 'full'
  policy: 'none' | 'writeback' | 'writethrough'
  size?: CpuNumaCellCacheSize
  line?: CpuNumaCellCacheLine
}

/** `<cache>`: what it keeps. */
export interface FilesystemBinaryCache extends Unknown {
  mode?: 'none' | 'always'
}

/** `<cache>`: what the guest knows of caches. */
export interface CpuCache extends Unknown {
  level?: number
  mode: 'emulate' | 'passthrough' | 'disable'
}

/** `<catchup>`: how lost ticks are caught up. */
export interface ClockTimerCatchup extends Unknown {
  threshold?: number
  slew?: number
  limit?: number
}

/** `<cell>`: a node. */
export interface CpuNumaCell extends Unknown {
  id?: number
  cpus?: string
  memory: number
  unit?: string
  memAccess?: 'shared' | 'private'
  discard?: boolean
  distances?: CpuNumaCellDistances
  caches?: CpuNumaCellCache[]
}

/** `<cfpc>`: cache flush on privilege change, on POWER. */
export interface FeaturesCfpc extends Unknown {
  value?: string
}

/** `<channel>`: a private channel between host and guest. */
export interface Channel extends Unknown {
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  target?: ChannelTarget
  alias?: Alias
  address?: DeviceAddress
}

/** `<channel>`: how a channel of SPICE is secured. */
export interface GraphicsChannel extends Unknown {
  name: 'main' | 'display' | 'inputs' | 'cursor' | 'playback' | 'record' | 'smartcard' | 'usbredir'
  mode: 'any' | 'secure' | 'insecure'
}

/** `<cid>`: number of the guest. */
export interface VsockCid extends Unknown {
  auto?: boolean
  address?: number
}

/** `<clipboard>`: copying and pasting. */
export interface GraphicsClipboard extends Unknown {
  copypaste: boolean
}

/** `<clipboard>`: the clipboard of host and guest. */
export interface CharacterSourceClipboard extends Unknown {
  copypaste?: boolean
}

/** `<clock>`: what the clock shows at the start, and timers. */
export interface Clock extends Unknown {
  offset: 'utc' | 'localtime' | 'variable' | 'timezone' | 'absolute'
  timezone?: string
  adjustment?: string
  basis?: 'utc' | 'localtime'
  start?: number
  timers?: ClockTimer[]
}

/** `<coalesce>`: how interrupts are gathered. */
export interface NetworkInterfaceCoalesce extends Unknown {
  rx?: NetworkInterfaceCoalesceRx
}

/** `<codec>`: a part of a card of High Definition Audio. */
export interface SoundCodec extends Unknown {
  type: 'duplex' | 'micro' | 'output'
}

/** `<config>`: configuration of an RBD cluster. */
export interface DiskSourceConfig extends Unknown {
  file: string
}

/** `<console>`: a console: a serial port seen as one, or a port of a virtio-serial controller. */
export interface Console extends Unknown {
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  tty?: string
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  target?: ConsoleTarget
  alias?: Alias
  address?: DeviceAddress
}

/** `<controller>`: what devices are connected to. */
export interface Controller extends Unknown {
  type: 'pci' | 'scsi' | 'usb' | 'ide' | 'virtio-serial' | 'sata' | 'fdc' | 'ccid' | 'xenbus' | 'isa'
  index?: number
  model?: string
  ports?: number
  vectors?: number
  maxGrantFrames?: number
  maxEventChannels?: number
  /** KiB of addresses for 64-bit BARs */
  pcihole64?: number
  modelName?: ControllerModelName
  target?: ControllerTarget
  master?: ControllerMaster
  driver?: ControllerDriver
  alias?: Alias
  address?: DeviceAddress
}

/** `<cookie>`: one of them. */
export interface DiskSourceCookiesCookie extends Unknown {
  name: string
  value: string
}

/** `<cookies>`: cookies for an HTTP server. */
export interface DiskSourceCookies extends Unknown {
  cookies?: DiskSourceCookiesCookie[]
}

/** `<cpu>`: the processor that the guest sees. */
export interface Cpu extends Unknown {
  mode?: 'custom' | 'host-model' | 'host-passthrough' | 'maximum'
  match?: 'minimum' | 'exact' | 'strict'
  check?: 'none' | 'partial' | 'full'
  migratable?: boolean
  model?: CpuModel
  /** the vendor that the host must have */
  vendor?: string
  topology?: CpuTopology
  cache?: CpuCache
  maxphysaddr?: CpuMaxphysaddr
  features?: CpuFeature[]
  numa?: CpuNuma
}

/** `<cputune>`: where and how long processors run. */
export interface Cputune extends Unknown {
  /** share of the host */
  shares?: number
  /** microseconds */
  period?: number
  /** microseconds of a period; -1 for all */
  quota?: number
  /** microseconds */
  globalPeriod?: number
  /** microseconds of a period; -1 for all */
  globalQuota?: number
  /** microseconds */
  emulatorPeriod?: number
  /** microseconds of a period; -1 for all */
  emulatorQuota?: number
  /** microseconds */
  iothreadPeriod?: number
  /** microseconds of a period; -1 for all */
  iothreadQuota?: number
  vcpupins?: CputuneVcpupin[]
  emulatorpin?: CputuneEmulatorpin
  iothreadpins?: CputuneIothreadpin[]
  vcpuscheds?: CputuneVcpusched[]
  iothreadscheds?: CputuneIothreadsched[]
  emulatorsched?: CputuneEmulatorsched
}

/** `<crypto>`: a device that encrypts. */
export interface Crypto extends Unknown {
  model?: 'virtio'
  type?: 'qemu'
  backend?: CryptoBackend
  driver?: VirtioDriver
  alias?: Alias
  address?: DeviceAddress
}

/** `<currentMemory>`: KiB that the guest has now. */
export interface MemorySize extends Unknown {
  unit?: string
  value: number
}

/** `<defaultiothread>`: threads of the main loop. */
export interface Defaultiothread extends Unknown {
  threadPoolMin?: number
  threadPoolMax?: number
}

/** `<device>`: limits of one disk. */
export interface BlkiotuneDevice extends Unknown {
  /** the disk */
  path?: string
  /** share of it */
  weight?: number
  /** a limit */
  readIopsSec?: number
  /** a limit */
  writeIopsSec?: number
  /** a limit */
  readBytesSec?: number
  /** a limit */
  writeBytesSec?: number
}

/** `<device>`: the one of the host. */
export interface TpmBackendDevice extends Unknown {
  path: string
}

/** `<devices>`: the devices. */
export interface Devices extends Unknown {
  /** the program that runs the domain */
  emulator?: string
  disks?: Disk[]
  controllers?: Controller[]
  leases?: Lease[]
  filesystems?: Filesystem[]
  interfaces?: NetworkInterface[]
  smartcards?: Smartcard[]
  serials?: Serial[]
  parallels?: Parallel[]
  consoles?: Console[]
  channels?: Channel[]
  inputs?: Input[]
  tpms?: Tpm[]
  graphics?: Graphics[]
  sounds?: Sound[]
  audios?: Audio[]
  videos?: Video[]
  hostdevs?: HostDevice[]
  redirdevs?: RedirectedDevice[]
  redirfilter?: Redirfilter
  hubs?: Hub[]
  watchdogs?: Watchdog[]
  memballoon?: MemoryBalloon
  rngs?: RandomGenerator[]
  nvram?: Nvram
  panics?: Panic[]
  shmems?: SharedMemory[]
  memories?: MemoryDevice[]
  iommu?: Iommu
  vsock?: Vsock
  cryptos?: Crypto[]
}

/** `<dirty-ring>`: a ring of dirty pages. */
export interface FeaturesKvmDirtyRing extends Unknown {
  state?: boolean
  size?: number
}

/** `<disk>`: a disk, CD drive or floppy drive. */
export interface Disk extends Unknown {
  type?: 'file' | 'block' | 'dir' | 'network' | 'volume' | 'nvme' | 'vhostuser'
  device?: 'disk' | 'lun' | 'cdrom' | 'floppy'
  model?: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional'
  rawio?: boolean
  sgio?: 'filtered' | 'unfiltered'
  snapshot?: 'no' | 'internal' | 'external' | 'manual'
  driver?: DiskDriver
  auth?: DiskAuth
  source?: DiskSource
  backingStore?: BackingStore
  backenddomain?: DiskBackenddomain
  geometry?: DiskGeometry
  blockio?: DiskBlockio
  target?: DiskTarget
  iotune?: DiskIotune
  /** the guest cannot write */
  readonly?: true
  /** other domains have it at the same time */
  shareable?: true
  transient?: DiskTransient
  /** serial number that the guest sees */
  serial?: string
  /** World Wide Name */
  wwn?: string
  /** vendor of a SCSI disk */
  vendor?: string
  /** product of a SCSI disk */
  product?: string
  encryption?: DiskEncryption
  boot?: DeviceBoot
  alias?: Alias
  address?: DeviceAddress
}

/** `<distances>`: how far others are. */
export interface CpuNumaCellDistances extends Unknown {
  siblings?: CpuNumaCellDistancesSibling[]
}

/** `<domain>`: a virtual machine. */
export interface DomainDefinition extends Unknown {
  type: 'qemu' | 'kvm' | 'hvf'
  id?: number
  /** name of the domain */
  name: string
  /** identity of the domain */
  uuid?: string
  /** identity that changes when the domain is copied */
  genid?: string
  /** a title */
  title?: string
  /** a description */
  description?: string
  /** what other programs keep here, by namespace */
  metadata?: XmlElement
  maxMemory?: MaxMemory
  memory?: Memory
  currentMemory?: MemorySize
  blkiotune?: Blkiotune
  memtune?: Memtune
  memoryBacking?: MemoryBacking
  vcpu?: Vcpu
  vcpus?: Vcpus
  /** how many I/O threads there are */
  iothreads?: number
  iothreadids?: Iothreadids
  defaultiothread?: Defaultiothread
  cputune?: Cputune
  numatune?: Numatune
  resource?: Resource
  sysinfos?: SystemInformation[]
  /** a boot loader of the host */
  bootloader?: string
  /** its arguments */
  bootloaderArgs?: string
  os?: OperatingSystem
  idmap?: Idmap
  features?: Features
  cpu?: Cpu
  clock?: Clock
  /** when the guest powers off */
  onPoweroff?: 'destroy' | 'restart' | 'rename-restart' | 'preserve'
  /** when the guest reboots */
  onReboot?: 'destroy' | 'restart' | 'rename-restart' | 'preserve'
  /** when the guest crashes */
  onCrash?: 'destroy' | 'restart' | 'rename-restart' | 'preserve' | 'coredump-destroy' | 'coredump-restart'
  /** when locks are lost */
  onLockfailure?: 'poweroff' | 'restart' | 'pause' | 'ignore'
  pm?: Pm
  perf?: Perf
  devices?: Devices
  seclabels?: SecurityLabel[]
  qemuCommandline?: QemuCommandline
  /** keys, on S/390 */
  keywrap?: XmlElement
  /** encrypted guests */
  launchSecurity?: XmlElement
}

/** `<downscript>`: a program that disconnects it. */
export interface NetworkInterfaceDownscript extends Unknown {
  path: string
}

/** `<driver>`: how it is shared. */
export interface FilesystemDriver extends Unknown {
  type?: 'path' | 'handle' | 'loop' | 'nbd' | 'ploop' | 'virtiofs'
  format?: string
  wrpolicy?: 'immediate'
  queue?: number
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
}

/** `<driver>`: how the emulator offers it. */
export interface ControllerDriver extends Unknown {
  queues?: number
  cmdPerLun?: number
  maxSectors?: number
  ioeventfd?: boolean
  iothread?: number
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
}

/** `<driver>`: how the emulator offers it. */
export interface IommuDriver extends Unknown {
  intremap?: boolean
  cachingMode?: boolean
  eim?: boolean
  iotlb?: boolean
  awBits?: number
}

/** `<driver>`: how the emulator offers it. */
export interface VideoDriver extends Unknown {
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
  name?: 'qemu' | 'vhostuser'
  vgaconf?: 'io' | 'on' | 'off'
}

/** `<driver>`: how the emulator offers it. */
export interface VirtioDriver extends Unknown {
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
}

/** `<driver>`: how the emulator offers the card. */
export interface NetworkInterfaceDriver extends Unknown {
  name?: 'qemu' | 'vhost' | 'vfio' | 'kvm' | 'xen'
  txmode?: 'iothread' | 'timer'
  ioeventfd?: boolean
  eventIdx?: boolean
  queues?: number
  rxQueueSize?: number
  txQueueSize?: number
  rss?: boolean
  rssHashReport?: boolean
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
  host?: NetworkInterfaceDriverHost
  guest?: NetworkInterfaceDriverGuest
}

/** `<driver>`: how the emulator reads and writes it. */
export interface DiskDriver extends Unknown {
  name?: 'qemu' | 'tap' | 'tap2' | 'phy' | 'file'
  type?: 'raw' | 'dir' | 'bochs' | 'cloop' | 'dmg' | 'iso' | 'vpc' | 'vdi' | 'fat' | 'vhd' | 'ploop' | 'cow' | 'qcow' | 'qcow2' | 'qed' | 'vmdk' | 'luks' | 'aio'
  cache?: 'default' | 'none' | 'writethrough' | 'writeback' | 'directsync' | 'unsafe'
  errorPolicy?: 'default' | 'stop' | 'report' | 'ignore' | 'enospace'
  rerrorPolicy?: 'default' | 'stop' | 'report' | 'ignore'
  io?: 'default' | 'native' | 'threads' | 'io_uring'
  ioeventfd?: boolean
  eventIdx?: boolean
  copyOnRead?: boolean
  discard?: 'default' | 'unmap' | 'ignore'
  iothread?: number
  detectZeroes?: 'default' | 'off' | 'on' | 'unmap'
  queues?: number
  queueSize?: number
  iommu?: boolean
  ats?: boolean
  packed?: boolean
  pagePerVq?: boolean
}

/** `<driver>`: the driver of the host. */
export interface HostDeviceDriver extends Unknown {
  name?: 'vfio' | 'kvm' | 'xen'
}

/** `<emulatorpin>`: processors of the host for the emulator. */
export interface CputuneEmulatorpin extends Unknown {
  cpuset: string
}

/** `<emulatorsched>`: how the emulator is scheduled. */
export interface CputuneEmulatorsched extends Unknown {
  scheduler: 'fifo' | 'rr' | 'batch' | 'idle'
  priority?: number
}

/** `<encryption>`: encryption of the image. */
export interface DiskEncryption extends Unknown {
  format: 'default' | 'qcow' | 'luks' | 'luks2' | 'luks-any'
  engine?: 'qemu' | 'librbd'
  secrets?: SecretReference[]
}

/** `<encryption>`: of its state. */
export interface TpmBackendEncryption extends Unknown {
  secret: string
}

/** `<entry>`: a value. */
export interface SysinfoEntry extends Unknown {
  name?: string
  file?: string
  value: string
}

/** `<event>`: an event that is counted. */
export interface PerfEvent extends Unknown {
  name: string
  enabled: boolean
}

/** `<feature>`: a feature that is set or cleared. */
export interface CpuFeature extends Unknown {
  policy?: 'force' | 'require' | 'optional' | 'disable' | 'forbid'
  name: string
}

/** `<feature>`: one of its features. */
export interface OperatingSystemFirmwareFeature extends Unknown {
  enabled: boolean
  name: 'enrolled-keys' | 'secure-boot'
}

/** `<features>`: features of the machine. */
export interface Features extends Unknown {
  /** tables of ACPI */
  acpi?: true
  apic?: FeaturesApic
  /** more than 4 GiB in 32-bit guests */
  pae?: true
  hap?: FeatureState
  /** Hyper-V, on Xen */
  viridian?: true
  /** a network of its own, for containers */
  privnet?: true
  hyperv?: FeaturesHyperv
  kvm?: FeaturesKvm
  pvspinlock?: FeatureState
  pmu?: FeatureState
  vmport?: FeatureState
  gic?: FeaturesGic
  smm?: FeaturesSmm
  ioapic?: FeaturesIoapic
  hpt?: FeaturesHpt
  htm?: FeatureState
  nestedHv?: FeatureState
  vmcoreinfo?: FeatureState
  ccfAssist?: FeatureState
  cfpc?: FeaturesCfpc
  sbbc?: FeaturesSbbc
  ibs?: FeaturesIbs
  msrs?: FeaturesMsrs
  tcg?: FeaturesTcg
  asyncTeardown?: FeatureState
}

/** `<fibrechannel>`: identity on Fibre Channel. */
export interface ResourceFibrechannel extends Unknown {
  appid: string
}

/** `<filesystem>`: a folder of the host. */
export interface Filesystem extends Unknown {
  type?: 'mount' | 'block' | 'file' | 'template' | 'ram' | 'bind' | 'volume'
  accessmode?: 'passthrough' | 'mapped' | 'squash'
  model?: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional'
  multidevs?: 'remap' | 'forbid' | 'warn'
  fmode?: string
  dmode?: string
  driver?: FilesystemDriver
  binary?: FilesystemBinary
  source?: FilesystemSource
  target?: FilesystemTarget
  /** the guest cannot write */
  readonly?: true
  /** bytes it may have */
  spaceHardLimit?: number
  /** bytes it should have */
  spaceSoftLimit?: number
  alias?: Alias
  address?: DeviceAddress
}

/** `<filetransfer>`: dropping of files. */
export interface GraphicsFiletransfer extends Unknown {
  enable: boolean
}

/** `<filterref>`: a filter of packets. */
export interface NetworkInterfaceFilterref extends Unknown {
  filter: string
  parameters?: NetworkInterfaceFilterrefParameter[]
}

/** `<firmware>`: what firmware must be able to. */
export interface OperatingSystemFirmware extends Unknown {
  features?: OperatingSystemFirmwareFeature[]
}

/** `<format>`: format of the image. */
export interface BackingStoreFormat extends Unknown {
  type: 'raw' | 'dir' | 'bochs' | 'cloop' | 'dmg' | 'iso' | 'vpc' | 'vdi' | 'fat' | 'vhd' | 'ploop' | 'cow' | 'qcow' | 'qcow2' | 'qed' | 'vmdk' | 'luks'
}

/** `<frames>`: packets for an interrupt. */
export interface NetworkInterfaceCoalesceRxFrames extends Unknown {
  max?: number
}

/** `<geometry>`: cylinders, heads and sectors of a track. */
export interface DiskGeometry extends Unknown {
  cyls: number
  heads: number
  secs: number
  trans?: 'default' | 'none' | 'auto' | 'lba'
}

/** `<gic>`: interrupt controller, on Arm. */
export interface FeaturesGic extends Unknown {
  version?: '2' | '3' | 'host'
}

/** `<gl>`: OpenGL on the host. */
export interface GraphicsGl extends Unknown {
  enable?: boolean
  rendernode?: string
}

/** `<graphics>`: a screen that people look at. */
export interface Graphics extends Unknown {
  type: 'vnc' | 'spice' | 'sdl' | 'rdp' | 'desktop' | 'egl-headless' | 'dbus'
  socket?: string
  port?: number
  tlsPort?: number
  autoport?: boolean
  websocket?: number
  replaceUser?: boolean
  multiUser?: boolean
  listen?: string
  keymap?: string
  defaultMode?: 'any' | 'secure' | 'insecure'
  display?: string
  xauth?: string
  fullscreen?: boolean
  p2p?: boolean
  address?: string
  sharePolicy?: 'allow-exclusive' | 'force-shared' | 'ignore'
  powerControl?: boolean
  passwd?: string
  passwdValidTo?: string
  connected?: 'fail' | 'disconnect' | 'keep'
  listens?: GraphicsListen[]
  channels?: GraphicsChannel[]
  image?: GraphicsImage
  jpeg?: GraphicsJpeg
  zlib?: GraphicsZlib
  playback?: GraphicsPlayback
  streaming?: GraphicsStreaming
  mouse?: GraphicsMouse
  clipboard?: GraphicsClipboard
  filetransfer?: GraphicsFiletransfer
  gl?: GraphicsGl
  audio?: GraphicsAudio
}

/** `<guest>`: name of the card in the guest. */
export interface NetworkInterfaceGuest extends Unknown {
  dev?: string
  actual?: string
}

/** `<guest>`: what the guest leaves to the network. */
export interface NetworkInterfaceDriverGuest extends Unknown {
  csum?: boolean
  tso4?: boolean
  tso6?: boolean
  ecn?: boolean
  ufo?: boolean
}

/** `<hap>`: nested paging. */
export interface FeatureState extends Unknown {
  state?: boolean
}

/** `<host>`: a server of a network disk. */
export interface NetworkHost extends Unknown {
  name?: string
  port?: number
  transport?: 'tcp' | 'unix' | 'rdma'
  socket?: string
}

/** `<host>`: a server of iSCSI. */
export interface HostDeviceSourceHost extends Unknown {
  name?: string
  port?: number
}

/** `<host>`: what the host leaves to the network. */
export interface NetworkInterfaceDriverHost extends Unknown {
  csum?: boolean
  gso?: boolean
  tso4?: boolean
  tso6?: boolean
  ecn?: boolean
  ufo?: boolean
  mrgRxbuf?: boolean
}

/** `<hostdev>`: a device of the host that the guest has for itself. */
export interface HostDevice extends Unknown {
  mode?: 'subsystem' | 'capabilities'
  type: 'usb' | 'pci' | 'scsi' | 'scsi_host' | 'mdev' | 'storage' | 'misc' | 'net'
  managed?: boolean
  model?: string
  display?: boolean
  ramfb?: boolean
  sgio?: 'filtered' | 'unfiltered'
  rawio?: boolean
  driver?: HostDeviceDriver
  source?: HostDeviceSource
  /** the guest cannot write */
  readonly?: true
  /** other domains have it at the same time */
  shareable?: true
  boot?: DeviceBoot
  alias?: Alias
  rom?: OptionRom
  address?: DeviceAddress
  teaming?: HostDeviceTeaming
}

/** `<hpt>`: page tables, on POWER. */
export interface FeaturesHpt extends Unknown {
  resizing?: 'enabled' | 'disabled' | 'required'
}

/** `<hub>`: a USB hub. */
export interface Hub extends Unknown {
  type: 'usb'
  alias?: Alias
  address?: DeviceAddress
}

/** `<hugepages>`: large pages. */
export interface MemoryBackingHugepages extends Unknown {
  pages?: MemoryBackingHugepagesPage[]
}

/** `<hyperv>`: what Windows knows of its own hypervisor. */
export interface FeaturesHyperv extends Unknown {
  mode?: 'custom' | 'passthrough'
  relaxed?: FeatureState
  vapic?: FeatureState
  spinlocks?: FeaturesHypervSpinlocks
  vpindex?: FeatureState
  runtime?: FeatureState
  synic?: FeatureState
  stimer?: FeaturesHypervStimer
  reset?: FeatureState
  vendorId?: FeaturesHypervVendorId
  frequencies?: FeatureState
  reenlightenment?: FeatureState
  tlbflush?: FeatureState
  ipi?: FeatureState
  evmcs?: FeatureState
  avic?: FeatureState
}

/** `<ibs>`: indirect branches, on POWER. */
export interface FeaturesIbs extends Unknown {
  value?: string
}

/** `<identity>`: who reads from an NFS server. */
export interface DiskSourceIdentity extends Unknown {
  user?: string
  group?: string
}

/** `<idmap>`: user ids of containers. */
export interface Idmap extends Unknown {
  uids?: IdRange[]
  gids?: IdRange[]
}

/** `<image>`: compression of pictures. */
export interface GraphicsImage extends Unknown {
  compression: 'auto_glz' | 'auto_lz' | 'quic' | 'glz' | 'lz' | 'off'
}

/** `<inbound>`: to the guest. */
export interface NetworkInterfaceBandwidthInbound extends Unknown {
  average?: number
  peak?: number
  floor?: number
  burst?: number
}

/** `<initiator>`: the initiator of iSCSI. */
export interface DiskSourceInitiator extends Unknown {
  iqn?: DiskSourceInitiatorIqn
}

/** `<input>`: a keyboard, mouse or tablet. */
export interface Input extends Unknown {
  type: 'mouse' | 'tablet' | 'keyboard' | 'passthrough' | 'evdev'
  bus?: 'ps2' | 'usb' | 'xen' | 'parallels' | 'virtio' | 'none'
  model?: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional'
  driver?: VirtioDriver
  source?: InputSource
  alias?: Alias
  address?: DeviceAddress
}

/** `<input>`: what is recorded. */
export interface AudioDirection extends Unknown {
  mixingEngine?: boolean
  fixedSettings?: boolean
  voices?: number
  bufferLength?: number
  dev?: string
  bufferCount?: number
  tryPoll?: boolean
  name?: string
  streamName?: string
  latency?: number
  settings?: AudioSettings
}

/** `<interconnects>`: speed between nodes. */
export interface CpuNumaInterconnects extends Unknown {
  latencies?: CpuNumaInterconnectsLatency[]
  bandwidths?: CpuNumaInterconnectsBandwidth[]
}

/** `<interface>`: a network card. */
export interface NetworkInterface extends Unknown {
  type: 'user' | 'ethernet' | 'vhostuser' | 'server' | 'client' | 'mcast' | 'network' | 'bridge' | 'internal' | 'direct' | 'hostdev' | 'udp' | 'vdpa'
  managed?: boolean
  trustGuestRxFilters?: boolean
  mac?: NetworkInterfaceMac
  source?: NetworkInterfaceSource
  vlan?: NetworkInterfaceVlan
  virtualport?: NetworkInterfaceVirtualport
  bandwidth?: NetworkInterfaceBandwidth
  port?: NetworkInterfacePort
  backenddomain?: NetworkInterfaceBackenddomain
  ips?: NetworkInterfaceIp[]
  script?: NetworkInterfaceScript
  downscript?: NetworkInterfaceDownscript
  target?: NetworkInterfaceTarget
  guest?: NetworkInterfaceGuest
  model?: NetworkInterfaceModel
  driver?: NetworkInterfaceDriver
  backend?: NetworkInterfaceBackend
  filterref?: NetworkInterfaceFilterref
  tune?: NetworkInterfaceTune
  link?: NetworkInterfaceLink
  mtu?: NetworkInterfaceMtu
  coalesce?: NetworkInterfaceCoalesce
  teaming?: NetworkInterfaceTeaming
  boot?: DeviceBoot
  alias?: Alias
  rom?: OptionRom
  address?: DeviceAddress
}

/** `<ioapic>`: who has the I/O APIC. */
export interface FeaturesIoapic extends Unknown {
  driver?: 'kvm' | 'qemu'
}

/** `<iommu>`: an IOMMU that the guest sees. */
export interface Iommu extends Unknown {
  model: 'intel' | 'smmuv3' | 'virtio'
  driver?: IommuDriver
  alias?: Alias
  address?: DeviceAddress
}

/** `<iothread>`: a thread. */
export interface IothreadidsIothread extends Unknown {
  id: number
  threadPoolMin?: number
  threadPoolMax?: number
}

/** `<iothreadids>`: each I/O thread. */
export interface Iothreadids extends Unknown {
  iothreads?: IothreadidsIothread[]
}

/** `<iothreadpin>`: processors of the host for an I/O thread. */
export interface CputuneIothreadpin extends Unknown {
  iothread: number
  cpuset: string
}

/** `<iothreadsched>`: how I/O threads are scheduled. */
export interface CputuneIothreadsched extends Unknown {
  iothreads: string
  scheduler: 'fifo' | 'rr' | 'batch' | 'idle'
  priority?: number
}

/** `<iotune>`: limits of bytes and requests per second. */
export interface DiskIotune extends Unknown {
  /** a limit */
  totalBytesSec?: number
  /** a limit */
  readBytesSec?: number
  /** a limit */
  writeBytesSec?: number
  /** a limit */
  totalIopsSec?: number
  /** a limit */
  readIopsSec?: number
  /** a limit */
  writeIopsSec?: number
  /** a limit */
  totalBytesSecMax?: number
  /** a limit */
  readBytesSecMax?: number
  /** a limit */
  writeBytesSecMax?: number
  /** a limit */
  totalIopsSecMax?: number
  /** a limit */
  readIopsSecMax?: number
  /** a limit */
  writeIopsSecMax?: number
  /** a limit */
  sizeIopsSec?: number
  /** disks with the same name share the limits */
  groupName?: string
  /** a limit */
  totalBytesSecMaxLength?: number
  /** a limit */
  readBytesSecMaxLength?: number
  /** a limit */
  writeBytesSecMaxLength?: number
  /** a limit */
  totalIopsSecMaxLength?: number
  /** a limit */
  readIopsSecMaxLength?: number
  /** a limit */
  writeIopsSecMaxLength?: number
}

/** `<ip>`: an address of the guest, or the network of type user. */
export interface NetworkInterfaceIp extends Unknown {
  address: string
  family?: 'ipv4' | 'ipv6'
  prefix?: number
  peer?: string
}

/** `<iqn>`: its name. */
export interface DiskSourceInitiatorIqn extends Unknown {
  name: string
}

/** `<jpeg>`: compression of pictures on slow links. */
export interface GraphicsJpeg extends Unknown {
  compression: 'auto' | 'never' | 'always'
}

/** `<kvm>`: what guests know of KVM. */
export interface FeaturesKvm extends Unknown {
  hidden?: FeatureState
  hintDedicated?: FeatureState
  pollControl?: FeatureState
  pvIpi?: FeatureState
  dirtyRing?: FeaturesKvmDirtyRing
}

/** `<label>`: labels of it. */
export interface MemoryDeviceTargetLabel extends Unknown {
  size?: MemoryDeviceTargetLabelSize
}

/** `<latency>`: a latency. */
export interface CpuNumaInterconnectsLatency extends Unknown {
  initiator: number
  target: number
  cache?: number
  type?: 'access' | 'read' | 'write'
  value?: number
}

/** `<lease>`: a lock of a lock manager. */
export interface Lease extends Unknown {
  /** the lock space */
  lockspace?: string
  /** name of the lock */
  key?: string
  target?: LeaseTarget
}

/** `<line>`: size of a line. */
export interface CpuNumaCellCacheLine extends Unknown {
  value: number
  unit?: string
}

/** `<link>`: whether the cable is plugged in. */
export interface NetworkInterfaceLink extends Unknown {
  state: 'up' | 'down'
}

/** `<listen>`: where it is listened on. */
export interface GraphicsListen extends Unknown {
  type: 'address' | 'network' | 'socket' | 'none'
  address?: string
  network?: string
  socket?: string
  fromConfig?: number
}

/** `<loader>`: the firmware. */
export interface OperatingSystemLoader extends Unknown {
  readonly?: boolean
  secure?: boolean
  type?: 'rom' | 'pflash'
  stateless?: boolean
  format?: 'raw' | 'qcow2'
  value: string
}

/** `<local>`: the end of UDP on the host. */
export interface NetworkInterfaceSourceLocal extends Unknown {
  address?: string
  port: number
}

/** `<lock>`: what locks it has. */
export interface FilesystemBinaryLock extends Unknown {
  posix?: boolean
  flock?: boolean
}

/** `<log>`: a file with everything that came. */
export interface CharacterLog extends Unknown {
  file: string
  append?: boolean
}

/** `<mac>`: address of the card. */
export interface NetworkInterfaceMac extends Unknown {
  address: string
  type?: 'generated' | 'static'
  check?: boolean
}

/** `<master>`: where it is among its companions. */
export interface ControllerMaster extends Unknown {
  startport: number
}

/** `<maxMemory>`: KiB that memory can grow to. */
export interface MaxMemory extends Unknown {
  slots?: number
  unit?: string
  value: number
}

/** `<maxphysaddr>`: bits of addresses. */
export interface CpuMaxphysaddr extends Unknown {
  mode: 'emulate' | 'passthrough'
  bits?: number
}

/** `<memballoon>`: the device by which memory is taken from the guest and given back. */
export interface MemoryBalloon extends Unknown {
  model: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional' | 'xen' | 'none'
  autodeflate?: boolean
  freePageReporting?: boolean
  stats?: MemoryBalloonStats
  alias?: Alias
  address?: DeviceAddress
  driver?: VirtioDriver
}

/** `<memnode>`: for a node of the guest. */
export interface NumatuneMemnode extends Unknown {
  cellid: number
  mode?: 'strict' | 'preferred' | 'interleave' | 'restrictive'
  nodeset: string
}

/** `<memory>`: KiB that the guest has at most. */
export interface Memory extends Unknown {
  dumpCore?: boolean
  unit?: string
  value: number
}

/** `<memory>`: a module of memory. */
export interface MemoryDevice extends Unknown {
  model: 'dimm' | 'nvdimm' | 'virtio-pmem' | 'virtio-mem' | 'sgx-epc'
  access?: 'shared' | 'private'
  discard?: boolean
  /** UUID of it */
  uuid?: string
  source?: MemoryDeviceSource
  target?: MemoryDeviceTarget
  alias?: Alias
  address?: DeviceAddress
}

/** `<memory>`: for all of it. */
export interface NumaTuneMemory extends Unknown {
  mode?: 'strict' | 'preferred' | 'interleave' | 'restrictive'
  nodeset?: string
  placement?: 'static' | 'auto'
}

/** `<memoryBacking>`: what guest memory is made of. */
export interface MemoryBacking extends Unknown {
  hugepages?: MemoryBackingHugepages
  /** pages are not merged */
  nosharepages?: true
  /** pages stay in memory */
  locked?: true
  source?: MemoryBackingSource
  access?: MemoryBackingAccess
  allocation?: MemoryBackingAllocation
  /** it is discarded at the end */
  discard?: true
}

/** `<memtune>`: limits of memory on the host. */
export interface Memtune extends Unknown {
  hardLimit?: MemorySize
  softLimit?: MemorySize
  minGuarantee?: MemorySize
  swapHardLimit?: MemorySize
}

/** `<model>`: a model. */
export interface CpuModel extends Unknown {
  fallback?: 'allow' | 'forbid'
  vendorId?: string
  value: string
}

/** `<model>`: kind of card. */
export interface NetworkInterfaceModel extends Unknown {
  type: string
}

/** `<model>`: kind of card. */
export interface VideoModel extends Unknown {
  type?: 'vga' | 'cirrus' | 'vmvga' | 'xen' | 'vbox' | 'qxl' | 'parallels' | 'virtio' | 'gop' | 'none' | 'bochs' | 'ramfb'
  ram?: number
  vram?: number
  vram64?: number
  vgamem?: number
  heads?: number
  blob?: boolean
  primary?: boolean
  acceleration?: VideoModelAcceleration
  resolution?: VideoModelResolution
}

/** `<model>`: the device. */
export interface ControllerModelName extends Unknown {
  name: string
}

/** `<model>`: the device. */
export interface SerialTargetModel extends Unknown {
  name: 'isa-serial' | 'usb-serial' | 'pci-serial' | 'spapr-vty' | 'pl011' | '16550a' | 'sclpconsole' | 'sclplmconsole' | 'isa-debugcon'
}

/** `<model>`: the device. */
export interface SharedMemoryModel extends Unknown {
  type: 'ivshmem' | 'ivshmem-plain' | 'ivshmem-doorbell'
}

/** `<mouse>`: who draws the pointer. */
export interface CharacterSourceMouse extends Unknown {
  mode?: 'server' | 'client'
}

/** `<mouse>`: who draws the pointer. */
export interface GraphicsMouse extends Unknown {
  mode: 'server' | 'client'
}

/** `<msi>`: interrupts. */
export interface SharedMemoryMsi extends Unknown {
  enabled?: boolean
  vectors?: number
  ioeventfd?: boolean
}

/** `<msrs>`: registers that there are not. */
export interface FeaturesMsrs extends Unknown {
  policy: 'ignore' | 'fault'
}

/** `<mtu>`: most bytes of a packet. */
export interface NetworkInterfaceMtu extends Unknown {
  size: number
}

/** `<numa>`: nodes of memory. */
export interface CpuNuma extends Unknown {
  cells?: CpuNumaCell[]
  interconnects?: CpuNumaInterconnects
}

/** `<numatune>`: nodes of the host for memory. */
export interface Numatune extends Unknown {
  memory?: NumaTuneMemory
  memnodes?: NumatuneMemnode[]
}

/** `<nvram>`: memory of firmware, on POWER. */
export interface Nvram extends Unknown {
  alias?: Alias
  address?: DeviceAddress
}

/** `<nvram>`: variables of the firmware. */
export interface OperatingSystemNvram extends Unknown {
  type?: 'file' | 'block' | 'network'
  template?: string
  format?: 'raw' | 'qcow2'
  value: string
  /** where they are, when that is no file */
  source?: XmlElement
}

/** `<os>`: what is booted, and on which machine. */
export interface OperatingSystem extends Unknown {
  firmware?: 'bios' | 'efi'
  type?: OperatingSystemType
  firmwareFeatures?: OperatingSystemFirmware
  /** first program of a container */
  init?: string
  loader?: OperatingSystemLoader
  nvram?: OperatingSystemNvram
  /** a kernel that is booted directly */
  kernel?: string
  /** its initial RAM disk */
  initrd?: string
  /** its command line */
  cmdline?: string
  /** a device tree */
  dtb?: string
  acpi?: OperatingSystemAcpi
  boots?: OperatingSystemBoot[]
  bootmenu?: OperatingSystemBootmenu
  bios?: OperatingSystemBios
  smbios?: OperatingSystemSmbios
}

/** `<outbound>`: from the guest. */
export interface NetworkInterfaceBandwidthOutbound extends Unknown {
  average?: number
  peak?: number
  floor?: number
  burst?: number
}

/** `<page>`: pages of one size. */
export interface MemoryBackingHugepagesPage extends Unknown {
  size: number
  unit?: string
  nodeset?: string
}

/** `<pagesize>`: size of pages. */
export interface MemoryDeviceSourcePagesize extends Unknown {
  unit?: string
  value: number
}

/** `<panic>`: by which the guest tells that its kernel has panicked. */
export interface Panic extends Unknown {
  model?: 'isa' | 'pseries' | 'hyperv' | 's390' | 'pvpanic'
  alias?: Alias
  address?: DeviceAddress
}

/** `<parallel>`: a parallel port. */
export interface Parallel extends Unknown {
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  target?: ParallelTarget
  alias?: Alias
  address?: DeviceAddress
}

/** `<parameter>`: a variable of it. */
export interface NetworkInterfaceFilterrefParameter extends Unknown {
  name: string
  value: string
}

/** `<parameters>`: what the switch is told. */
export interface NetworkInterfaceVirtualportParameters extends Unknown {
  managerid?: number
  typeid?: number
  typeidversion?: number
  instanceid?: string
  interfaceid?: string
  profileid?: string
}

/** `<perf>`: events that are counted. */
export interface Perf extends Unknown {
  events?: PerfEvent[]
}

/** `<playback>`: compression of sound. */
export interface GraphicsPlayback extends Unknown {
  compression: 'on' | 'off'
}

/** `<pm>`: ways of sleeping. */
export interface Pm extends Unknown {
  suspendToMem?: PmSuspendToMem
  suspendToDisk?: PmSuspendToDisk
}

/** `<port>`: a port of the bridge. */
export interface NetworkInterfacePort extends Unknown {
  isolated?: boolean
}

/** `<product>`: product of a USB device. */
export interface HostDeviceSourceProduct extends Unknown {
  id: number
}

/** `<protocol>`: what is spoken over TCP. */
export interface CharacterProtocol extends Unknown {
  type?: 'raw' | 'telnet' | 'telnets' | 'tls'
}

/** `<qemu:arg>`: an argument. */
export interface QemuCommandlineArg extends Unknown {
  value: string
}

/** `<qemu:commandline>`: arguments for the emulator, as they are. */
export interface QemuCommandline extends Unknown {
  args?: QemuCommandlineArg[]
  env?: QemuCommandlineEnv[]
}

/** `<qemu:env>`: a variable of its environment. */
export interface QemuCommandlineEnv extends Unknown {
  name: string
  value?: string
}

/** `<rate>`: the most it gives. */
export interface RandomGeneratorRate extends Unknown {
  bytes: number
  period?: number
}

/** `<readahead>`: bytes that are read ahead. */
export interface DiskSourceReadahead extends Unknown {
  size: number
}

/** `<reconnect>`: whether and when to connect again. */
export interface Reconnect extends Unknown {
  enabled: boolean
  timeout?: number
}

/** `<redirdev>`: a USB device of a client. */
export interface RedirectedDevice extends Unknown {
  bus?: 'usb'
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  boot?: DeviceBoot
  alias?: Alias
  address?: DeviceAddress
}

/** `<redirfilter>`: which USB devices of a client are let in. */
export interface Redirfilter extends Unknown {
  rules?: RedirfilterUsbdev[]
}

/** `<requested>`: how much is used. */
export interface MemoryDeviceTargetRequested extends Unknown {
  unit?: string
  value: number
}

/** `<reservations>`: persistent reservations of SCSI. */
export interface DiskSourceReservations extends Unknown {
  managed?: boolean
  migration?: boolean
  source?: DiskSourceReservationsSource
}

/** `<resolution>`: size of the screen at the start. */
export interface VideoModelResolution extends Unknown {
  x: number
  y: number
}

/** `<resource>`: place among the control groups. */
export interface Resource extends Unknown {
  /** path of it */
  partition?: string
  fibrechannel?: ResourceFibrechannel
}

/** `<rng>`: a source of random numbers. */
export interface RandomGenerator extends Unknown {
  model: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional'
  rate?: RandomGeneratorRate
  backend?: RandomGeneratorBackend
  driver?: VirtioDriver
  alias?: Alias
  address?: DeviceAddress
}

/** `<rom>`: the option ROM of a PCI device. */
export interface OptionRom extends Unknown {
  enabled?: boolean
  bar?: boolean
  file?: string
}

/** `<rx>`: for received packets. */
export interface NetworkInterfaceCoalesceRx extends Unknown {
  frames?: NetworkInterfaceCoalesceRxFrames
}

/** `<sandbox>`: how it is shut in. */
export interface FilesystemBinarySandbox extends Unknown {
  mode?: 'namespace' | 'chroot'
}

/** `<sbbc>`: speculation barriers, on POWER. */
export interface FeaturesSbbc extends Unknown {
  value?: string
}

/** `<script>`: a program that connects the card. */
export interface NetworkInterfaceScript extends Unknown {
  path: string
}

/** `<seclabel>`: label of a security driver. */
export interface SecurityLabel extends Unknown {
  type?: 'dynamic' | 'static' | 'none'
  model?: string
  relabel?: boolean
  labelskip?: boolean
  /** the label */
  label?: string
  /** what labels begin with */
  baselabel?: string
  /** label of images */
  imagelabel?: string
}

/** `<secret>`: a secret, by its UUID or what it is for. */
export interface SecretReference extends Unknown {
  type: string
  uuid?: string
  usage?: string
}

/** `<serial>`: a serial port. */
export interface Serial extends Unknown {
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  target?: SerialTarget
  alias?: Alias
  address?: DeviceAddress
}

/** `<server>`: the server that gives it. */
export interface SharedMemoryServer extends Unknown {
  path?: string
}

/** `<settings>`: what its samples are. */
export interface AudioSettings extends Unknown {
  frequency?: number
  channels?: number
  format?: 's8' | 'u8' | 's16' | 'u16' | 's32' | 'u32' | 'f32'
}

/** `<shmem>`: memory that guests share. */
export interface SharedMemory extends Unknown {
  name: string
  role?: 'master' | 'peer'
  model?: SharedMemoryModel
  size?: SharedMemorySize
  server?: SharedMemoryServer
  msi?: SharedMemoryMsi
  alias?: Alias
  address?: DeviceAddress
}

/** `<sibling>`: one of them. */
export interface CpuNumaCellDistancesSibling extends Unknown {
  id: number
  value: number
}

/** `<size>`: how much it is. */
export interface MemoryDeviceTargetSize extends Unknown {
  unit?: string
  value: number
}

/** `<size>`: how much it is. */
export interface SharedMemorySize extends Unknown {
  unit?: string
  value: number
}

/** `<size>`: how much they have. */
export interface MemoryDeviceTargetLabelSize extends Unknown {
  unit?: string
  value: number
}

/** `<size>`: its size. */
export interface CpuNumaCellCacheSize extends Unknown {
  value: number
  unit?: string
}

/** `<slice>`: bytes that are the image. */
export interface DiskSourceSlicesSlice extends Unknown {
  type?: 'storage'
  offset?: number
  size?: number
}

/** `<slices>`: a part of the file. */
export interface DiskSourceSlices extends Unknown {
  slices?: DiskSourceSlicesSlice[]
}

/** `<smartcard>`: a reader of smart cards. */
export interface Smartcard extends Unknown {
  mode: 'host' | 'host-certificates' | 'passthrough'
  type?: 'null' | 'vc' | 'pty' | 'dev' | 'file' | 'pipe' | 'stdio' | 'udp' | 'tcp' | 'unix' | 'spicevmc' | 'spiceport' | 'nmdm' | 'qemu-vdagent' | 'dbus'
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  log?: CharacterLog
  /** a certificate */
  certificate1?: string
  /** folder of certificates */
  database?: string
  alias?: Alias
  address?: DeviceAddress
}

/** `<smbios>`: where tables of SMBIOS come from. */
export interface OperatingSystemSmbios extends Unknown {
  mode: 'emulate' | 'host' | 'sysinfo'
}

/** `<smm>`: system management mode. */
export interface FeaturesSmm extends Unknown {
  state?: boolean
  tseg?: FeaturesSmmTseg
}

/** `<snapshot>`: a snapshot of an RBD image. */
export interface DiskSourceSnapshot extends Unknown {
  name: string
}

/** `<sound>`: a sound card. */
export interface Sound extends Unknown {
  model: 'sb16' | 'es1370' | 'pcspk' | 'ac97' | 'ich6' | 'ich9' | 'usb' | 'ich7'
  multichannel?: boolean
  codecs?: SoundCodec[]
  audio?: AudioReference
  alias?: Alias
  address?: DeviceAddress
}

/** `<source>`: a device of the host. */
export interface InputSource extends Unknown {
  dev?: string
  evdev?: string
  grab?: 'all'
  grabToggle?: 'ctrl-ctrl' | 'alt-alt' | 'shift-shift' | 'meta-meta' | 'scrolllock' | 'ctrl-scrolllock'
  repeat?: boolean
}

/** `<source>`: kind of memory. */
export interface MemoryBackingSource extends Unknown {
  type: 'file' | 'anonymous' | 'memfd'
}

/** `<source>`: the folder. */
export interface FilesystemSource extends Unknown {
  dir?: string
  dev?: string
  file?: string
  name?: string
  socket?: string
  pool?: string
  volume?: string
  usage?: number
  units?: string
}

/** `<source>`: the helper that makes them. */
export interface DiskSourceReservationsSource extends Unknown {
  type?: 'unix'
  path?: string
  mode?: 'client' | 'server'
}

/** `<source>`: what it is made of. */
export interface MemoryDeviceSource extends Unknown {
  /** a file */
  path?: string
  /** nodes of the host */
  nodemask?: string
  pagesize?: MemoryDeviceSourcePagesize
  alignsize?: MemoryDeviceSourceAlignsize
  /** it is persistent */
  pmem?: true
}

/** `<source>`: what the card is connected to. */
export interface NetworkInterfaceSource extends Unknown {
  type?: 'unix' | 'pci'
  network?: string
  portgroup?: string
  portid?: string
  bridge?: string
  name?: string
  dev?: string
  mode?: 'vepa' | 'private' | 'bridge' | 'passthrough' | 'server' | 'client'
  ip?: string
  port?: number
  path?: string
  local?: NetworkInterfaceSourceLocal
  address?: HostAddress
  reconnect?: Reconnect
}

/** `<source>`: what the disk is made of. */
export interface DiskSource extends Unknown {
  file?: string
  dev?: string
  dir?: string
  protocol?: 'nbd' | 'rbd' | 'sheepdog' | 'gluster' | 'iscsi' | 'http' | 'https' | 'ftp' | 'ftps' | 'tftp' | 'ssh' | 'vxhs' | 'nfs'
  name?: string
  query?: string
  tls?: boolean
  pool?: string
  volume?: string
  mode?: 'host' | 'direct'
  type?: 'pci' | 'unix'
  managed?: boolean
  namespace?: number
  path?: string
  startupPolicy?: 'default' | 'mandatory' | 'requisite' | 'optional'
  index?: number
  address?: HostAddress
  hosts?: NetworkHost[]
  snapshot?: DiskSourceSnapshot
  config?: DiskSourceConfig
  auth?: DiskAuth
  reservations?: DiskSourceReservations
  initiator?: DiskSourceInitiator
  identity?: DiskSourceIdentity
  slices?: DiskSourceSlices
  ssl?: DiskSourceSsl
  cookies?: DiskSourceCookies
  readahead?: DiskSourceReadahead
  timeout?: DiskSourceTimeout
  seclabels?: SecurityLabel[]
  encryption?: DiskEncryption
  reconnect?: Reconnect
}

/** `<source>`: where the bytes come from and go to. */
export interface CharacterSource extends Unknown {
  mode?: 'bind' | 'connect'
  path?: string
  host?: string
  service?: string
  channel?: string
  tls?: boolean
  tlsFromConfig?: string
  append?: boolean
  clipboard?: CharacterSourceClipboard
  mouse?: CharacterSourceMouse
  reconnect?: Reconnect
  seclabels?: SecurityLabel[]
}

/** `<source>`: which device it is. */
export interface HostDeviceSource extends Unknown {
  startupPolicy?: 'mandatory' | 'requisite' | 'optional'
  writeFiltering?: boolean
  guestReset?: 'default' | 'uninitialized' | 'off'
  protocol?: 'vhost' | 'iscsi'
  wwpn?: string
  name?: string
  vendor?: HostDeviceSourceVendor
  product?: HostDeviceSourceProduct
  adapter?: HostDeviceSourceAdapter
  address?: HostAddress
  host?: HostDeviceSourceHost
  /** a storage device */
  block?: string
  /** a character device */
  char?: string
  /** a network card */
  interface?: string
}

/** `<spinlocks>`: tries before it yields. */
export interface FeaturesHypervSpinlocks extends Unknown {
  state?: boolean
  retries?: number
}

/** `<ssl>`: checks of TLS. */
export interface DiskSourceSsl extends Unknown {
  verify?: boolean
}

/** `<stats>`: statistics of the guest. */
export interface MemoryBalloonStats extends Unknown {
  period: number
}

/** `<stimer>`: synthetic timers. */
export interface FeaturesHypervStimer extends Unknown {
  state?: boolean
  direct?: FeatureState
}

/** `<streaming>`: of moving pictures. */
export interface GraphicsStreaming extends Unknown {
  mode: 'filter' | 'all' | 'off'
}

/** `<suspend-to-disk>`: S4. */
export interface PmSuspendToDisk extends Unknown {
  enabled: boolean
}

/** `<suspend-to-mem>`: S3. */
export interface PmSuspendToMem extends Unknown {
  enabled: boolean
}

/** `<sysinfo>`: what the guest is told of its hardware. */
export interface SystemInformation extends Unknown {
  type: 'smbios' | 'fwcfg'
  bios?: SysinfoTable
  system?: SysinfoTable
  baseBoards?: SysinfoTable[]
  chassis?: SysinfoTable
  oemStrings?: SysinfoTable
  entries?: SysinfoEntry[]
}

/** `<table>`: a file with one. */
export interface OperatingSystemAcpiTable extends Unknown {
  type: 'slic'
  value: string
}

/** `<tag>`: one of them. */
export interface NetworkInterfaceVlanTag extends Unknown {
  id: number
  nativeMode?: 'tagged' | 'untagged'
}

/** `<target>`: name by which the guest mounts it. */
export interface FilesystemTarget extends Unknown {
  dir: string
}

/** `<target>`: properties of a PCI controller. */
export interface ControllerTarget extends Unknown {
  chassisNr?: number
  chassis?: number
  port?: number
  busNr?: number
  index?: number
  hotplug?: boolean
  /** NUMA node of an expander */
  node?: number
}

/** `<target>`: the end on the host. */
export interface NetworkInterfaceTarget extends Unknown {
  dev?: string
  managed?: boolean
}

/** `<target>`: the file of locks. */
export interface LeaseTarget extends Unknown {
  path: string
  offset?: number
}

/** `<target>`: what the guest sees. */
export interface ChannelTarget extends Unknown {
  type: 'virtio' | 'guestfwd' | 'xen'
  name?: string
  state?: 'connected' | 'disconnected'
  address?: string
  port?: number
}

/** `<target>`: what the guest sees. */
export interface ConsoleTarget extends Unknown {
  type?: 'serial' | 'virtio' | 'xen' | 'uml' | 'lxc' | 'openvz' | 'sclp' | 'sclplm'
  port?: number
}

/** `<target>`: what the guest sees. */
export interface DiskTarget extends Unknown {
  dev: string
  bus?: 'ide' | 'fdc' | 'scsi' | 'virtio' | 'xen' | 'usb' | 'uml' | 'sata' | 'sd'
  tray?: 'closed' | 'open'
  removable?: boolean
  rotationRate?: number
}

/** `<target>`: what the guest sees. */
export interface MemoryDeviceTarget extends Unknown {
  size?: MemoryDeviceTargetSize
  /** the node of the guest */
  node?: number
  label?: MemoryDeviceTargetLabel
  block?: MemoryDeviceTargetBlock
  requested?: MemoryDeviceTargetRequested
  /** the guest cannot write */
  readonly?: true
}

/** `<target>`: what the guest sees. */
export interface ParallelTarget extends Unknown {
  port?: number
}

/** `<target>`: what the guest sees. */
export interface SerialTarget extends Unknown {
  type?: 'isa-serial' | 'usb-serial' | 'pci-serial' | 'spapr-vio-serial' | 'system-serial' | 'sclp-serial' | 'isa-debug'
  port?: number
  model?: SerialTargetModel
}

/** `<tb-cache>`: translated code. */
export interface FeaturesTcgTbCache extends Unknown {
  unit?: string
  value: number
}

/** `<tcg>`: settings of the software engine. */
export interface FeaturesTcg extends Unknown {
  tbCache?: FeaturesTcgTbCache
}

/** `<teaming>`: two cards that stand in for each other. */
export interface HostDeviceTeaming extends Unknown {
  type: 'persistent' | 'transient'
  persistent?: string
}

/** `<teaming>`: two cards that stand in for each other. */
export interface NetworkInterfaceTeaming extends Unknown {
  type: 'persistent' | 'transient'
  persistent?: string
}

/** `<thread_pool>`: its threads. */
export interface FilesystemBinaryThreadPool extends Unknown {
  size?: number
}

/** `<timeout>`: patience with the server. */
export interface DiskSourceTimeout extends Unknown {
  seconds: number
}

/** `<timer>`: a timer. */
export interface ClockTimer extends Unknown {
  name: 'platform' | 'pit' | 'rtc' | 'hpet' | 'tsc' | 'kvmclock' | 'hypervclock' | 'armvtimer'
  present?: boolean
  tickpolicy?: 'delay' | 'catchup' | 'merge' | 'discard'
  track?: 'boot' | 'guest' | 'wall' | 'realtime'
  frequency?: number
  mode?: 'auto' | 'native' | 'emulate' | 'paravirt' | 'smpsafe'
  catchup?: ClockTimerCatchup
}

/** `<topology>`: sockets, cores and threads. */
export interface CpuTopology extends Unknown {
  sockets: number
  dies?: number
  cores: number
  threads: number
}

/** `<tpm>`: a Trusted Platform Module. */
export interface Tpm extends Unknown {
  model?: 'tpm-tis' | 'tpm-crb' | 'tpm-spapr' | 'spapr-tpm-proxy'
  backend?: TpmBackend
  alias?: Alias
  address?: DeviceAddress
}

/** `<transient>`: what the guest writes is forgotten at the end. */
export interface DiskTransient extends Unknown {
  shareBacking?: boolean
}

/** `<tseg>`: memory of it. */
export interface FeaturesSmmTseg extends Unknown {
  unit?: string
  value: number
}

/** `<tune>`: buffers of the host. */
export interface NetworkInterfaceTune extends Unknown {
  /** bytes of the send buffer */
  sndbuf?: number
}

/** `<type>`: kind of guest. */
export interface OperatingSystemType extends Unknown {
  arch?: string
  machine?: string
  value: 'hvm' | 'xen' | 'linux' | 'xenpvh' | 'exe' | 'uml'
}

/** `<uid>`: a range. */
export interface IdRange extends Unknown {
  start: number
  target: number
  count: number
}

/** `<usbdev>`: a rule. */
export interface RedirfilterUsbdev extends Unknown {
  class?: number
  vendor?: number
  product?: number
  version?: string
  allow: boolean
}

/** `<vcpu>`: a processor. */
export interface VcpuState extends Unknown {
  id: number
  enabled: boolean
  hotpluggable?: boolean
  order?: number
}

/** `<vcpu>`: how many processors there can be, and are at the start. */
export interface Vcpu extends Unknown {
  placement?: 'static' | 'auto'
  cpuset?: string
  current?: number
  value: number
}

/** `<vcpupin>`: processors of the host for one of the guest. */
export interface CputuneVcpupin extends Unknown {
  vcpu: number
  cpuset: string
}

/** `<vcpus>`: each processor. */
export interface Vcpus extends Unknown {
  vcpus?: VcpuState[]
}

/** `<vcpusched>`: how processors are scheduled. */
export interface CputuneVcpusched extends Unknown {
  vcpus: string
  scheduler: 'fifo' | 'rr' | 'batch' | 'idle'
  priority?: number
}

/** `<vendor>`: vendor of a USB device. */
export interface HostDeviceSourceVendor extends Unknown {
  id: number
}

/** `<vendor_id>`: name of the vendor. */
export interface FeaturesHypervVendorId extends Unknown {
  state?: boolean
  value?: string
}

/** `<video>`: a graphics card. */
export interface Video extends Unknown {
  driver?: VideoDriver
  model?: VideoModel
  alias?: Alias
  address?: DeviceAddress
}

/** `<virtualport>`: the port of a switch. */
export interface NetworkInterfaceVirtualport extends Unknown {
  type?: 'none' | '802.1Qbg' | '802.1Qbh' | 'openvswitch' | 'midonet'
  parameters?: NetworkInterfaceVirtualportParameters
}

/** `<vlan>`: virtual networks of a switch. */
export interface NetworkInterfaceVlan extends Unknown {
  trunk?: boolean
  tags?: NetworkInterfaceVlanTag[]
}

/** `<vsock>`: sockets between host and guest. */
export interface Vsock extends Unknown {
  model?: 'virtio' | 'virtio-transitional' | 'virtio-non-transitional'
  cid?: VsockCid
  driver?: VirtioDriver
  alias?: Alias
  address?: DeviceAddress
}

/** `<watchdog>`: what resets a guest that hangs. */
export interface Watchdog extends Unknown {
  model: 'i6300esb' | 'ib700' | 'diag288' | 'itco'
  action?: 'reset' | 'shutdown' | 'poweroff' | 'pause' | 'none' | 'dump' | 'inject-nmi'
  alias?: Alias
  address?: DeviceAddress
}

/** `<zlib>`: compression on slow links. */
export interface GraphicsZlib extends Unknown {
  compression: 'auto' | 'never' | 'always'
}
