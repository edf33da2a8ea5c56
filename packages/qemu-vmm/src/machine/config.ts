import type { SoftOptions } from 'kvm-core'

import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import type { SerialBackend } from '../chipset/serial-port.ts'
import type { DeviceDefinition, Entropy } from '../device.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import type { BootOptions } from './boot-options.ts'
import type { DriveConfig } from './drive-config.ts'
import type { NetdevConfig } from '../net/config.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { MachineClock } from './clock.ts'
import type { SmbiosOption } from './smbios/options.ts'
import type { SmpConfig } from './topology.ts'

export type { SerialBackend } from '../chipset/serial-port.ts'

/**
 * Machine types: `pc` and `q35` are the newest, `pc-i440fx-7.2` and `pc-q35-7.2` the names QEMU 7.2 has
 * for them.
 */
export type MachineType = 'pc' | 'pc-i440fx-7.2' | 'q35' | 'pc-q35-7.2'

/** What the machine has, beside its type. */
export interface MachineOptions {
  /** ACPI: its tables, hot-plug of cards (`pc`) and processors, power management of `pc`. On by default. */
  acpi?: boolean
  /** The timer of every PC, on by default. */
  pit?: boolean
  /** The high precision event timer, on by default. */
  hpet?: boolean
  /** Its comparators, 3 to 32; 3 by default. */
  hpetTimers?: number
  /** Its comparators can send messages; off by default. */
  hpetMsi?: boolean
  /** Whether tables offer suspend to RAM, as they do by default. */
  suspend?: boolean
  /**
   * How devices in slots of PCI Express (q35) come and go: by ACPI, the default, or with `false` by what the
   * ports have of their own.
   */
  acpiPciHotplug?: boolean
  /** What becomes of the PIT's ticks while an earlier one is pending; `delay` by default. */
  pitLostTicks?: 'delay' | 'discard'
  /**
   * What the real-time clock shows at the start: UTC (the default), the host's local time, or a time in
   * milliseconds since 1970.
   */
  rtcBase?: 'utc' | 'localtime' | number
  /**
   * What the real-time clock follows: the host's time of day (`host`, the default), the time since the host's start (`rt`),
   * which nobody sets, or that of the guest (`vm`), which stands while the machine does.
   */
  rtcClock?: 'host' | 'rt' | 'vm'
  /** Whether periodic interrupts of the real-time clock that the guest was too late for follow (`slew`); `none` by default. */
  rtcDriftFix?: 'none' | 'slew'
  /**
   * Whether the guest has a screen. Without one, the default, firmware uses the first serial port.
   */
  graphics?: boolean
  /**
   * System management mode, which only the software engine has. By default where firmware is in flash, which
   * may need it.
   */
  smm?: boolean
  /**
   * Firmware on q35 may keep the RAM around the first SMBASE (0x30000) for that mode alone, as by default; QEMU's
   * `mch.smbase-smram`.
   */
  smbaseSmram?: boolean
  /** Only code in system management mode may write to flash; off by default. */
  secureFlash?: boolean
}

/** CPU model and changes to it, as in `-cpu max,+avx2,-smap`. */
export interface CpuConfig {
  model: CpuModel
  features: Record<string, boolean>
  /** Twelve characters, such as `GenuineIntel`; the model's by default. */
  vendor?: string
  /** Width of guest-physical addresses, 36 to 52; `host` for the host's. The model's by default. */
  physBits?: number | 'host'
}

/** Processor models. */
export type CpuModel = 'qemu64' | 'max' | 'host' | 'IvyBridge' | 'Opteron_G1'

