import type { Picture } from '../chipset/vga/render.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import { TYPED_MS } from '../display/key-queue.ts'
import { keysOfCharacter } from '../display/keys.ts'
import { encodePng } from '../display/png.ts'
import { screenText } from '../display/screen.ts'
import type { Screen } from '../display/screen.ts'
import { VmmError } from '../errors.ts'
import type { CardFilter, NetworkChange, NetworkInfo } from '../net/config.ts'
import type { ObjectConfig } from '../objects/config.ts'
import type { BackendEvents, MachineBackend } from './backend.ts'
import { checkConfig } from './config-check.ts'
import type { CpuInfo, ExitInfo, MachineConfig, MachineStatus } from './config.ts'
import { Console } from './console.ts'
import type { DriveConfig } from './drive-config.ts'
import type { DriveInfo } from './drive.ts'
import { Emitter } from './emitter.ts'
import type { EventDetail, MachineEvent } from './emitter.ts'
import { removeAndWait } from './removal.ts'
import { WorkerMachine } from './host/worker-machine.ts'
import type { MachineState } from './machine-state.ts'
import type { Manage } from './management.ts'

/** A virtual machine: create it, start it, talk to it, close it. */
export class VirtualMachine implements AsyncDisposable {
  /** Resolves when the machine has ended or failed. Never rejects. */
  readonly exited: Promise<ExitInfo>
  readonly #config: MachineConfig
  readonly #emitter: Emitter = new Emitter()
  readonly #console: Console | undefined
  readonly #events: BackendEvents
  #backend: MachineBackend | undefined
  #starting: Promise<void> | undefined
  #status: MachineStatus = 'prelaunch'
  #ended = false

