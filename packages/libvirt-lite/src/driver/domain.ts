import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef } from '../rpc/index.ts'
import { pinDomain, placeVcpus } from './affinity.ts'
import { applyBalloon, askBalloon } from './balloon.ts'
import { limitsOf } from './control-groups/limits.ts'
import { clockChanged } from './clock.ts'
import { copyOnce } from './copy.ts'
import { ShownCpu, expandCpu, withoutFallback } from './cpu.ts'
import type { DomainHost } from './domain-host.ts'
import { Jobs } from './jobs.ts'
import { LiveDevices } from './live-devices.ts'
import { Machine, newStatus } from './machine.ts'
import type { MachineEvents, MachineStatus, StartOptions } from './machine.ts'
import { numberSources } from '../domain/index.ts'
import { commandOf, factsOf, formatDomain, formatKept, formatRunning, runningOf } from './model.ts'
import type { DomainDefinition, DomainFacts } from './model.ts'
import { noticeOf } from './notice.ts'
import type { Notice } from './notice.ts'
import { textIn } from './qmp.ts'
import type { QmpEvent } from './qmp.ts'
import { settle } from './settle.ts'
import {
  CrashedReason,
  Detail,
  Lifecycle,
  PausedReason,
  RunningReason,
  ShutdownReason,
  ShutoffReason,
  State,
} from './states.ts'
import type { DomainState } from './states.ts'

const GRACE_MS = 5000

/** One domain: its definition, the emulator that runs it, and the state it is in. */
export class Domain {
  readonly uuid: string
  name: string
  /** What it starts from the next time; undefined for a domain that only exists while it runs. */
  definition: DomainDefinition | undefined
  /** What it runs with. */
  live: DomainDefinition | undefined
  autostart = false
  state: DomainState = { state: State.SHUTOFF, reason: ShutoffReason.UNKNOWN }
  /** Whether the definition was changed since it was started. */
  isUpdated = false
  /** KiB that the guest has, when a balloon says so. */
  balloonKib: number | undefined
  /** Somebody gave the emulator commands of his own. */
  isTainted = false
  readonly devices: LiveDevices
  readonly #host: DomainHost
  #machine: Machine | undefined
  readonly #jobs = new Jobs()
  readonly #cpu = new ShownCpu()
  /** When the guest has shut down, it starts again: that is how a reboot works without the guest's help. */
  #rebootsAfterShutdown = false
  /** Why the process is about to end, if it is known. */
  #ending: { reason: number; detail: number } | undefined

  constructor(host: DomainHost, { name, uuid }: { name: string; uuid: string }) {
    this.#host = host
    this.name = name
    this.uuid = uuid
    this.devices = new LiveDevices(this, {
      check: host.check,
      removed: (alias) => host.notice(this, { kind: 'device-removed', alias }),
    })
  }

  get isActive(): boolean {
    return this.#machine !== undefined
  }

  get isPersistent(): boolean {
    return this.definition !== undefined
  }

  /** -1 while it does not run. */
  get id(): number {
    return this.#machine?.id ?? -1
  }

  get ref(): DomainRef {
    return { name: this.name, uuid: this.uuid, id: this.id }
  }

  get facts(): DomainFacts {
    return factsOf((this.live ?? this.definition)!)
  }

