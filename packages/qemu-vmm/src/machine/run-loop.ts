import { ExitReason, KVM_RUN } from 'kvm-core'
import type { DeviceHost, PostedWrite, ServeHandlers, Vm } from 'kvm-core'

import { VmmError } from '../errors.ts'
import type { Bus } from './bus.ts'
import { POST_PORT } from './pc.ts'

/** A handler that takes longer than this is slow: every vCPU waits for it. */
export const SLOW_HANDLER_MS = 5
/** One slow call is as often the host's scheduler as the device's fault; this many are not. */
export const SLOW_CALLS = 3
/** They count when they come within this time. */
const SLOW_WINDOW_MS = 1000

// KVM_SYSTEM_EVENT_*
const EVENT_SHUTDOWN = 1
const EVENT_RESET = 2
const EVENT_CRASH = 3

/** What the run loop cannot decide itself. */
export interface RunLoopActions {
  /** The guest asks for a reset, or its CPU shut down by a triple fault. */
  reset(): void
  powerOff(): void
  panic(): void
  /** The machine cannot go on: a device threw, or the CPU failed. */
  fail(error: VmmError): void
  log(message: string): void
  /** An ioeventfd was signalled. */
  ioevent(id: number): void
  /** Milliseconds of the host, for the watchdog. */
  nowMs(): number
}

/** Serves the exits of all vCPUs, one at a time, in the isolate that owns the devices. */
export class RunLoop {
  readonly #bus: Bus
  readonly #actions: RunLoopActions
  readonly #handlers: ServeHandlers
  /** When each device was slow lately. */
  readonly #slow = new Map<string, number[]>()
  /** Until then accesses are timed one by one, because some turn was slow. */
  #timedUntilMs = 0
  #timed = false
  #host: DeviceHost | undefined

  constructor(bus: Bus, actions: RunLoopActions) {
    this.#bus = bus
    this.#actions = actions
    this.#handlers = {
      exit: (vcpu, run) => this.exit(vcpu, run),
      ioevent: actions.ioevent,
      posted: (write) => this.#posted(write),
    }
  }

  /** Serves the exits of `vm` from now on, once all devices are mapped. */
  attach(vm: Vm): void {
    vm.route({ space: 'pio', base: POST_PORT, len: 1, kind: 'ignore' })
    for (const space of ['pio', 'mmio'] as const) {
      for (const range of this.#bus[space].postedRanges()) {
        vm.route({ space, ...range, kind: 'posted' })
      }
    }
    const host = vm.createDeviceHost(() => this.serve(host))
    this.#host = host
  }

  close(): void {
    this.#host?.close()
  }

  /**
   * Called when exits wait. Returns to the event loop after at most 64 exits or 100 us.
   *
   * Asking for the time costs more than most devices do. So it is the turns that are timed, and only
   * for a while after a slow one the accesses in them.
   */
  serve(host: DeviceHost): void {
    const startMs = this.#actions.nowMs()
    this.#timed = startMs < this.#timedUntilMs
    host.serve(this.#handlers)
    const endMs = this.#actions.nowMs()
    if (endMs - startMs > SLOW_HANDLER_MS) this.#timedUntilMs = endMs + SLOW_WINDOW_MS
  }

  /** Serves the writes that vCPUs which stand now left behind. */
  drain(): void {
    const host = this.#host
    for (let write = host?.takePosted(); write !== undefined; write = host?.takePosted()) {
      this.#posted(write)
    }
  }

  /** One exit of one vCPU. The vCPU goes on when this returns, unless it was asked to pause. */
  exit(vcpu: number, run: ArrayBuffer): void {
    if (this.#timed) this.#timedAccess(vcpu, run)
    else if (!this.#access(vcpu, run)) this.#other(vcpu, run)
  }

  #other(vcpu: number, run: ArrayBuffer): void {
    switch (this.#bus.exitReason(run, vcpu)) {
      case ExitReason.Intr:
      case ExitReason.IrqWindowOpen:
      case ExitReason.CountReached:
        break
      case ExitReason.Shutdown:
        this.#actions.reset()
        break
      case ExitReason.SystemEvent:
        this.#systemEvent(run)
        break
      default:
        this.#actions.fail(cpuFailure(vcpu, run))
    }
  }

  /** Serves a device access; false for every other exit. */
  #access(vcpu: number, run: ArrayBuffer): boolean {
    try {
      return this.#bus.dispatch(run, vcpu)
    } catch (error) {
      this.#failed(error)
      return true
    }
  }

  #posted(write: PostedWrite): void {
    try {
      this.#bus.posted(write)
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    this.#actions.fail(
      error instanceof VmmError
        ? error
        : new VmmError('E_DEVICE_FAULT', `the bus failed: ${String(error)}`, { cause: error }),
    )
  }

  #timedAccess(vcpu: number, run: ArrayBuffer): void {
    const startMs = this.#actions.nowMs()
    if (!this.#access(vcpu, run)) return this.#other(vcpu, run)
    const endMs = this.#actions.nowMs()
    if (endMs - startMs > SLOW_HANDLER_MS) {
      this.#watch(this.#bus.describe(run, vcpu), endMs, endMs - startMs)
    }
  }

  /** Logs a device that is slow again and again, at most once in a window. */
  #watch(name: string, nowMs: number, tookMs: number): void {
    const recent = (this.#slow.get(name) ?? []).filter((at) => nowMs - at < SLOW_WINDOW_MS)
    recent.push(nowMs)
    this.#slow.set(name, recent)
    if (recent.length !== SLOW_CALLS) return
    this.#actions.log(
      `${SLOW_CALLS} accesses to ${name} took more than ${SLOW_HANDLER_MS} ms each, the last ` +
        `${tookMs.toFixed(1)} ms; handlers must return at once: start slow work there and raise ` +
        'an interrupt when it is done',
    )
  }

  #systemEvent(run: ArrayBuffer): void {
    switch (new DataView(run).getUint32(KVM_RUN.systemEventType, true)) {
      case EVENT_SHUTDOWN:
        this.#actions.powerOff()
        break
      case EVENT_RESET:
        this.#actions.reset()
        break
      case EVENT_CRASH:
        this.#actions.panic()
        break
      default:
        break
    }
  }
}

function cpuFailure(vcpu: number, run: ArrayBuffer): VmmError {
  const view = new DataView(run)
  const reason = view.getUint32(KVM_RUN.exitReason, true)
  const name =
    Object.entries(ExitReason).find(([, value]) => value === reason)?.[0] ?? `reason ${reason}`
  const detail = view.getUint32(KVM_RUN.internalSuberror, true)
  return new VmmError(
    'E_CPU_FAILED',
    `vCPU ${vcpu} stopped with the exit ${name} (detail 0x${detail.toString(16)}), which this ` +
      'machine does not continue from; the guest can only be inspected or reset',
    { fields: { vcpu, reason, detail } },
  )
}
