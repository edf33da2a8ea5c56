import type { Vcpu } from 'kvm-core'

import type { DeviceOption } from '../devices/device-type.ts'
import { cpuTypeName, isCpuType } from '../devices/processor.ts'
import { VmmError } from '../errors.ts'
import type { VmHandles } from './assemble.ts'
import { addressProperties, freePlace } from './cpu-address.ts'
import type { CpuPlaces, Occupant } from './cpu-places.ts'
import { unattachedPath } from './cpu-places.ts'
import { duplicateId } from './device-tree.ts'
import type { DeletedDevice } from './device-tree.ts'
import type { PcBoard } from './pc.ts'
import { MSR_TSC, loadVcpu, saveVcpu } from './vcpu-state.ts'
import type { VcpuState } from './vcpu-state.ts'
import { setTscAt } from './standstill.ts'
import type { Standstill } from './standstill.ts'

/** A processor in a saved state. */
export interface SavedProcessor {
  /** Number of its place. */
  index: number
  /** It was plugged in: what the machine counts from the start was not. */
  isPlugged: boolean
  id?: string
}

/** What processors are plugged into. */
export interface ProcessorParts {
  places: CpuPlaces
  model: string
  handles: VmHandles
  board: PcBoard
  msrs: readonly number[]
  /** The hardware after power-on; it has a state for each processor that is there. */
  powerOn: Standstill
  /** Whether a device has this id. */
  isTaken(id: string): boolean
  /** The path of the next device without an id. */
  anonymousPath(): string
  deleted(device: DeletedDevice): void
  log(message: string): void
}

/** A processor that was taken out: KVM has no end for one but that of its VM. */
interface Spare {
  vcpu: Vcpu
  powerOn: VcpuState
}

const ID = /^[a-z][a-z0-9._-]*$/i

/** Processors that come and go while the machine is there. */
export class Processors {
  readonly #parts: ProcessorParts
  readonly #spares = new Map<number, Spare>()
  /** Those that the guest has let go of, and that still run. */
  readonly #leaving = new Map<number, Promise<void>>()

  constructor(parts: ProcessorParts) {
    this.#parts = parts
    parts.board.chipset.cpuHotplug.onEject = (index) => this.#ejected(index)
  }

