import type { Picture } from '../chipset/vga/render.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import type { CpuInfo, MachineStatus } from '../machine/config.ts'
import type { DriveConfig } from '../machine/drive-config.ts'
import type { DriveInfo } from '../machine/drives.ts'
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
  /** The memory of a `ringbuf`. */
  ring?: { read(length: number): Uint8Array; write(data: Uint8Array): unknown }
}

/** What commands work on. */
export interface MonitorContext {
  machine: MonitoredMachine
  name: string | undefined
  uuid: string | undefined
  chardevs(): readonly ChardevInfo[]
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
