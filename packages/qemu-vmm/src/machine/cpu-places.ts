import type { CpuSlots, OstReport } from '../chipset/acpi-cpu-hotplug.ts'
import type { DeviceOption } from '../devices/device-type.ts'
import { apicId } from './topology.ts'
import type { CpuTopology } from './topology.ts'

/** Where a processor is among the others, by QEMU's names. */
export interface CpuAddress {
  'socket-id': number
  'die-id': number
  'core-id': number
  'thread-id': number
}

/** Who is in a place. */
export interface Occupant {
  /** What plugged it in; absent for those that the machine counts from the start. */
  option?: DeviceOption
  /** As QEMU's object model names it. */
  path: string
}

/** The places for processors of a machine, numbered as its topology counts them, and who is in them. */
export class CpuPlaces implements CpuSlots {
  readonly topology: CpuTopology
  readonly apicIds: readonly number[]
  readonly #occupants: (Occupant | undefined)[]

  /** The first places are filled, as many as the topology has processors. */
  constructor(topology: CpuTopology) {
    this.topology = topology
    const indexes = Array.from({ length: topology.maxcpus }, (_, index) => index)
    this.apicIds = indexes.map((index) => apicId(topology, index))
    this.#occupants = indexes.map((index) =>
      index < topology.cpus ? { path: unattachedPath(index) } : undefined,
    )
  }

  /** Places that are filled, in order. */
  get present(): number[] {
    return [...this.apicIds.keys()].filter((index) => this.isPresent(index))
  }

  isPresent(index: number): boolean {
    return this.#occupants[index] !== undefined
  }

  occupant(index: number): Occupant | undefined {
    return this.#occupants[index]
  }

  fill(index: number, occupant: Occupant): void {
    this.#occupants[index] = occupant
  }

  empty(index: number): void {
    this.#occupants[index] = undefined
  }

  /** The place of a processor that is named by its id or path. */
  find(id: string): number | undefined {
    return this.present.find((index) => {
      const { option, path } = this.#occupants[index]!
      return path === id || (option !== undefined && option.id === id)
    })
  }

  addressOf(index: number): CpuAddress {
    const { dies, cores, threads } = this.topology
    const core = Math.floor(index / threads)
    const die = Math.floor(core / cores)
    return {
      'socket-id': Math.floor(die / dies),
      'die-id': die % dies,
      'core-id': core % cores,
      'thread-id': index % threads,
    }
  }

  /** The number of the place at an address, all of whose parts are in range. */
  indexOf(address: CpuAddress): number {
    const { dies, cores, threads } = this.topology
    const die = address['socket-id'] * dies + address['die-id']
    return (die * cores + address['core-id']) * threads + address['thread-id']
  }
}

/** What a guest has said of an event of a processor. */
export interface OstDetail {
  /** Its id, where it has one. */
  device?: string
  /** Number of its place. */
  slot: number
  source: number
  status: number
}

export function ostOf(places: CpuPlaces, { index, source, status }: OstReport): OstDetail {
  const id = places.occupant(index)?.option?.id
  return { ...(id === undefined ? {} : { device: id }), slot: index, source, status }
}

/** The path of a processor that nothing plugged in; QEMU has a device of its own (kvmvapic) behind the first one. */
export function unattachedPath(index: number): string {
  return `/machine/unattached/device[${index === 0 ? 0 : index + 1}]`
}