  /** Checks the configuration; throws `E_CONFIG` or `E_MEMORY_SIZE`. Nothing is opened yet. */
  constructor(config: MachineConfig) {
    checkConfig(config)
    this.#console = config.serial === undefined ? new Console() : undefined
    this.#config = this.#console === undefined ? config : { ...config, serial: [this.#console] }
    let resolveExited: (info: ExitInfo) => void = () => {}
    this.exited = new Promise((resolve) => {
      resolveExited = resolve
    })
    const log = config.log ?? ((message: string) => process.stderr.write(`qemu-vmm: ${message}\n`))
    this.#events = {
      status: (status) => {
        this.#status = status
      },
      event: (event, detail) => this.#emitter.emit(event, detail),
      exited: (info) => {
        this.#ended = true
        this.#console?.end(`the machine ended (${info.reason})`)
        resolveExited(info)
      },
      log: (message) => {
        log(message)
      },
    }
  }

  /** Creates a machine and starts it. */
  static async start(config: MachineConfig): Promise<VirtualMachine> {
    const vm = new VirtualMachine(config)
    await vm.start()
    return vm
  }

  get status(): MachineStatus {
    return this.#status
  }

  /** Opens everything and, unless `startPaused`, lets the guest run. */
  async start(): Promise<void> {
    if (this.#starting !== undefined) {
      throw new VmmError('E_INVALID_STATE', 'the machine was started already')
    }
    this.#starting = this.#open()
    await this.#starting
  }

  pause(): Promise<void> {
    return this.#running.then((backend) => backend.pause())
  }

  resume(): Promise<void> {
    return this.#running.then((backend) => backend.resume())
  }

  /** The reset button. */
  reset(): Promise<void> {
    return this.#running.then((backend) => backend.reset())
  }

  /** The power button: the guest is told and may shut down. */
  powerdown(): void {
    this.#running.then((backend) => backend.powerdown()).catch(() => {})
  }

  /** Ends the machine and frees everything. May be called at any time, also twice. */
  async quit(): Promise<void> {
    // A start that failed has cleaned up after itself.
    await this.#starting?.catch(() => {})
    const backend = this.#backend
    this.#backend = undefined
    await backend?.quit()
    if (!this.#ended) this.#events.exited({ reason: 'quit', guest: false, code: 0 })
  }

  /** Adds a listener; returns a function that removes it. */
  on<E extends MachineEvent>(event: E, listener: (detail: EventDetail<E>) => void): () => void {
    return this.#emitter.on(event, listener)
  }

  /**
   * Options that make the devices that are plugged in now, in the same places: as `plug` of another
   * machine, which then can load this one's state.
   */
  devices(): Promise<DeviceOption[]> {
    return this.#running.then((backend) => backend.devices())
  }

  /**
   * Plugs a device in while the machine runs; the guest is told. Rejects with `E_HOTPLUG` where that
   * cannot be (on q35 only a `pcie-root-port` has room), `E_DEVICE_OPTION` or `E_CONFIG` for options
   * that cannot be; nothing has changed then.
   */
  addDevice(option: DeviceOption): Promise<void> {
    return this.#running.then((backend) => backend.addDevice(option))
  }

  /**
   * Asks the guest to let go of a device; resolves when it has been asked. It may take its time, or keep
   * the device: the event `device-deleted` says that it is gone, and its drive free. With `timeoutMs`
   * this waits for that, and rejects with `E_TIMEOUT`.
   *
   * Rejects with `E_DEVICE_NOT_FOUND`, and with `E_HOTPLUG` where it cannot be taken out, or not now.
   */
  async removeDevice(id: string, options: { timeoutMs?: number } = {}): Promise<void> {
    const backend = await this.#running
    const { timeoutMs } = options
    if (timeoutMs === undefined) await backend.removeDevice(id)
    else
      await removeAndWait(this.#emitter, this.exited, id, timeoutMs, () => backend.removeDevice(id))
  }

  /** The networks, and the cards that are connected to them. */
  networks(): Promise<NetworkInfo[]> {
    return this.#running.then((backend) => backend.networks())
  }

  /**
   * Adds a network, for a card that is added later; removes one, after which its card has a cable that leads nowhere; or
   * pulls a cable out and puts it in again. Rejects with `E_NETDEV` or `E_DEVICE_NOT_FOUND`.
   */
  changeNetwork(change: NetworkChange): Promise<void> {
    return this.#running.then((backend) => backend.changeNetwork(change))
  }

  /** What cards let through, of all that have filters or the one with this name. Rejects with `E_NETDEV`. */
  rxFilters(name?: string): Promise<CardFilter[]> {
    return this.#running.then((backend) => backend.rxFilters(name))
  }

  /** The drives that are open, and the devices that have them. */
  drives(): Promise<DriveInfo[]> {
    return this.#running.then((backend) => backend.drives())
  }

  /** Opens a disk image, for a device that is added later. */
  addDrive(config: DriveConfig): Promise<void> {
    return this.#running.then((backend) => backend.addDrive(config))
  }

  /** Closes one. Rejects with `E_NO_DRIVE` when there is none, `E_IN_USE` while a device has it. */
  removeDrive(id: string): Promise<void> {
    return this.#running.then((backend) => backend.removeDrive(id))
  }

  /** Adds an object, for a device that is added later. */
  addObject(config: ObjectConfig): Promise<void> {
    return this.#running.then((backend) => backend.addObject(config))
  }

  /** Removes one that no device uses. Rejects with `E_CONFIG` otherwise. */
  removeObject(id: string): Promise<void> {
    return this.#running.then((backend) => backend.removeObject(id))
  }

  cpus(): Promise<CpuInfo[]> {
    return this.#running.then((backend) => backend.cpus())
  }

  /** Bytes that the guest has: its memory without the balloon. Rejects with `E_NO_BALLOON` without one. */
  balloon(): Promise<number> {
    return this.manage('balloon')
  }

  /**
   * Asks the guest to make do with so many bytes, by its `virtio-balloon-pci`; resolves when it has been asked. The event
   * `balloon-change` says what it has come to.
   */
  setBalloon(bytes: number): Promise<void> {
    return this.manage('setBalloon', bytes)
  }

  /** What monitors do beside all this. */
  readonly manage: Manage = (call, ...args) =>
    this.#running.then((backend) => backend.manage(call, ...args))

  /** Everything that the guest can tell; a running machine stands still meanwhile. */
  saveState(): Promise<MachineState> {
    return this.#running.then((backend) => backend.saveState())
  }

  /** Replaces the state. The configuration must be that of the machine that was saved. */
  loadState(state: MachineState): Promise<void> {
    return this.#running.then((backend) => backend.loadState(state))
  }

  /** Counters; `AnonHugePages` and `residentBytes` are bytes. */
  stats(): Promise<Record<string, number>> {
    return this.#running.then((backend) => backend.stats())
  }

  /**
   * Waits for text on COM1, which must have no backend of its own. Resolves with the output since
   * the last match; rejects with `E_TIMEOUT` or `E_ENDED`, whose message shows the screen.
   */
  async expect(text: string | RegExp, options: { timeoutMs?: number } = {}): Promise<string> {
    return this.#ownConsole('expect').expect(text, options.timeoutMs)
  }

  /** Types on COM1, which must have no backend of its own. */
  type(text: string): void {
    this.#ownConsole('type').type(text)
  }

  /**
   * What the guest shows: the text of its VGA screen, rows without the spaces at their ends, or where
   * there is none the end of what it wrote on COM1. Rejects with `E_CONFIG` when there is neither.
   */
  async screen(): Promise<string> {
    const screen = await this.screenState()
    if (screen.kind === 'text') return screenText(screen)
    if (this.#console !== undefined) return this.#console.screen
    throw new VmmError(
      'E_CONFIG',
      "the screen has no text: it is in a graphics mode, or there is no 'VGA' and COM1 is not ours",
    )
  }

  /** The screen of the VGA as a PNG file. Rejects with `E_CONFIG` when there is none. */
  async screenshot(): Promise<Uint8Array> {
    return encodePng(await this.picture())
  }

  /** The screen of the VGA as pixels. Rejects with `E_CONFIG` when there is none. */
  picture(): Promise<Picture> {
    return this.#running.then((backend) => backend.picture())
  }

  /** What is on the VGA screen: characters with their attributes, or the size of a picture. */
  async screenState(): Promise<Screen> {
    const backend = await this.#running
    return (await backend.screen()) ?? { kind: 'off' }
  }

  /**
   * Presses keys of the PC keyboard together, by QEMU's names: `sendKeys(['ctrl', 'alt', 'delete'])`.
   * They are released after `holdMs` of guest time. Rejects with `E_KEY` for names of no key.
   */
  sendKeys(names: readonly string[], holdMs: number = 0): Promise<void> {
    return this.#running.then((backend) => backend.sendKeys(names, holdMs))
  }

  /**
   * Types on the PC keyboard, as on one with a US layout, 50 keys in a second of guest time. Rejects with `E_KEY` for characters that it
   * does not have, before it types any.
   */
  async typeKeys(text: string): Promise<void> {
    const chords = Array.from(text, (char) => {
      const keys = keysOfCharacter(char)
      if (keys !== undefined) return keys
      throw new VmmError('E_KEY', `no key types '${char}'; use the characters of a US keyboard`, {
        fields: { char },
      })
    })
    const backend = await this.#running
    for (const keys of chords) await backend.sendKeys(keys, TYPED_MS)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.quit()
  }

  get #running(): Promise<MachineBackend> {
    const backend = this.#backend
    if (backend !== undefined) return Promise.resolve(backend)
    const reason = this.#starting === undefined ? 'not started yet' : 'closed'
    return Promise.reject(new VmmError('E_INVALID_STATE', `the machine is ${reason}`))
  }

  #ownConsole(method: string): Console {
    if (this.#console !== undefined) return this.#console
    throw new VmmError('E_CONFIG', `${method} needs COM1; leave out 'serial' to use it`)
  }

  async #open(): Promise<void> {
    const create =
      this.#config.host === 'worker'
        ? WorkerMachine.create
        : (await import('./machine.ts')).Machine.create
    try {
      this.#backend = await create(this.#config, this.#events)
      await this.#backend.start()
    } catch (error) {
      const cause = error instanceof Error ? error : new Error(String(error))
      this.#events.exited({ reason: 'error', guest: false, code: 1, error: cause })
      throw error
    }
  }
}
