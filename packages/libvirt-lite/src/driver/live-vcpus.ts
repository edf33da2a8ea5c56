import { pluggedVcpus, vcpuStates, withVcpus } from '../domain/index.ts'
import type { VcpuState } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Domain } from './domain.ts'
import type { DomainDefinition } from './model.ts'

/** A guest that has not let go of a processor by then is not waited for. */
const UNPLUG_MS = 10_000
const LEVELS = ['socket-id', 'die-id', 'core-id', 'thread-id'] as const

/** A place for a processor, as the emulator tells of it. */
interface Slot {
  type: string
  props: Readonly<Record<string, number>>
  'vcpus-count': number
  'qom-path'?: string
}

/** Processors that are plugged into a running domain, and out of it. */
export class LiveVcpus {
  readonly #domain: Domain
  readonly #waiting = new Map<number, (isGone: boolean) => void>()

  constructor(domain: Domain) {
    this.#domain = domain
  }

  /** Plugs in what the emulator was not started with; the guest does not run yet. Rejects with `VirtError` */
  async atStart(): Promise<void> {
    const { live } = this.#domain
    if (live?.vcpus === undefined) return
    const wanted = pluggedVcpus(live)
    if (wanted.length > 0) {
      const slots = await this.#slots()
      for (const { id } of wanted) await this.#plug(slots, id)
    }
    this.#became(ordered(vcpuStates(live)))
  }

  /** Has as many processors as are wanted. Rejects with `VirtError`; some may have changed then. */
  async setCount(count: number): Promise<void> {
    const states = vcpuStates(this.#domain.live!)
    const enabled = states.filter((state) => state.enabled)
    if (count >= enabled.length) {
      const free = states.filter((state) => !state.enabled).slice(0, count - enabled.length)
      await this.#add(free.map(({ id }) => id))
      return
    }
    const removable = enabled.filter(({ hotpluggable }) => hotpluggable).toReversed()
    const leaving = removable.slice(0, enabled.length - count)
    if (leaving.length < enabled.length - count) {
      throw new VirtError(
        ErrorCode.CONFIG_UNSUPPORTED,
        'unsupported configuration: failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count',
      )
    }
    for (const { id } of leaving) await this.#remove(id)
  }

  /** Plugs processors in or out. Rejects as `setCount` does */
  async setStates(ids: readonly number[], enabled: boolean): Promise<void> {
    if (enabled) await this.#add(ids)
    else for (const id of ids) await this.#remove(id)
  }

  /** The emulator says that a device is gone; false where it is no processor. */
  deleted(alias: string): boolean {
    const id = Number(/^vcpu(\d{1,4})$/.exec(alias)?.[1] ?? Number.NaN)
    const { live } = this.#domain
    if (live === undefined || Number.isNaN(id)) return false
    const states = vcpuStates(live)
    if (states[id]?.enabled === true) {
      const gone = states[id].order ?? states.length
      const rest = states.map((state): VcpuState => {
        if (state.id === id) return { id, enabled: false, hotpluggable: true }
        return (state.order ?? 0) > gone ? { ...state, order: state.order! - 1 } : state
      })
      this.#became(rest)
    }
    this.#waiting.get(id)?.(true)
    return true
  }

  /** What came and went while no daemon looked. */
  async reconcile(): Promise<void> {
    const { live } = this.#domain
    if (live?.vcpus === undefined) return
    const slots = await this.#slots().catch(() => undefined)
    if (slots === undefined) return
    const states = vcpuStates(live)
    for (const { id, enabled } of states) {
      if (enabled && slots[id]?.['qom-path'] === undefined) this.deleted(`vcpu${id}`)
    }
  }

  async #add(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return
    const slots = await this.#slots()
    for (const id of ids) {
      await this.#plug(slots, id)
      const states = ordered(vcpuStates(this.#domain.live!))
      const order = 1 + Math.max(...states.map((state) => state.order ?? 0))
      states[id] = { id, enabled: true, hotpluggable: true, order }
      this.#became(states)
    }
  }

  async #plug(slots: readonly Slot[], id: number): Promise<void> {
    const slot = slots[id]
    if (slot === undefined || slot['vcpus-count'] !== 1) {
      throw failed(`the emulator has no place for the vcpu ${id}`)
    }
    const { type: driver, props } = slot
    await this.#domain.machine.execute('device_add', { driver, id: `vcpu${id}`, ...props })
  }

  async #remove(id: number): Promise<void> {
    const gone = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), UNPLUG_MS)
      this.#waiting.set(id, (isGone) => {
        clearTimeout(timer)
        resolve(isGone)
      })
    })
    try {
      await this.#domain.machine.execute('device_del', { id: `vcpu${id}` })
      if (await gone) return
    } finally {
      this.#waiting.get(id)?.(false)
      this.#waiting.delete(id)
    }
    throw new VirtError(
      ErrorCode.OPERATION_TIMEOUT,
      'Timed out during operation: vcpu unplug request timed out. Unplug result must be manually inspected in the domain',
    )
  }

  /** The places in the order in which processors are numbered. */
  async #slots(): Promise<Slot[]> {
    const slots = (await this.#domain.machine.execute('query-hotpluggable-cpus')) as Slot[]
    const places = (a: Slot, b: Slot): number => {
      for (const level of LEVELS) {
        const difference = (a.props[level] ?? 0) - (b.props[level] ?? 0)
        if (difference !== 0) return difference
      }
      return 0
    }
    return slots.toSorted(places)
  }

  #became(states: readonly VcpuState[]): void {
    this.#domain.running(withVcpus(this.#domain.live!, states) as DomainDefinition)
  }
}

/** Those that run are numbered in the order in which they came. */
function ordered(states: readonly VcpuState[]): VcpuState[] {
  const running = states
    .filter(({ enabled }) => enabled)
    .toSorted((a, b) => rank(a) - rank(b))
    .map(({ id }) => id)
  return states.map((state) =>
    state.enabled ? { ...state, order: running.indexOf(state.id) + 1 } : state,
  )
}

/** Those of the start come first. */
function rank({ id, order, hotpluggable }: VcpuState): number {
  return (hotpluggable === true ? 10_000 : 0) + (order ?? id + 1)
}

function failed(text: string): VirtError {
  return new VirtError(ErrorCode.INTERNAL_ERROR, `internal error: ${text}`)
}
