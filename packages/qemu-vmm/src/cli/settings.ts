import type { CpuConfig, LogItem } from '../machine/config.ts'

/** What `-accel` and `-machine accel=` can name. */
export type Accelerator = 'kvm' | 'tcg'

/** A `-chardev`: what carries bytes, and how. */
export interface ChardevSettings {
  backend: 'stdio' | 'null' | 'file'
  /** Shared by several users, switched by Ctrl-A c. */
  mux: boolean
  /** Ctrl-C, Ctrl-\ and Ctrl-Z are signals rather than characters. Only `stdio`. */
  signal: boolean
  /** Only `file`. */
  path?: string
  /** Keep what the file holds already. Only `file`. */
  append?: boolean
  /** The option as typed, for messages. */
  at: string
}

/** A user of a character device, as typed. */
export interface CharUser {
  /** `none`, `null`, `stdio`, `mon:stdio`, `file:PATH` or `chardev:ID`. */
  device: string
  /** The option as typed, for messages. */
  at: string
}

/** What the options of one command line add up to. */
export interface Settings {
  memoryBytes: number
  cpu: CpuConfig
  /** In order of preference. */
  accelerators: Accelerator[]
  machine: 'pc' | 'pc-i440fx-7.2'
  kernel?: string
  initrd?: string
  append?: string
  chardevs: Map<string, ChardevSettings>
  serials: CharUser[]
  monitors: CharUser[]
  nographic: boolean
  display?: 'none'
  /** The character after Ctrl that begins a command of the multiplexer, as a code 1 to 26. */
  escapeCode: number
  defaultDevices: boolean
  reboot: boolean
  shutdown: boolean
  startPaused: boolean
  name?: string
  processName?: string
  uuid?: string
  pidFile?: string
  logFile?: string
  logItems: Set<LogItem>
}

const MIB = 1024 * 1024

/** What QEMU assumes for a command line without options. */
export function defaultSettings(): Settings {
  return {
    memoryBytes: 128 * MIB,
    cpu: { model: 'qemu64', features: {} },
    accelerators: [],
    machine: 'pc',
    chardevs: new Map(),
    serials: [],
    monitors: [],
    nographic: false,
    escapeCode: 1,
    defaultDevices: true,
    reboot: true,
    shutdown: true,
    startPaused: false,
    logItems: new Set(),
  }
}
