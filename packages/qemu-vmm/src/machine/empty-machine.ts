import type { Kvm } from 'kvm-core'

import type { Picture } from '../chipset/vga/render.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import { VmmError } from '../errors.ts'
import type { MonitoredMachine } from '../monitor/command.ts'
import { openEngine } from './accel.ts'
import type { CpuInfo, ExitInfo, MachineConfig, MachineStatus } from './config.ts'
import type { DriveInfo } from './drive.ts'
import type { CardFilter, NetworkInfo } from '../net/config.ts'
import { Emitter } from './emitter.ts'
import type { Manage } from './management.ts'
import type { EventDetail, MachineEvent } from './emitter.ts'

type EmptyConfig = Pick<MachineConfig, 'accel' | 'tcg' | 'log' | 'startPaused'>

/**
 * The machine `none`, which has no processor, no memory and no bus: monitors tell of the program rather
 * than of a guest. Management programs start it to ask what there is.
 */
export class EmptyMachine implements MonitoredMachine {
  /** Resolves when the machine has ended. */
  readonly exited: Promise<ExitInfo>
  readonly #emitter: Emitter = new Emitter()
  readonly #config: EmptyConfig
  #kvm: Kvm | undefined
  #status: MachineStatus = 'prelaunch'
  #end: (info: ExitInfo) => void = () => {}

  constructor(config: EmptyConfig) {
    this.#config = config
    this.exited = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  get status(): MachineStatus {
    return this.#status
  }

  /** Opens the accelerator, of which can be asked. Rejects as machines do where it cannot be had. */
  async start(): Promise<void> {
    this.#kvm = openEngine(this.#config)
    if (this.#config.startPaused !== true) this.#status = 'running'
  }

  async pause(): Promise<void> {
    if (this.#status !== 'running') return
    this.#status = 'paused'
    this.#emitter.emit('stop')
  }

  async resume(): Promise<void> {
    if (this.#status === 'running') return
    this.#status = 'running'
    this.#emitter.emit('resume')
  }

  async reset(): Promise<void> {
    this.#emitter.emit('reset', { guest: false })
  }

  /** There is no button, but who presses it is heard. */
  powerdown(): void {
    this.#emitter.emit('powerdown')
  }

  async quit(): Promise<void> {
    this.#kvm?.close()
    this.#kvm = undefined
    this.#end({ reason: 'quit', guest: false, code: 0 })
  }

  on<E extends MachineEvent>(event: E, listener: (detail: EventDetail<E>) => void): () => void {
    return this.#emitter.on(event, listener)
  }

  async cpus(): Promise<CpuInfo[]> {
    return []
  }

  /** That something is translated says which engine it is. */
  async stats(): Promise<Record<string, number>> {
    return this.#kvm?.engine === 'host' ? {} : { translations: 0 }
  }

  async devices(): Promise<DeviceOption[]> {
    return []
  }

  async drives(): Promise<DriveInfo[]> {
    return []
  }

  async networks(): Promise<NetworkInfo[]> {
    return []
  }

  async changeNetwork(): Promise<void> {
    throw absent('a use for networks')
  }

  async rxFilters(): Promise<CardFilter[]> {
    return []
  }

  async picture(): Promise<Picture> {
    throw absent('a screen')
  }

  async sendKeys(): Promise<void> {
    throw absent('a keyboard')
  }

  async addDevice({ driver }: DeviceOption): Promise<void> {
    throw absent(`a bus for '${driver}'`)
  }

  async removeDevice(id: string): Promise<void> {
    throw new VmmError('E_DEVICE_NOT_FOUND', `Device '${id}' not found`, { fields: { device: id } })
  }

  async addDrive(): Promise<void> {
    throw absent('a use for drives')
  }

  async removeDrive(id: string): Promise<void> {
    throw new VmmError('E_NO_DRIVE', `Failed to find node with node-name='${id}'`)
  }

  async addObject(): Promise<void> {
    throw absent('a use for objects')
  }

  /** Nothing is in it that could be managed. */
  readonly manage: Manage = (call, ..._args) => {
    if (call === 'balloon' || call === 'setBalloon') {
      return Promise.reject(new VmmError('E_NO_BALLOON', 'No balloon device has been activated'))
    }
    if (call === 'blockBackends' || call === 'objects') return Promise.resolve([] as never)
    return Promise.reject(absent('such a thing'))
  }

  async removeObject(id: string): Promise<void> {
    throw new VmmError('E_CONFIG', `object '${id}' not found`)
  }
}

function absent(what: string): VmmError {
  return new VmmError('E_CONFIG', `machine 'none' does not have ${what}; choose 'pc' or 'q35'`)
}