  /**
   * Plugs a processor in, while all stand at `standstill`, and tells the guest. Rejects with `E_DEVICE_OPTION` or
   * `E_HOTPLUG`, and nothing has changed then.
   */
  async add(option: DeviceOption, standstill: Standstill): Promise<void> {
    const { places, model, board, handles } = this.#parts
    const { id } = option
    if (id !== undefined && this.#parts.isTaken(id)) throw duplicateId(id)
    this.checkId(id)
    const index = freePlace(option, places, model)
    board.chipset.checkCpuHotplug?.('hotplug')
    await this.#leaving.get(index)
    const at = this.#insert(index, { option, path: this.#path(id) })
    const vcpu = handles.vcpus[at]!
    const state = withTsc(this.#parts.powerOn.vcpus[at]!, standstill.vcpus[0]!)
    standstill.vcpus.splice(at, 0, state)
    setTscAt(handles.vm, vcpu, standstill.clock, state)
    board.chipset.cpuHotplug.plugged(index)
  }

  /**
   * Asks the guest to let go of a processor, named by its id or path; false where there is none. Throws `E_HOTPLUG` for
   * one that it cannot be asked for.
   */
  requestRemoval(id: string): boolean {
    const { places, board, model } = this.#parts
    const index = places.find(id)
    if (index === undefined) return false
    const { cpuHotplug } = board.chipset
    if (index === 0) {
      throw new VmmError('E_HOTPLUG', 'Boot CPU is unpluggable', { fields: { device: id } })
    }
    if (!cpuHotplug.isModern) {
      throw new VmmError(
        'E_HOTPLUG',
        `acpi: device unplug request for not supported device type: ${cpuTypeName(model)}; ` +
          'ask again when the guest has taken up ACPI',
        { fields: { device: id } },
      )
    }
    board.chipset.checkCpuHotplug?.('hot-unplug')
    cpuHotplug.requestUnplug(index)
    return true
  }

  /** Throws `E_DEVICE_OPTION` where a processor has this id. */
  checkId(id: string | undefined): void {
    if (id !== undefined && this.#parts.places.find(id) !== undefined) throw duplicateId(id)
  }

  /** Options that plug in what is there beside the processors of the start. */
  options(): DeviceOption[] {
    const { places } = this.#parts
    return places.present.flatMap((index) => {
      const option = places.occupant(index)?.option
      if (option === undefined) return []
      const address = Object.entries(addressProperties(places, index))
      const properties = Object.fromEntries(address.map(([name, value]) => [name, String(value)]))
      return [{ ...option, properties }]
    })
  }

  save(): SavedProcessor[] {
    const { places } = this.#parts
    return places.present.map((index) => {
      const option = places.occupant(index)?.option
      const id = option?.id
      return { index, isPlugged: option !== undefined, ...(id === undefined ? {} : { id }) }
    })
  }

  /** What is wrong with the processors of a saved state; undefined for nothing. */
  check(saved: unknown): string | undefined {
    if (!Array.isArray(saved)) return 'says nothing of processors'
    const { places } = this.#parts
    const most = places.apicIds.length
    for (const [at, entry] of (saved as (Partial<SavedProcessor> | null)[]).entries()) {
      const index = entry?.index
      if (entry === null || typeof index !== 'number' || typeof entry.isPlugged !== 'boolean') {
        return 'has a processor without a place'
      }
      if (places.apicIds[index] === undefined) {
        return `has a processor in the place ${index}; this machine has the places 0 to ${most - 1}`
      }
      if (index <= ((saved as SavedProcessor[])[at - 1]?.index ?? -1)) {
        return 'has its processors out of order'
      }
      const { id } = entry
      if (id !== undefined && (typeof id !== 'string' || !ID.test(id) || this.#parts.isTaken(id))) {
        return `has a processor with the id '${String(id)}', which cannot be here`
      }
    }
    return (saved as SavedProcessor[])[0]?.index === 0 ? undefined : 'has no first processor'
  }

  /** Has the processors of a saved state and no others, while all stand. It has been checked. */
  async become(saved: readonly SavedProcessor[]): Promise<void> {
    const { places, model } = this.#parts
    await this.left()
    const wanted = new Map(saved.map((entry) => [entry.index, entry]))
    for (const index of places.present) {
      if (!wanted.has(index)) this.#spares.set(index, this.#take(index))
    }
    for (const [index, { isPlugged, id }] of wanted) {
      const option = {
        driver: cpuTypeName(model),
        properties: {},
        ...(id === undefined ? {} : { id }),
      }
      const path = isPlugged ? this.#path(id) : unattachedPath(index)
      const occupant = isPlugged ? { option, path } : { path }
      if (places.isPresent(index)) places.fill(index, occupant)
      else this.#insert(index, occupant)
    }
  }

  /** Resolves when no processor runs any more that the guest has let go of. */
  async left(): Promise<void> {
    await Promise.all(this.#leaving.values())
  }

  /** Those that were taken out, for the end of their threads. */
  get spares(): Vcpu[] {
    return Array.from(this.#spares.values(), ({ vcpu }) => vcpu)
  }

  /** Makes a processor, as after power-on; returns where it is among the others. */
  #insert(index: number, occupant: Occupant): number {
    const { places, handles, powerOn, board, msrs } = this.#parts
    const spare = this.#spares.get(index)
    const vcpu = spare?.vcpu ?? handles.createVcpu(index)
    const state = spare?.powerOn ?? withTsc(saveVcpu(vcpu, msrs), powerOn.vcpus[0]!)
    // Others may have sent interrupts to a spare one.
    if (spare !== undefined) loadVcpu(vcpu, state)
    this.#spares.delete(index)
    const at = places.present.filter((other) => other < index).length
    handles.vcpus.splice(at, 0, vcpu)
    powerOn.vcpus.splice(at, 0, state)
    places.fill(index, occupant)
    board.setCpuCount(places.present.length)
    return at
  }

  #take(index: number): Spare {
    const { places, handles, powerOn, board } = this.#parts
    const at = places.present.indexOf(index)
    places.empty(index)
    const [vcpu] = handles.vcpus.splice(at, 1)
    const [state] = powerOn.vcpus.splice(at, 1)
    board.setCpuCount(places.present.length)
    return { vcpu: vcpu!, powerOn: state! }
  }

  /** The guest has let go of one: it is gone for all, and its thread stands soon. */
  #ejected(index: number): void {
    const { option, path } = this.#parts.places.occupant(index)!
    const spare = this.#take(index)
    this.#spares.set(index, spare)
    const leave = async (): Promise<void> => {
      try {
        await spare.vcpu.pause()
        // Nothing that others send it reaches it.
        loadVcpu(spare.vcpu, spare.powerOn)
      } catch (error) {
        this.#parts.log(`${path}: ${error instanceof Error ? error.message : String(error)}`)
      }
      this.#leaving.delete(index)
      const id = option?.id
      this.#parts.deleted({ ...(id === undefined ? {} : { id }), path })
    }
    this.#leaving.set(index, leave())
  }

  #path(id: string | undefined): string {
    return id === undefined ? this.#parts.anonymousPath() : `/machine/peripheral/${id}`
  }
}

/** Processors among the devices that a machine is to begin with, in their places; the rest of the devices. */
export function withoutProcessors(
  plug: readonly DeviceOption[],
  places: CpuPlaces,
  model: string,
  anonymousPath: () => string,
): DeviceOption[] {
  const rest = plug.filter(({ driver }) => !isCpuType(driver))
  for (const option of plug) {
    if (!isCpuType(option.driver)) continue
    const index = freePlace(option, places, model)
    const path = option.id === undefined ? anonymousPath() : `/machine/peripheral/${option.id}`
    places.fill(index, { option, path })
  }
  return rest
}

/** A state with the time stamp counter of another. */
function withTsc(state: VcpuState, other: VcpuState): VcpuState {
  const tsc = other.msrs.find(([msr]) => msr === MSR_TSC)?.[1]
  if (tsc === undefined) return state
  return { ...state, msrs: state.msrs.map(([msr, value]) => [msr, msr === MSR_TSC ? tsc : value]) }
}
