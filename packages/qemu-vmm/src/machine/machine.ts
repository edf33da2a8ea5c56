import type { DeviceHost } from 'kvm-core'

import type { BootImage } from '../boot/loader.ts'
import { openBootImage } from '../boot/open.ts'
import type { DeviceDefinition, Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import { assembleVm } from './assemble.ts'
import type { VmHandles } from './assemble.ts'
import type { BackendEvents, MachineBackend } from './backend.ts'
import { HostClock } from './clock.ts'
import type { MachineClock } from './clock.ts'
import type { CpuInfo, ExitInfo, MachineConfig, MachineStatus } from './config.ts'
import { loadDevices } from './device-modules.ts'
import { hostEntropy } from './entropy.ts'
import { loadGuest } from './guest-loader.ts'
import { deviceMemory } from './guest-view.ts'
import { logGuestErrors } from './guest-errors.ts'
import { IrqLines } from './irq.ts'
import { checkState, loadMachine, saveMachine } from './machine-state.ts'
import type { MachineState } from './machine-state.ts'
import { createMemoryMap } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'
import { POST_PORT, PcBoard } from './pc.ts'
import { RunLoop } from './run-loop.ts'
import { captureStandstill, leaveStandstill } from './standstill.ts'
import type { Standstill } from './standstill.ts'

const MP_STATE_HALTED = 3

/** What the run loop and devices ask for; an error is the request to stop. */
type GuestRequest = 'reset' | 'shutdown' | 'panic' | { exitCode: number } | VmmError

/**
 * A machine whose devices live in this isolate. Operations run one after the other; what the
 * guest asks for (reset, power-off) and failures park the vCPUs at once and then queue like them.
 */
export class Machine implements MachineBackend {
  readonly #config: MachineConfig
  readonly #events: BackendEvents
  readonly #map: MemoryMap
  readonly #clock: MachineClock
  readonly #entropy: Entropy
  readonly #handles: VmHandles
  readonly #board: PcBoard
  readonly #boot: BootImage
  readonly #host: DeviceHost
  readonly #loop: RunLoop
  readonly #irqs: IrqLines
  readonly #msrs: readonly number[]
  readonly #powerOn: Standstill
  #status: MachineStatus = 'prelaunch'
  #threadsStarted = false
  /** What the machine goes on from; undefined while it runs. */
  #standstill: Standstill | undefined
  #requested: GuestRequest | undefined
  #closed = false
  #queue: Promise<unknown> = Promise.resolve()

  private constructor(config: MachineConfig, events: BackendEvents, devices: DeviceDefinition[]) {
    this.#config = config
    this.#events = events
    this.#map = createMemoryMap(config.memory)
    this.#entropy = config.entropy ?? hostEntropy
    this.#boot = openBootImage({
      kernel: config.kernel ?? '',
      ...(config.initrd === undefined ? {} : { initrd: config.initrd }),
      ...(config.append === undefined ? {} : { append: config.append }),
    })
    try {
      this.#handles = assembleVm(config, this.#map)
    } catch (error) {
      this.#boot.close()
      throw error
    }
    const { kvm, vm } = this.#handles
    this.#clock = config.clock ?? new HostClock(() => Number(vm.getClock().clock))
    this.#irqs = new IrqLines((gsi, level) => vm.irqLine(gsi, level))
    this.#irqs.hold()
    this.#msrs = kvm.getMsrIndexList()
    try {
      this.#board = new PcBoard({
        irqs: this.#irqs,
        clock: this.#clock,
        map: this.#map,
        serial: config.serial ?? [],
        actions: {
          reset: () => this.#request('reset'),
          powerOff: () => this.#request('shutdown'),
        },
      })
      for (const definition of devices) {
        this.#board.addCustomDevice(definition, {
          ram: deviceMemory(vm.memory),
          clock: this.#clock,
          entropy: this.#entropy,
          log: (message) => events.log(`${definition.name}: ${message}`),
          exit: (exitCode) => this.#request({ exitCode }),
        })
      }
      if (config.logItems?.includes('guest_errors')) {
        logGuestErrors(this.#board.bus, (message) => events.log(message))
      }
      this.#loop = new RunLoop(this.#board.bus, {
        reset: () => this.#request('reset'),
        powerOff: () => this.#request('shutdown'),
        panic: () => this.#request('panic'),
        fail: (error) => this.#request(error),
        log: (message) => events.log(message),
        nowMs: () => performance.now(),
      })
      vm.route({ space: 'pio', base: POST_PORT, len: 1, kind: 'ignore' })
      this.#host = vm.createDeviceHost(() => this.#loop.serve(this.#host))
      this.#powerOn = this.#capture()
      this.#loadGuest()
    } catch (error) {
      void this.#release()
      throw error
    }
  }

  /** Builds the machine; nothing runs yet. */
  static async create(config: MachineConfig, events: BackendEvents): Promise<Machine> {
    return new Machine(config, events, await loadDevices(config.devices ?? []))
  }

  start(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#config.startPaused !== true) this.#run()
    })
  }

  pause(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#status !== 'running') return
      await this.#park()
      this.#setStatus('paused')
      this.#events.event('stop')
    })
  }

  resume(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#status === 'running') return
      if (this.#status !== 'paused' && this.#status !== 'prelaunch') {
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
    return this.#enqueue(() => this.#resetNow())
  }

  powerdown(): void {
    this.#events.event('powerdown')
    this.#board.pm.pressPowerButton()
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
      this.#handles.vcpus.map((vcpu) => ({
        index: vcpu.index,
        halted: vcpu.getMpState() === MP_STATE_HALTED,
        regs: vcpu.getRegs().slice(),
        sregs: vcpu.getSregs(),
        fpu: vcpu.getFpu(),
        debugRegs: vcpu.getDebugRegs(),
        events: vcpu.getVcpuEvents(),
      })),
    )
  }

  saveState(): Promise<MachineState> {
    return this.#whileParked(() => saveMachine(this.#parts()))
  }

  loadState(state: MachineState): Promise<void> {
    return this.#whileParked(() => {
      checkState(this.#parts(), state)
      try {
        this.#standstill = loadMachine(this.#parts(), state)
      } catch (error) {
        this.#setStatus('internal-error')
        throw error
      }
    })
  }

  stats(): Promise<Record<string, number>> {
    return this.#whileParked(() => {
      const { kvm, ram, vcpus } = this.#handles
      const totals: Record<string, number> = {
        memoryBytes: ram.size,
        AnonHugePages: ram.hugeBytes(),
        residentBytes: ram.residentBytes(),
      }
      for (const vcpu of vcpus) {
        const counters = Object.entries(vcpu.stats()) as [string, number][]
        if (kvm.engine === 'soft') counters.push(['instructions', vcpu.instructions()])
        for (const [name, value] of counters) totals[name] = (totals[name] ?? 0) + value
      }
      return totals
    })
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

  #whileParked<T>(operation: () => T): Promise<T> {
    return this.#enqueue(async () => {
      const wasRunning = this.#status === 'running'
      if (wasRunning) await this.#park()
      try {
        return operation()
      } finally {
        if (wasRunning && this.#status === 'running' && this.#requested === undefined) this.#run()
      }
    })
  }

  /** Called from handlers, in the middle of an exit: park first, act when the vCPUs stand. */
  #request(request: GuestRequest): void {
    if (this.#requested !== undefined || this.#closed) return
    this.#requested = request
    const parked = this.#park()
    const served = this.#enqueue(async () => {
      await parked
      this.#requested = undefined
      // An operation that was queued before may have let the vCPUs go on.
      await this.#park()
      try {
        await this.#serveRequest(request)
      } catch (error) {
        this.#fail(asVmmError(error))
      }
    })
    // It can only fail because the machine was closed in the meantime.
    served.catch(() => {})
  }

  async #serveRequest(request: GuestRequest): Promise<void> {
    if (request instanceof VmmError) return this.#fail(request)
    if (request === 'panic') {
      this.#setStatus('guest-panicked')
      this.#events.event('stop')
      return
    }
    if (typeof request === 'object') {
      await this.#finish({ reason: 'shutdown', guest: true, code: request.exitCode })
      return
    }
    if (request === 'reset' && this.#config.rebootAction !== 'shutdown') {
      await this.#resetNow()
      return
    }
    this.#events.event('shutdown')
    if (this.#config.shutdownAction === 'pause') {
      this.#setStatus('shutdown')
      this.#events.event('stop')
      return
    }
    await this.#finish({ reason: request, guest: true, code: 0 })
  }

  /** The machine stands, and can be inspected, reset or closed. */
  #fail(error: VmmError): void {
    this.#setStatus('internal-error')
    this.#events.event('stop')
    this.#events.exited({ reason: 'error', guest: false, code: 1, error })
  }

  async #resetNow(): Promise<void> {
    const shouldRun = this.#status === 'running'
    await this.#park()
    this.#loadGuest()
    this.#events.event('reset')
    if (shouldRun) this.#run()
    else if (this.#status !== 'prelaunch') this.#setStatus('paused')
  }

  /** Power-on state of everything, then what firmware and boot loader leave behind. */
  #loadGuest(): void {
    const clock = this.#standstill?.clock ?? this.#powerOn.clock
    loadGuest({
      clock,
      config: this.#config,
      ...this.#handles,
      board: this.#board,
      map: this.#map,
      boot: this.#boot,
      entropy: this.#entropy,
      powerOn: this.#powerOn,
    })
    this.#irqs.settle()
    this.#standstill = this.#capture(clock)
  }

  #run(): void {
    const { vm, vcpus } = this.#handles
    if (this.#standstill !== undefined) leaveStandstill(vm, vcpus, this.#standstill)
    this.#standstill = undefined
    this.#irqs.release()
    this.#clock.resume()
    for (const vcpu of vcpus) {
      if (this.#threadsStarted) vcpu.resume()
      else vcpu.start()
    }
    this.#threadsStarted = true
    this.#setStatus('running')
  }

  /** Stops the vCPUs and guest time. Does nothing when they stand already. */
  async #park(): Promise<void> {
    if (!this.#threadsStarted) return
    await Promise.all(this.#handles.vcpus.map((vcpu) => vcpu.pause()))
    if (this.#standstill !== undefined) return
    this.#irqs.hold()
    this.#standstill = this.#capture()
  }

  /** The state of the parked hardware. All clocks are stopped at the same moment. */
  #capture(clock?: bigint): Standstill {
    const { vm, vcpus } = this.#handles
    this.#clock.pause()
    const moment = clock ?? vm.getClock().clock
    if (this.#config.clock === undefined) this.#clock.set(Number(moment))
    return captureStandstill(vm, vcpus, this.#msrs, moment)
  }

  #setStatus(status: MachineStatus): void {
    this.#status = status
    this.#events.status(status)
  }

  #parts(): Parameters<typeof saveMachine>[0] {
    return {
      ...this.#handles,
      board: this.#board,
      clock: this.#clock,
      map: this.#map,
      standstill: this.#standstill ?? this.#powerOn,
    }
  }

  async #finish(info: ExitInfo): Promise<void> {
    this.#clock.pause()
    this.#setStatus('shutdown')
    await this.#release()
    this.#events.exited(info)
  }

  async #release(): Promise<void> {
    this.#closed = true
    const { kvm, vm, vcpus } = this.#handles
    if (this.#threadsStarted) await Promise.all(vcpus.map((vcpu) => vcpu.stop()))
    this.#board?.close()
    this.#host?.close()
    this.#boot.close()
    await vm.close()
    kvm.close()
  }
}

function asVmmError(error: unknown): VmmError {
  if (error instanceof VmmError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new VmmError('E_INTERNAL', message, { cause: error })
}
