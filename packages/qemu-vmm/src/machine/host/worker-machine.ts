import type { Worker } from 'node:worker_threads'

import type { Picture } from '../../chipset/vga/render.ts'
import type { DeviceOption } from '../../devices/device-type.ts'
import type { Screen } from '../../display/screen.ts'
import { VmmError, errorFromData } from '../../errors.ts'
import type { BackendEvents, MachineBackend } from '../backend.ts'
import type { CardFilter, NetworkChange, NetworkInfo } from '../../net/config.ts'
import { connectHook, withoutConnectHook } from '../../net/connect-hook.ts'
import {
  type ConnectRequest,
  type OnConnect,
  type Verdict,
  closeVerdict,
  decide,
} from '../../net/user/decision.ts'
import type { ObjectConfig } from '../../objects/config.ts'
import type { CpuInfo, MachineConfig } from '../config.ts'
import type { DriveConfig } from '../drive-config.ts'
import type { DriveInfo } from '../drive.ts'
import type { MachineState } from '../machine-state.ts'
import type { ManagementCall } from '../management.ts'
import { takeWorker } from './device-worker.ts'
import type { FromWorker, RemoteMethod, ToWorker, WorkerSetup } from './protocol.ts'
import { MainSerial } from './serial-link.ts'

interface Call {
  resolve(value: unknown): void
  reject(error: Error): void
}

/**
 * A machine whose devices live in a worker. When the worker dies, its addon stops the vCPUs, and
 * this side reports `E_WORKER_DIED`.
 */
export class WorkerMachine implements MachineBackend {
  readonly #worker: Worker
  readonly #events: BackendEvents
  readonly #serial: (MainSerial | undefined)[]
  readonly #hooks: ReadonlyMap<string, OnConnect | undefined>
  readonly #calls = new Map<number, Call>()
  #nextId = 1
  #ended = false
  #death: VmmError | undefined

