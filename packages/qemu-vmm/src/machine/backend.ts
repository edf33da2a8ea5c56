import type { Picture } from '../chipset/vga/render.ts'
import type { Screen } from '../display/screen.ts'
import type { CpuInfo, ExitInfo, MachineStatus } from './config.ts'
import type { MachineEvent } from './emitter.ts'
import type { MachineState } from './machine-state.ts'

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
}

/** What a backend reports. */
export interface BackendEvents {
  status(status: MachineStatus): void
  event(event: MachineEvent): void
  /** The machine ended or failed. The first call counts. */
  exited(info: ExitInfo): void
  log(message: string): void
}
