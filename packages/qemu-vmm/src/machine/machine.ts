import type { Picture } from '../chipset/vga/render.ts'
import type { DeviceDefinition } from '../device.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import { isCpuType } from '../devices/processor.ts'
import { keysByName } from '../display/keys.ts'
import type { Display } from '../display/display.ts'
import type { Screen } from '../display/screen.ts'
import type { CardFilter, NetworkChange, NetworkInfo } from '../net/config.ts'
import { VmmError, asVmmError } from '../errors.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { BackendEvents, MachineBackend } from './backend.ts'
import type { CpuInfo, ExitInfo, MachineConfig, MachineStatus } from './config.ts'
import { loadDevices } from './device-modules.ts'
import { cpuInfo } from './cpu-info.ts'
import { ostOf } from './cpu-places.ts'
import { watchRefusals } from './cpu-refusals.ts'
import type { DriveConfig } from './drive-config.ts'
import { Drives } from './drives.ts'
import type { DriveInfo } from './drive.ts'
import { type FlashImage, findFlashFiles, readFlash } from './flash-image.ts'
import { Hardware } from './hardware.ts'
import type { MachineState } from './machine-state.ts'
import { type ManagementCall, carryOut } from './management.ts'
import { checkObjectAdded } from './object-check.ts'
import { openDrive } from './open-drive.ts'
import { totalStats } from './total-stats.ts'

const RESUMABLE: ReadonlySet<MachineStatus> = new Set(['paused', 'prelaunch', 'io-error'])

/** What the run loop and devices ask for; an error is the request to stop. */
type GuestRequest =
  | 'reset'
  | 'shutdown'
  | 'suspend'
  | 'wake'
  | 'panic'
  | 'io-error'
  | { exitCode: number }
  | VmmError

/**
 * A machine whose devices live in this isolate. Operations run one after the other; what the
 * guest asks for (reset, power-off) and failures park the vCPUs at once and then queue like them.
 */
export class Machine implements MachineBackend {
  readonly #config: MachineConfig
  readonly #events: BackendEvents
  readonly #hardware: Hardware
  readonly #endRefusals: () => void
  #status: MachineStatus = 'prelaunch'
  #requested: GuestRequest | undefined
  #closed = false
  #queue: Promise<unknown> = Promise.resolve()

  private constructor(
    config: MachineConfig,
    events: BackendEvents,
    devices: readonly DeviceDefinition[],
    drives: Drives,
    flash: readonly FlashImage[],
  ) {
    this.#config = config
    this.#events = events
    this.#hardware = new Hardware(config, devices, drives, flash, {
      reset: () => this.#request('reset'),
      powerOff: () => this.#request('shutdown'),
      suspend: () => this.#request('suspend'),
      wake: () => this.#request('wake'),
      panic: () => this.#panicked(),
      crashLoaded: () => this.#events.event('guest-crashloaded'),
      fail: (error) => this.#request(error),
      log: (message) => events.log(message),
      exit: (exitCode) => this.#request({ exitCode }),
      deleted: (device) => events.event('device-deleted', device),
      ost: (report) => events.event('acpi-ost', ostOf(this.#hardware.places, report)),
      clockSet: (offset) => events.event('rtc-change', { offset }),
      balloonChanged: (actual) => events.event('balloon-change', { actual }),
    })
    this.#endRefusals = watchRefusals(this.#hardware.handles.vcpus, this.#hardware.board.bus)
  }