  /** The emulator. @throws VirtError when there is none */
  get machine(): Machine {
    if (this.#machine === undefined) throw invalid('domain is not running')
    return this.#machine
  }

  xml(options: { inactive: boolean; secure: boolean; migratable: boolean }): string {
    const machine = this.#machine
    if (machine === undefined || (options.inactive && this.definition !== undefined)) {
      return formatDomain(this.definition!, { ...options, inactive: true })
    }
    const { balloonKib } = this
    const live = {
      id: machine.id,
      terminals: machine.terminals,
      ...(balloonKib === undefined ? {} : { currentMemoryKib: balloonKib }),
    }
    if (options.inactive) return formatDomain(this.live!, { ...options, live: undefined })
    const cpu = options.migratable ? undefined : this.#cpu.known
    const shown = cpu === undefined ? this.live! : { ...this.live!, cpu }
    return formatDomain(withoutFallback(shown), { ...options, live })
  }

  /** Asks for what {@link xml} shows of a running one beside its definition. */
  async look(): Promise<void> {
    if (this.#machine !== undefined) await this.#cpu.ask(this.#machine, this.live!)
  }

  /** One operation at a time; rejects with `VirtError` if the one before takes too long. */
  exclusively<T>(work: () => Promise<T> | T): Promise<T> {
    return this.#jobs.run(work)
  }

  /** Starts it. Rejects with `VirtError`, and as before, when that fails. */
  async start(start: StartOptions): Promise<void> {
    const { paused } = start
    if (this.#machine !== undefined) throw invalid('domain is already running')
    const definition = await settle(runningOf(this.live ?? this.definition!), this.#host.nvram)
    const facts = factsOf(definition)
    const id = this.#host.nextId()
    const folder = join(this.#host.run, `${id}`)
    const status = newStatus({ uuid: this.uuid, id, xml: formatRunning(definition) }, start)
    status.clockStart = Number(definition.clock?.adjustment ?? 0)
    const logFile = this.#host.logFile(this.name)
    this.#ending = undefined
    this.#rebootsAfterShutdown = false
    try {
      this.#host.check(this, facts)
      const group = this.#host.groups.make(this.uuid, limitsOf(definition))
      if (group !== undefined) status.group = group
      rmSync(folder, { recursive: true, force: true })
      mkdirSync(folder, { mode: 0o700 })
      const qmpSocket = join(folder, 'qmp.sock')
      const options = { qmpSocket, logFile, stateDir: folder, limits: true }
      const command = await commandOf(definition, options)
      for (const copy of command.copies) copyOnce(copy, start.resetNvram)
      const machine = await Machine.start(folder, status, { ...command, logFile }, this.#events())
      this.#machine = machine
      this.live = definition
      this.isUpdated = false
      this.state = { state: State.PAUSED, reason: PausedReason.STARTING_UP }
      this.balloonKib = await applyBalloon(machine, facts)
      await this.devices.atStart()
      await pinDomain(machine, definition)
      const expanded = await expandCpu(machine, definition)
      if (expanded !== definition) this.running(expanded)
      await this.#cpu.check(machine, definition.cpu, expanded)
      if (paused) this.state = { state: State.PAUSED, reason: PausedReason.USER }
      else {
        await this.#go(machine)
        this.state = { state: State.RUNNING, reason: RunningReason.BOOTED }
      }
      machine.started()
    } catch (error) {
      const machine = this.#machine
      this.#ending = { reason: ShutoffReason.FAILED, detail: Detail.STOPPED_FAILED }
      if (machine === undefined) {
        rmSync(folder, { recursive: true, force: true })
        if (status.group !== undefined) this.#host.groups.remove(status.group)
        this.live = undefined
        this.state = { state: State.SHUTOFF, reason: ShutoffReason.FAILED }
        if (!this.isPersistent) this.#host.gone(this)
      } else await machine.kill(0)
      throw error
    }
    this.#host.lifecycle(this, Lifecycle.STARTED, Detail.STARTED_BOOTED)
    if (paused) this.#host.lifecycle(this, Lifecycle.SUSPENDED, Detail.SUSPENDED_PAUSED)
  }

  /** Takes over an emulator that another daemon started. @returns whether it still runs */
  async attach(folder: string, status: MachineStatus, live: DomainDefinition): Promise<boolean> {
    const machine = await Machine.attach(folder, status, this.#events())
    if (machine === undefined) {
      rmSync(folder, { recursive: true, force: true })
      this.state = { state: State.SHUTOFF, reason: ShutoffReason.CRASHED }
      return false
    }
    this.#machine = machine
    this.live = live
    // As far as can be told now.
    this.isUpdated =
      this.definition !== undefined && formatKept(live) !== formatKept(this.definition)
    this.balloonKib = await askBalloon(this.#machine)
    await this.devices.reconcile()
    const { status: now } = (await machine.execute('query-status')) as { status: string }
    if (now === 'running') this.state = { state: State.RUNNING, reason: RunningReason.UNKNOWN }
    else if (now === 'shutdown') this.#onShutdown(true)
    else if (now === 'guest-panicked') {
      this.state = { state: State.CRASHED, reason: CrashedReason.PANICKED }
    } else this.state = { state: State.PAUSED, reason: PausedReason.UNKNOWN }
    return true
  }

  /** Has the guest go on. Threads of its vCPUs may only now be there. */
  async #go(machine: Machine): Promise<void> {
    await machine.execute('cont')
    await placeVcpus(this.#host.groups, machine, this.live!)
  }

  async suspend(): Promise<void> {
    if (this.machine && this.state.state === State.PAUSED) return
    await this.machine.execute('stop')
    this.#paused(PausedReason.USER)
  }

  async resume(): Promise<void> {
    const { machine } = this
    if (this.state.state === State.RUNNING) throw invalid('domain is already running')
    if (this.state.state === State.CRASHED)
      throw invalid('the guest has crashed: reset or destroy it')
    await this.#go(machine)
    this.#resumed()
  }

  async shutdown(): Promise<void> {
    this.#needsGuest()
    this.#rebootsAfterShutdown = false
    await this.machine.execute('system_powerdown')
  }

  async reboot(): Promise<void> {
    this.#needsGuest()
    this.#rebootsAfterShutdown = true
    await this.machine.execute('system_powerdown')
  }

  async reset(): Promise<void> {
    await this.machine.execute('system_reset')
    if (this.state.state === State.CRASHED) this.#paused(PausedReason.UNKNOWN)
  }

  /** Ends it at once; with `graceful` the emulator may write what it has, for a while. */
  async destroy({ graceful }: { graceful: boolean }): Promise<void> {
    const { machine } = this
    this.#ending = { reason: ShutoffReason.DESTROYED, detail: Detail.STOPPED_DESTROYED }
    const asked = machine.execute('quit').catch(() => undefined)
    if (graceful) await asked
    await machine.kill(GRACE_MS)
  }

  /** Notes what it runs with after a change. */
  running(live: DomainDefinition): void {
    numberSources(live)
    this.live = live
    try {
      this.#machine?.changed(formatRunning(live))
    } catch (error) {
      // It is so all the same; a further daemon would not know.
      this.#host.warn(`cannot note what '${this.name}' runs with: ${(error as Error).message}`)
    }
  }

  tell(notice: Notice): void {
    this.#host.notice(this, notice)
  }

  /** Lets the emulator go on without this daemon. */
  detach(): void {
    this.#machine?.detach()
  }

  #needsGuest(): void {
    if (!this.isActive || this.state.state === State.SHUTDOWN)
      throw invalid('domain is not running')
  }

  #events(): MachineEvents {
    return { event: (event) => this.#event(event), ended: () => this.#ended() }
  }

  #event({ event, data }: QmpEvent): void {
    if (this.#machine === undefined) return
    if (event === 'STOP' && this.state.state === State.RUNNING) this.#paused(PausedReason.UNKNOWN)
    else if (event === 'RESUME' && this.state.state === State.PAUSED) this.#resumed()
    else if (event === 'RESET') this.#onReset(data?.['guest'] === true)
    else if (event === 'SHUTDOWN') this.#onShutdown(data?.['guest'] === true)
    else if (event === 'GUEST_PANICKED') this.#onPanic()
    else if (event === 'BALLOON_CHANGE') this.#onBalloon(data?.['actual'])
    else if (event === 'DEVICE_DELETED') void this.devices.deleted(textIn(data, 'device'))
    else if (event === 'RTC_CHANGE') clockChanged(this, data?.['offset'])
    const notice = noticeOf(event, data)
    if (notice !== undefined) this.tell(notice)
  }

  #onBalloon(bytes: unknown): void {
    if (!Number.isSafeInteger(bytes)) return
    this.balloonKib = Math.floor((bytes as number) / 1024)
    this.#host.notice(this, { kind: 'balloon', kib: this.balloonKib })
  }

  #paused(reason: number): void {
    if (this.state.state !== State.PAUSED) {
      this.#host.lifecycle(this, Lifecycle.SUSPENDED, Detail.SUSPENDED_PAUSED)
    }
    this.state = { state: State.PAUSED, reason }
  }

  #resumed(): void {
    if (this.state.state !== State.RUNNING) {
      this.#host.lifecycle(this, Lifecycle.RESUMED, Detail.RESUMED_UNPAUSED)
    }
    this.state = { state: State.RUNNING, reason: RunningReason.UNPAUSED }
  }

  #onReset(byGuest: boolean): void {
    this.#host.rebooted(this)
    const facts = this.facts
    if (!byGuest || facts.onReboot === 'restart') return
    if (facts.onReboot === 'destroy') this.#stop(ShutoffReason.SHUTDOWN, Detail.STOPPED_SHUTDOWN)
  }

  /** The guest has turned the machine off, which waits for what becomes of it. */
  #onShutdown(byGuest: boolean): void {
    if (this.#ending !== undefined) return
    const { onPoweroff } = this.facts
    const restarts = this.#rebootsAfterShutdown || onPoweroff === 'restart'
    if (restarts) {
      this.#rebootsAfterShutdown = false
      void this.#again()
      return
    }
    this.state = { state: State.SHUTDOWN, reason: ShutdownReason.UNKNOWN }
    const detail = byGuest ? Detail.SHUTDOWN_GUEST : Detail.SHUTDOWN_HOST
    this.#host.lifecycle(this, Lifecycle.SHUTDOWN, detail)
    if (onPoweroff === 'preserve') {
      this.state = { state: State.PAUSED, reason: PausedReason.SHUTTING_DOWN }
      return
    }
    this.#stop(ShutoffReason.SHUTDOWN, Detail.STOPPED_SHUTDOWN)
  }

  async #again(): Promise<void> {
    try {
      await this.machine.execute('system_reset')
      await this.#go(this.machine)
      this.#resumed()
    } catch {
      this.#stop(ShutoffReason.FAILED, Detail.STOPPED_FAILED)
    }
  }

  #onPanic(): void {
    this.state = { state: State.CRASHED, reason: CrashedReason.PANICKED }
    this.#host.lifecycle(this, Lifecycle.CRASHED, Detail.CRASHED_PANICKED)
    const { onCrash } = this.facts
    if (onCrash === 'restart') void this.#again()
    else if (onCrash === 'destroy') this.#stop(ShutoffReason.CRASHED, Detail.STOPPED_CRASHED)
  }

  #stop(reason: number, detail: number): void {
    this.#ending = { reason, detail }
    const machine = this.#machine
    machine?.execute('quit').catch(() => undefined)
    void machine?.kill(GRACE_MS).catch(() => undefined)
  }

  #ended(): void {
    const machine = this.#machine
    // While it starts, that is for whoever starts it.
    if (machine === undefined) return
    machine.forget()
    if (machine.group !== undefined) this.#host.groups.remove(machine.group)
    const { reason, detail } = this.#ending ?? {
      reason: ShutoffReason.CRASHED,
      detail: Detail.STOPPED_FAILED,
    }
    // Told with the id that it had.
    const { ref } = this
    this.#machine = undefined
    this.live = undefined
    this.balloonKib = undefined
    this.#cpu.forget()
    this.isTainted = false
    this.state = { state: State.SHUTOFF, reason }
    this.lastRef = ref
    this.#host.lifecycle(this, Lifecycle.STOPPED, detail)
    if (!this.isPersistent) this.#host.gone(this)
  }

  /** As it was named while it ran the last time. */
  lastRef: DomainRef | undefined
}

export function invalid(text: string): VirtError {
  return new VirtError(ErrorCode.OPERATION_INVALID, `Requested operation is not valid: ${text}`)
}