  private constructor(config: MachineConfig, events: BackendEvents) {
    this.#events = events
    const {
      serial = [],
      chardevs = {},
      devices = [],
      netdevs = [],
      log: _log,
      host: _host,
      clock: _c,
      entropy: _e,
      ...rest
    } = config
    const setup: WorkerSetup = {
      config: { ...rest, netdevs: netdevs.map(withoutConnectHook) },
      devices: devices.map((device) => (device instanceof URL ? device.href : device.name)),
      serial: serial.map((backend) => backend !== undefined),
      chardevs: Object.keys(chardevs),
      connectHooks: netdevs.filter(connectHook).map(({ id }) => id),
    }
    this.#hooks = new Map(netdevs.map((netdev) => [netdev.id, connectHook(netdev)]))
    this.#worker = takeWorker(setup)
    this.#serial = [...serial, ...Object.values(chardevs)].map(
      (backend, port) =>
        backend &&
        new MainSerial(
          backend,
          (data) => this.#post({ type: 'serial-in', port, data }, [data.buffer as ArrayBuffer]),
          (bytes) => this.#post({ type: 'serial-credit', port, bytes }),
          () => this.#post({ type: 'serial-break', port }),
        ),
    )
  }

  static async create(config: MachineConfig, events: BackendEvents): Promise<WorkerMachine> {
    const machine = new WorkerMachine(config, events)
    await machine.#created()
    return machine
  }

  async start(): Promise<void> {
    await this.#call('start')
  }

  async pause(): Promise<void> {
    await this.#call('pause')
  }

  async resume(): Promise<void> {
    await this.#call('resume')
  }

  async reset(): Promise<void> {
    await this.#call('reset')
  }

  powerdown(): void {
    this.#call('powerdown').catch(() => {})
  }

  async quit(): Promise<void> {
    if (this.#death === undefined) {
      await this.#call('quit').catch((error: unknown) => {
        // It may end by itself while the call is under way.
        if (!this.#ended) throw error
      })
    }
    await this.#worker.terminate()
  }

  async cpus(): Promise<CpuInfo[]> {
    return (await this.#call('cpus')) as CpuInfo[]
  }

  async saveState(): Promise<MachineState> {
    return (await this.#call('saveState')) as MachineState
  }

  async loadState(state: MachineState): Promise<void> {
    await this.#call('loadState', state)
  }

  async stats(): Promise<Record<string, number>> {
    return (await this.#call('stats')) as Record<string, number>
  }

  async screen(): Promise<Screen | undefined> {
    return (await this.#call('screen')) as Screen | undefined
  }

  async picture(): Promise<Picture> {
    return (await this.#call('picture')) as Picture
  }

  async sendKeys(names: readonly string[], holdMs: number = 0): Promise<void> {
    await this.#call('sendKeys', names, holdMs)
  }

  async devices(): Promise<DeviceOption[]> {
    return (await this.#call('devices')) as DeviceOption[]
  }

  async addDevice(option: DeviceOption): Promise<void> {
    await this.#call('addDevice', option)
  }

  async removeDevice(id: string): Promise<void> {
    await this.#call('removeDevice', id)
  }

  async networks(): Promise<NetworkInfo[]> {
    return (await this.#call('networks')) as NetworkInfo[]
  }

  async changeNetwork(change: NetworkChange): Promise<void> {
    if ('add' in change && connectHook(change.add) !== undefined) {
      throw new VmmError(
        'E_NETDEV',
        `network '${change.add.id}' comes too late for onConnect: give it to the machine, or use host: 'inline'`,
        { fields: { id: change.add.id } },
      )
    }
    await this.#call('changeNetwork', change)
  }

  async rxFilters(name?: string): Promise<CardFilter[]> {
    return (await this.#call('rxFilters', name)) as CardFilter[]
  }

  async drives(): Promise<DriveInfo[]> {
    return (await this.#call('drives')) as DriveInfo[]
  }

  async addDrive(config: DriveConfig): Promise<void> {
    await this.#call('addDrive', config)
  }

  async removeDrive(id: string): Promise<void> {
    await this.#call('removeDrive', id)
  }

  async addObject(config: ObjectConfig): Promise<void> {
    await this.#call('addObject', config)
  }

  async removeObject(id: string): Promise<void> {
    await this.#call('removeObject', id)
  }

  manage(call: ManagementCall, ...args: unknown[]): Promise<never> {
    return this.#call('manage', call, ...args) as Promise<never>
  }

  /** Resolves when the worker has built the machine. */
  #created(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#worker.on('message', (message: FromWorker) => {
        if (message.type === 'created') resolve()
        else if (message.type === 'failed') {
          this.#ended = true
          this.#closeSerial()
          reject(errorFromData(message.error))
        } else this.#receive(message)
      })
      this.#worker.on('error', (error) => {
        this.#died(`threw: ${error instanceof Error ? error.message : String(error)}`, error)
        reject(this.#death!)
      })
      this.#worker.on('exit', (code) => {
        this.#died(`ended with exit code ${code}`)
        reject(this.#death!)
      })
    })
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'result':
        this.#settle(message.id)?.resolve(message.value)
        break
      case 'error':
        this.#settle(message.id)?.reject(errorFromData(message.error))
        break
      case 'status':
        this.#events.status(message.status)
        break
      case 'event':
        this.#events.event(message.event, message.detail)
        break
      case 'log':
        this.#events.log(message.message)
        break
      case 'serial-out':
        this.#serial[message.port]?.output(message.data)
        break
      case 'serial-room':
        this.#serial[message.port]?.addRoom(message.bytes)
        break
      case 'connect-request':
        void this.#decide(message.id, message.request)
        break
      case 'exited':
        this.#exited(message)
        break
      default:
        break
    }
  }

  async #decide(id: number, request: ConnectRequest): Promise<void> {
    let verdict: Verdict = 'refuse'
    try {
      const hook = this.#hooks.get(request.network)
      if (hook !== undefined) verdict = await decide(hook, request)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#events.log(`a connection was refused: ${reason}`)
    }
    if (this.#ended) closeVerdict(verdict)
    else this.#post({ type: 'connect-verdict', id, verdict })
  }

  #exited({ info, error }: FromWorker & { type: 'exited' }): void {
    const isFirst = !this.#ended
    this.#ended = true
    // A machine that failed can still be inspected; one that ended has nothing left.
    if (info.reason !== 'error') {
      this.#closeSerial()
      void this.#worker.terminate()
    }
    if (!isFirst) return
    this.#events.exited(error === undefined ? info : { ...info, error: errorFromData(error) })
  }

  #died(how: string, cause?: unknown): void {
    if (this.#death !== undefined) return
    this.#death = new VmmError('E_WORKER_DIED', `the worker with the devices ${how}`, { cause })
    for (const call of this.#calls.values()) call.reject(this.#death)
    this.#calls.clear()
    if (this.#ended) return
    this.#ended = true
    this.#closeSerial()
    this.#events.status('internal-error')
    this.#events.exited({ reason: 'error', guest: false, code: 1, error: this.#death })
  }

  #closeSerial(): void {
    for (const port of this.#serial.splice(0)) port?.close()
  }

  #settle(id: number): Call | undefined {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    return call
  }

  #call(method: RemoteMethod, ...args: unknown[]): Promise<unknown> {
    if (this.#death !== undefined) return Promise.reject(this.#death)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject })
      this.#post({ type: 'call', id, method, args })
    })
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    if (this.#death === undefined) this.#worker.postMessage(message, transfer)
  }
}