  /** Builds the machine; nothing runs yet. */
  static async create(config: MachineConfig, events: BackendEvents): Promise<Machine> {
    const devices = await loadDevices(config.devices ?? [])
    // A request may fail before the machine is there to be stopped.
    const made: { machine?: Machine } = {}
    const drives = await Drives.open(findFlashFiles(config), openDrive, {
      onStop(id, error) {
        events.log(`drive ${id}: ${error.message}; the machine stops until it is resumed`)
        made.machine?.stopForIo()
      },
      log: (message) => events.log(message),
      nowNs: () => performance.now() * 1e6,
      trayMoved: (moved) => events.event('tray-moved', moved),
    })
    try {
      made.machine = new Machine(config, events, devices, drives, await readFlash(config, drives))
      await made.machine.#hardware.networks.ready()
      return made.machine
    } catch (error) {
      await (made.machine === undefined ? drives.close() : made.machine.#release())
      throw error
    }
  }

  start(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#config.startPaused !== true) this.#run()
    })
  }

  pause(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#status !== 'running') return
      await this.#hardware.park()
      this.#setStatus('paused')
      this.#events.event('stop')
    })
  }

  resume(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#status === 'running') return
      if (!RESUMABLE.has(this.#status)) {
        throw new VmmError(
          'E_INVALID_STATE',
          `the machine is in state ${this.#status}; reset it before it can go on`,
          { fields: { status: this.#status } },
        )
      }
      this.#run()
      this.#events.event('resume')
    })
  }

  reset(): Promise<void> {
    return this.#enqueue(() => this.#resetNow(false))
  }

  powerdown(): void {
    this.#events.event('powerdown')
    this.#hardware.board.pm.pressPowerButton()
  }

  /** A disk request failed, and waits: the machine stops until it is resumed. */
  stopForIo(): void {
    this.#request('io-error')
  }

  async quit(): Promise<void> {
    // The guest may have ended the machine while this waited for its turn.
    const before = this.#queue
    const finished = (async () => {
      await before
      if (!this.#closed) await this.#finish({ reason: 'quit', guest: false, code: 0 })
    })()
    this.#queue = finished.catch(() => {})
    await finished
  }

  cpus(): Promise<CpuInfo[]> {
    return this.#whileParked(() =>
      cpuInfo(this.#hardware.handles.vcpus, this.#hardware.places.present),
    )
  }

  saveState(): Promise<MachineState> {
    return this.#whileParked(() => this.#hardware.save())
  }

  loadState(state: MachineState): Promise<void> {
    return this.#whileParked(async () => {
      this.#hardware.checkState(state)
      try {
        await this.#hardware.load(state)
      } catch (error) {
        this.#setStatus('internal-error')
        throw error
      }
    })
  }

  devices(): Promise<DeviceOption[]> {
    return this.#enqueue(async () => this.#hardware.devices)
  }

  addDevice(option: DeviceOption): Promise<void> {
    const add = (): Promise<void> => this.#hardware.addDevice(option)
    return isCpuType(option.driver) ? this.#whileParked(add) : this.#enqueue(add)
  }

  removeDevice(id: string): Promise<void> {
    return this.#enqueue(async () => this.#hardware.requestRemoval(id))
  }

  drives(): Promise<DriveInfo[]> {
    return this.#enqueue(async () => this.#hardware.drives)
  }

  async networks(): Promise<NetworkInfo[]> {
    return this.#hardware.networks.list()
  }

  changeNetwork(change: NetworkChange): Promise<void> {
    return this.#enqueue(() => this.#hardware.networks.change(change))
  }

  async rxFilters(name?: string): Promise<CardFilter[]> {
    return this.#hardware.networks.filters(name)
  }

  addDrive(drive: DriveConfig): Promise<void> {
    return this.#enqueue(() => this.#hardware.addBackend({ drive }))
  }

  removeDrive(id: string): Promise<void> {
    return this.#enqueue(() => this.#hardware.removeBackend('drive', id))
  }

  addObject(object: ObjectConfig): Promise<void> {
    return this.#enqueue(async () => {
      checkObjectAdded(object)
      await this.#hardware.addBackend({ object })
    })
  }

  removeObject(id: string): Promise<void> {
    return this.#enqueue(() => this.#hardware.removeBackend('object', id))
  }

  manage(call: ManagementCall, ...args: readonly unknown[]): Promise<never> {
    const work = (): Promise<unknown> => carryOut(this.#hardware.management, call, args)
    // What a processor has mapped is told of one that stands.
    const done = call === 'readVirtual' ? this.#whileParked(work) : this.#enqueue(work)
    return done as Promise<never>
  }

  stats(): Promise<Record<string, number>> {
    return this.#whileParked(() => totalStats(this.#hardware))
  }

  async screen(): Promise<Screen | undefined> {
    return this.#display?.screen()
  }

  async picture(): Promise<Picture> {
    const display = this.#display
    if (display !== undefined) return display.picture()
    throw new VmmError('E_CONFIG', "the machine has no screen; plug in a 'VGA'")
  }

  async sendKeys(names: readonly string[], holdMs: number = 0): Promise<void> {
    const keys = keysByName(names)
    if (!this.#closed) this.#hardware.board.keys.press(keys, holdMs)
  }

  get #display(): Display | undefined {
    if (this.#closed) throw new VmmError('E_CLOSED', 'the machine is closed; create a new one')
    return this.#hardware.board.displays[0]
  }

  /** Runs operations one after the other; one that fails does not stop the next. */
  #enqueue<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      if (this.#closed) throw new VmmError('E_CLOSED', 'the machine is closed; create a new one')
      return operation()
    })
    this.#queue = result.catch(() => {})
    return result
  }

  #whileParked<T>(operation: () => T | Promise<T>): Promise<T> {
    return this.#enqueue(async () => {
      const wasRunning = this.#status === 'running'
      if (wasRunning) await this.#hardware.park()
      try {
        return await operation()
      } finally {
        if (wasRunning && this.#status === 'running' && this.#requested === undefined) this.#run()
      }
    })
  }

  /** Called from handlers, in the middle of an exit: park first, act when the vCPUs stand. */
  #request(request: GuestRequest): void {
    if (this.#requested !== undefined || this.#closed) return
    this.#requested = request
    const parked = this.#hardware.park()
    const served = this.#enqueue(async () => {
      await parked
      this.#requested = undefined
      // An operation that was queued before may have let the vCPUs go on.
      await this.#hardware.park()
      try {
        await this.#serveRequest(request)
      } catch (error) {
        this.#fail(asVmmError(error))
      }
    })
    // It can only fail because the machine was closed in the meantime.
    served.catch(() => {})
  }

  #panicked(): void {
    if (this.#requested !== undefined || this.#closed) return
    const isIgnored = this.#config.panicAction === 'none'
    const action = isIgnored ? 'run' : this.#endsByPanic() ? 'poweroff' : 'pause'
    this.#events.event('guest-panicked', { action })
    if (!isIgnored) this.#request('panic')
  }

  async #serveRequest(request: GuestRequest): Promise<void> {
    if (request instanceof VmmError) return this.#fail(request)
    if (request === 'panic' && this.#endsByPanic()) {
      const code = this.#config.panicAction === 'exit-failure' ? 1 : 0
      await this.#finish({ reason: 'panic', guest: true, code })
      return
    }
    if (request === 'panic' || request === 'io-error') {
      this.#setStatus(request === 'panic' ? 'guest-panicked' : 'io-error')
      this.#events.event('stop')
      return
    }
    if (typeof request === 'object') {
      await this.#finish({ reason: 'shutdown', guest: true, code: request.exitCode })
      return
    }
    if (request === 'suspend' || request === 'wake') {
      if (request === 'suspend') this.#hardware.suspend()
      else await this.#hardware.wake()
      this.#run()
      return
    }
    if (request === 'reset' && this.#config.rebootAction !== 'shutdown') {
      await this.#resetNow(true)
      return
    }
    this.#events.event('shutdown', {
      reason: request === 'reset' ? 'guest-reset' : 'guest-shutdown',
    })
    if (this.#config.shutdownAction === 'pause') {
      this.#setStatus('shutdown')
      this.#events.event('stop')
      return
    }
    await this.#finish({ reason: request, guest: true, code: 0 })
  }

  /** As on QEMU a machine that stops when its guest powers off stops here too. */
  #endsByPanic(): boolean {
    const { panicAction = 'pause', shutdownAction } = this.#config
    if (panicAction === 'shutdown') return shutdownAction !== 'pause'
    return panicAction === 'exit-failure'
  }

  /** The machine stands, and can be inspected, reset or closed. */
  #fail(error: VmmError): void {
    this.#setStatus('internal-error')
    this.#events.event('stop')
    this.#events.exited({ reason: 'error', guest: false, code: 1, error })
  }

  async #resetNow(guest: boolean): Promise<void> {
    const shouldRun = this.#status === 'running'
    await this.#hardware.park()
    if (!guest) this.#hardware.board.resetPci()
    await this.#hardware.reset()
    this.#events.event('reset', { guest })
    if (shouldRun) this.#run()
    else if (this.#status !== 'prelaunch') this.#setStatus('paused')
  }

  #run(): void {
    this.#hardware.run()
    this.#setStatus('running')
  }

  #setStatus(status: MachineStatus): void {
    this.#status = status
    this.#events.status(status)
  }

  async #finish(info: ExitInfo): Promise<void> {
    this.#hardware.stopClock()
    this.#setStatus('shutdown')
    this.#closed = true
    await this.#release()
    this.#events.exited(info)
  }

  async #release(): Promise<void> {
    await this.#hardware.release()
    this.#endRefusals()
  }
}
