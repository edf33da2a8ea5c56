import type { Picture } from '../chipset/vga/render.ts'
import type { ChardevSettings } from '../cli/settings.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import type { CpuInfo, MachineStatus } from '../machine/config.ts'
import type { DriveConfig } from '../machine/drive-config.ts'
import type { DriveInfo } from '../machine/drive.ts'
import type { CardFilter, NetworkChange, NetworkInfo } from '../net/config.ts'
import type { Manage } from '../machine/management.ts'
import type { ObjectConfig } from '../objects/config.ts'

/** What the monitor does with a machine. */
export interface MonitoredMachine {
  readonly status: MachineStatus
  pause(): Promise<void>
  resume(): Promise<void>
  reset(): Promise<void>
  powerdown(): void
  cpus(): Promise<CpuInfo[]>
  /** Counters by name. */
  stats(): Promise<Record<string, number>>
  picture(): Promise<Picture>
  sendKeys(names: readonly string[], holdMs?: number): Promise<void>
  addDevice(option: DeviceOption): Promise<void>
  removeDevice(id: string): Promise<void>
  /** Options that make the devices that are plugged in now. */
  devices(): Promise<DeviceOption[]>
  drives(): Promise<DriveInfo[]>
  networks(): Promise<NetworkInfo[]>
  changeNetwork(change: NetworkChange): Promise<void>
  rxFilters(name?: string): Promise<CardFilter[]>
  addDrive(config: DriveConfig): Promise<void>
  removeDrive(id: string): Promise<void>
  addObject(config: ObjectConfig): Promise<void>
  removeObject(id: string): Promise<void>
  readonly manage: Manage
}

/** A character device as the monitor sees it. */
export interface ChardevInfo {
  label: string
  filename: string
  /** Whether something in the machine has it. */
  isOpen: boolean
  /** The memory of a `ringbuf`. */
  ring?: { read(length: number): Uint8Array; write(data: Uint8Array): unknown }
}

/** Character devices that come and go. Methods throw, or reject with, `E_CHARDEV`. */
export interface CharacterControl {
  list(): readonly ChardevInfo[]
  /** Resolves to where a terminal is. */
  add(id: string, settings: ChardevSettings): Promise<{ pty?: string }>
  remove(id: string): void
  /** Puts another device in the place of one, for its user as well. */
  change(id: string, settings: ChardevSettings): Promise<{ pty?: string }>
  /** As if the other end had sent a break. */
  sendBreak(id: string): void
}

/** What commands work on. */
export interface MonitorContext {
  machine: MonitoredMachine
  name: string | undefined
  uuid: string | undefined
  characters: CharacterControl
  /** Ends the machine and the process. */
  quit(): void
  /** Lines entered so far. */
  history(): readonly string[]
}

/** A command of the monitor, complete: dispatch, help and completion read only this. */
export interface MonitorCommand {
  name: string
  alias?: string
  /** How arguments are shown in help. */
  params: string
  help: string
  maxArgs: number
  /** Commands that the first argument selects from. */
  subcommands?: readonly MonitorCommand[]
  /**
   * @returns text to show; lines end with `\n`
   * @throws MonitorError, VmmError
   */
  run(context: MonitorContext, args: readonly string[]): Promise<string> | string
}

/** A wrong argument: the message is shown, and nothing happened. */
export class MonitorError extends Error {
  override readonly name: string = 'MonitorError'
}
