import type { Picture } from '../chipset/vga/render.ts'
import type { Screen } from '../display/screen.ts'
import type { CpuInfo, ExitInfo, MachineStatus } from './config.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import type { CardFilter, NetworkChange, NetworkInfo } from '../net/config.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { DriveConfig } from './drive-config.ts'
import type { DriveInfo } from './drive.ts'
import type { EventDetail, MachineEvent } from './emitter.ts'
import type { MachineState } from './machine-state.ts'
import type { Manage } from './management.ts'

/** A running machine, in this isolate or in a worker. */
export interface MachineBackend {
  start(): Promise<void>
  pause(): Promise<void>
  resume(): Promise<void>
  reset(): Promise<void>
  powerdown(): void
  quit(): Promise<void>
  cpus(): Promise<CpuInfo[]>
  saveState(): Promise<MachineState>
  loadState(state: MachineState): Promise<void>
  stats(): Promise<Record<string, number>>
  /** What is on the screen; undefined where there is none. */
  screen(): Promise<Screen | undefined>
  /** What a monitor would show. Throws `E_CONFIG` without a screen. */
  picture(): Promise<Picture>
  /** Presses keys of the keyboard together, by their names. Throws `E_KEY`. */
  sendKeys(names: readonly string[], holdMs?: number): Promise<void>
  /** Options that make the devices that are plugged in now. */
  devices(): Promise<DeviceOption[]>
  addDevice(option: DeviceOption): Promise<void>
  /** Asks the guest to let go of a device. */
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

/** What a backend reports. */
export interface BackendEvents {
  status(status: MachineStatus): void
  event(event: MachineEvent, detail?: EventDetail<MachineEvent>): void
  /** The machine ended or failed. The first call counts. */
  exited(info: ExitInfo): void
  log(message: string): void
}