/** Everything a machine is made of. */
export interface MachineConfig {
  name?: string
  /** RFC 4122 text form; shown by SMBIOS. */
  uuid?: string
  /** Bytes of RAM: a multiple of 4 KiB, at least 2 MiB. */
  memory: number
  /** Objects that devices, and `memoryBackend`, refer to by id. */
  objects?: readonly ObjectConfig[]
  /** Id of the object that guest memory is made of; its size is `memory`. */
  memoryBackend?: string
  machine?: { type: MachineType; options?: MachineOptions }
  /**
   * `kvm` is the host engine, `tcg` the software engine, `auto` (the default) the best that works;
   * `kvm:tcg` is that too, and says in the log why it is not the host's.
   */
  accel?: 'auto' | 'kvm' | 'tcg' | 'kvm:tcg'
  /** Wishes for the software engine; the log says so where it is another that runs the guest. */
  tcg?: SoftOptions
  cpu?: CpuConfig
  /** How many vCPUs, 1 by default, and how they are arranged; see {@link SmpConfig}. */
  cpus?: number | SmpConfig
  /**
   * File of a PC BIOS, by name or path. Default `bios-256k.bin` of SeaBIOS, unless there is a kernel: that is started at once,
   * or by the firmware if some is named, here or in `flash`.
   */
  bios?: string
  /**
   * Ids of drives that are flash chips: the first ends at 4 GiB and has the firmware, the second is below
   * it and keeps variables.
   */
  flash?: readonly (string | undefined)[]
  /** Folders in which firmware is searched before those of distributions. */
  firmwareFolders?: readonly string[]
  /** Option ROMs that a BIOS runs, by name or path, and their places in the boot order. */
  optionRoms?: readonly { file: string; bootIndex?: number }[]
  /** What the BIOS boots. */
  boot?: BootOptions
  /** Path of a bzImage, a PVH-capable ELF file or a multiboot-1 image; recognised by content. */
  kernel?: string
  /** Path of an initial RAM disk; for multiboot, comma-separated modules. */
  initrd?: string
  /** Kernel command line. */
  append?: string
  /**
   * The index is the COM port, 0..3. Absent entries have a UART with nothing behind it. Without
   * the list the machine keeps COM1 for itself, for `expect` and `type`.
   */
  serial?: readonly (SerialBackend | undefined)[]
  /** Entries that are absent have no UART either. Default false. */
  onlyConnectedSerial?: boolean
  /** Character devices by id, for devices of `plug`. */
  chardevs?: Readonly<Record<string, SerialBackend>>
  /** Networks, which devices of `plug` name by their ids. */
  netdevs?: readonly NetdevConfig[]
  /** Files of the firmware configuration device, which QEMU's `-fw_cfg` names `opt/...`. */
  fwCfg?: readonly FwCfgFile[]
  /** ACPI tables for the guest beside those of the machine, each in its whole. */
  acpiTables?: readonly Uint8Array[]
  /** What SMBIOS tells the guest, where it is not to be what QEMU's machines say. */
  smbios?: readonly SmbiosOption[]
  /** Disk images, which devices of `plug` name by their ids. */
  drives?: readonly DriveConfig[]
  /** Devices by the names that `-device` has for them, in the order of their PCI slots. */
  plug?: readonly DeviceOption[]
  /** What a guest reset does. */
  rebootAction?: 'reset' | 'shutdown'
  /** What a guest power-off does. */
  shutdownAction?: 'poweroff' | 'pause'
  /**
   * What happens when the guest tells that it has panicked: the machine stops (the default), ends with
   * status 0 or 1, or goes on.
   */
  panicAction?: 'pause' | 'shutdown' | 'exit-failure' | 'none'
  /** Custom devices: definitions, or with `host: 'worker'` URLs of modules that export one. */
  devices?: readonly (DeviceDefinition | URL)[]
  /** Where devices live: in the calling isolate (the default) or in a worker of their own. */
  host?: 'inline' | 'worker'
  startPaused?: boolean
  /** Sources of time and randomness; the host's by default. Only with `host: 'inline'`. */
  clock?: MachineClock
  entropy?: Entropy
  /** Takes messages about the machine: slow handlers, faults. Standard error by default. */
  log?: (message: string) => void
  /** What else goes to `log`; `guest_errors` are accesses that nothing answers, `unimp` what devices lack. */
  logItems?: readonly LogItem[]
}

/** Kinds of messages that are not logged unless asked for, named as QEMU's `-d` names them. */
export type LogItem = 'guest_errors' | 'unimp'

/** States of a machine. */
export type MachineStatus =
  | 'prelaunch'
  | 'running'
  | 'paused'
  | 'shutdown'
  | 'internal-error'
  | 'guest-panicked'
  /** A disk request failed; it is tried again when the machine is resumed. */
  | 'io-error'

/** Why a machine ended. */
export interface ExitInfo {
  reason: 'shutdown' | 'reset' | 'panic' | 'quit' | 'error'
  /** True when the guest asked for it. */
  guest: boolean
  /** Exit status for a process that runs this machine. */
  code: number
  error?: Error
}

/** One vCPU as `info registers` shows it. */
export interface CpuInfo {
  index: number
  halted: boolean
  /** `kvm_regs`: rax rbx rcx rdx rsi rdi rsp rbp r8..r15 rip rflags. */
  regs: BigUint64Array
  /** The bytes of `kvm_sregs`. */
  sregs: Uint8Array
  /** The bytes of `kvm_fpu`. */
  fpu: Uint8Array
  /** `kvm_debugregs`: DR0 to DR3, DR6, DR7. */
  debugRegs: BigUint64Array
  /** The bytes of `kvm_vcpu_events`. */
  events: Uint8Array
}
