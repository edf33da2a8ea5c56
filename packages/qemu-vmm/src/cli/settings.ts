import type { SoftOptions } from 'kvm-core'

import type { SocketAddress, SocketProtocol, UdpAddresses } from '../chardev/address.ts'
import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import type { BootOptions } from '../machine/boot-options.ts'
import type {
  CpuConfig,
  LogItem,
  MachineConfig,
  MachineOptions,
  MachineType,
} from '../machine/config.ts'
import type { DriveConfig } from '../machine/drive-config.ts'
import type { FileNode } from './options/blockdev.ts'
import type { NetdevConfig } from '../net/config.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { SmbiosOption } from '../machine/smbios/options.ts'
import type { SmpConfig } from '../machine/topology.ts'

/** What `-accel` and `-machine accel=` can name. */
export type Accelerator = 'kvm' | 'tcg'

/** What `-machine` can name: `none` is for those who only ask the program. */
export type MachineChoice = MachineType | 'none'

export type PanicAction = Exclude<MachineConfig['panicAction'], undefined>

/** Kinds of character devices. */
export type ChardevBackend =
  | 'file'
  | 'null'
  | 'pipe'
  | 'pty'
  | 'ringbuf'
  | 'socket'
  | 'stdio'
  | 'udp'

/** Which socket, and what it carries. */
export interface SocketSettings {
  address: SocketAddress
  protocol: SocketProtocol
  /** Send small pieces at once, over TCP. */
  noDelay: boolean
  /** Wait to be connected to, rather than connect. */
  server: boolean
  /** Only servers: the machine starts when somebody has connected. */
  wait: boolean
  /** Only clients: seconds after which to connect again; 0 is never. */
  reconnect: number
}

/** A `-chardev`: what carries bytes, and how. */
export interface ChardevSettings {
  backend: ChardevBackend
  /** Shared by several users, switched by Ctrl-A c. */
  mux: boolean
  /** Ctrl-C, Ctrl-\ and Ctrl-Z are signals rather than characters. Only `stdio`. */
  signal: boolean
  /** `file` and `pipe`. */
  path?: string
  /** Keep what the file holds already. Only `file`. */
  append?: boolean
  /** Bytes, a power of two. Only `ringbuf`. */
  size?: number
  /** Only `socket`. */
  socket?: SocketSettings
  /** Only `udp`. */
  udp?: UdpAddresses
  /** The option as typed, for messages. */
  at: string
}

/** A user of a character device, as typed. */
export interface CharUser {
  /** What `-serial` and its like take, such as `none`, `mon:stdio`, `tcp:HOST:PORT,server=on` or `chardev:ID`. */
  device: string
  /** A monitor's language: QMP, over several lines with `pretty`. By default that of people. */
  control?: { pretty: boolean }
  /** Of a `-mon`. */
  id?: string
  /** The option as typed, for messages. */
  at: string
}

/** What the options of one command line add up to. */
export interface Settings {
  /** Undefined without -m: the backend's size, or the default. */
  memoryBytes?: number
  objects: ObjectConfig[]
  /** Id of an object. */
  memoryBackend?: string
  /** What `-mem-path` and `-mem-prealloc` say. */
  memPath?: string
  memPrealloc: boolean
  cpu: CpuConfig
  smp: SmpConfig
  /** In order of preference. */
  accelerators: Accelerator[]
  /** What `tb-size` and `-perfmap` say. */
  tcg: SoftOptions
  machine: MachineChoice
  bios?: string
  /** What `-L` names, in order. */
  firmwareFolders: string[]
  boot: BootOptions
  optionRoms: NonNullable<MachineConfig['optionRoms']>[number][]
  kernel?: string
  initrd?: string
  append?: string
  fwCfg: FwCfgFile[]
  acpiTables: Uint8Array[]
  /** What `-smbios` says, in order. */
  smbios: SmbiosOption[]
  machineOptions: MachineOptions
  drives: DriveConfig[]
  /** Disks that `-drive if=` plugs in by itself. */
  driveDevices: DeviceOption[]
  /** Ids of the drives that are flash chips, by unit. */
  flash: (string | undefined)[]
  netdevs: NetdevConfig[]
  /** Cards that `-nic` and `-net` plug in. */
  nics: DeviceOption[]
  /** Some option says what networks there are, if any. */
  networkChosen: boolean
  /** What `-global` says, in order. */
  globals: { driver: string; property: string; value: string }[]
  /** What `-device` adds. */
  devices: DeviceOption[]
  /** Files that `-blockdev driver=file` has named. */
  fileNodes: Map<string, FileNode>
  /** All drives write to temporary files. */
  snapshot: boolean
  chardevs: Map<string, ChardevSettings>
  serials: CharUser[]
  monitors: CharUser[]
  parallels: CharUser[]
  nographic: boolean
  display?: 'none' | 'curses'
  /** Undefined without -vga: std, unless there are to be no default devices. */
  vga?: 'std' | 'none'
  /** The character after Ctrl that begins a command of the multiplexer, as a code 1 to 26. */
  escapeCode: number
  defaultDevices: boolean
  reboot: boolean
  shutdown: boolean
  /** What `-action panic=` says. */
  panicAction: PanicAction
  startPaused: boolean
  name?: string
  processName?: string
  uuid?: string
  /** An absolute path: a daemon leaves the folder. */
  pidFile?: string
  daemonize: boolean
  logFile?: string
  /** Messages begin with the time. */
  logTimes: boolean
  /** Undefined leaves it to the host. */
  dumpGuestCore?: boolean
  /** Ids of secrets, which nothing uses yet. */
  secrets: Set<string>
  logItems: Set<LogItem>
}

/** What QEMU assumes for a command line without options. */
export function defaultSettings(): Settings {
  return {
    objects: [],
    memPrealloc: false,
    cpu: { model: 'qemu64', features: {} },
    smp: { cpus: 1 },
    accelerators: [],
    tcg: {},
    machine: 'pc',
    firmwareFolders: [],
    boot: {},
    optionRoms: [],
    fwCfg: [],
    acpiTables: [],
    smbios: [],
    machineOptions: {},
    drives: [],
    driveDevices: [],
    netdevs: [],
    nics: [],
    networkChosen: false,
    flash: [],
    globals: [],
    devices: [],
    fileNodes: new Map(),
    snapshot: false,
    chardevs: new Map(),
    serials: [],
    monitors: [],
    nographic: false,
    escapeCode: 1,
    defaultDevices: true,
    reboot: true,
    shutdown: true,
    panicAction: 'shutdown',
    parallels: [],
    startPaused: false,
    daemonize: false,
    logTimes: false,
    secrets: new Set(),
    logItems: new Set(),
  }
}
