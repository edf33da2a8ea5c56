import type { PciBus } from '../chipset/pci/bus.ts'
import type { PciFunction } from '../chipset/pci/function.ts'
import type { DeviceOption, PluggedDevice } from '../devices/device-type.ts'
import type { PlugContext } from '../devices/plug-context.ts'
import type { PlugLife, PlugPlace } from '../devices/plug-place.ts'
import { VmmError } from '../errors.ts'
import type { ObjectRegistry } from '../objects/registry.ts'
import type { Drives } from './drives.ts'
import { busRefuses, checkHotplug, fixedBus } from './hotplug-check.ts'
import { slots, typeOf } from './plug-slots.ts'
import type { Slot } from './plug-slots.ts'

/** What plugging needs beside the tree itself, and what gives things back. */
export type PlugParts = Omit<
  PlugContext,
  'devices' | 'rng' | 'drive' | 'removable' | keyof PlugLife
> & {
  readonly objects: ObjectRegistry
  readonly drives: Drives
  releaseChardev(id: string): void
  releaseNetdev(id: string): void
  /** The path of the next device without an id. */
  anonymousPath(): string
}

/** A device that is gone: what it had can be used again. */
export interface DeletedDevice {
  /** Absent where it was given none. */
  id?: string
  /** As QEMU's object model names it. */
  path: string
}

/** Who follows the tree. */
export interface TreeEvents {
  added(name: string, device: PluggedDevice): void
  /** The guest does not have it any more. */
  removed(name: string): void
  deleted(device: DeletedDevice): void
  log(message: string): void
}

interface Entry extends Slot {
  /** In states and messages: its id, or its kind and place. */
  name: string
  readonly path: string
  /** Its id, or else its path, by which monitors name it. */
  readonly qdev: string
  device?: PluggedDevice
  place?: PlugPlace
  readonly drives: string[]
  /** What it has taken, given back in reverse order. */
  readonly claims: (() => void | Promise<void>)[]
  /** Guest time until which asking again is refused. */
  askedUntilNs?: number
}

/** The devices that options plug in, from the start or while the machine runs. */
export class DeviceTree {
  readonly #parts: PlugParts
  #events: TreeEvents | undefined
  readonly #entries: Entry[] = []
  /** Their ids are not free until the last has been said of them. */
  readonly #leaving = new Map<Entry, Promise<void>>()

  constructor(parts: PlugParts) {
    this.#parts = parts
  }

  /** From now on the machine is there: `events` hears of all devices, those that are in first. */
  follow(events: TreeEvents): void {
    this.#events = events
    for (const { name, device } of this.#entries) events.added(name, device!)
  }

  /** Plugs devices in, in order, before the machine is there. */
  plugAll(options: readonly DeviceOption[]): void {
    for (const slot of slots(options)) this.#plug(this.#entryOf(slot), false)
  }

  /**
   * Plugs a device in and tells the guest. Rejects with `E_HOTPLUG` where that cannot be while the
   * machine runs, and with what its options are refused with; nothing has changed then.
   */
  async add(option: DeviceOption): Promise<void> {
    const type = typeOf(option)
    const known = [...this.#entries, ...this.#leaving.keys()]
    if (known.some((entry) => idsOf(entry).includes(option.id))) {
      throw duplicateId(option.id ?? '')
    }
    const hotplug = checkHotplug(type, option, this.#parts)
    const entry = this.#entryOf({ type, option, children: [] })
    try {
      this.#plug(entry, true)
    } catch (error) {
      await this.#giveBack(entry)
      throw error
    }
    this.#events?.added(entry.name, entry.device!)
    hotplug.plugged(entry.place!.slot)
  }

  /**
   * Asks the guest to let go of a device, named by its id or path. Throws `E_DEVICE_NOT_FOUND`, and
   * `E_HOTPLUG` where it cannot be taken out, or not now.
   */
  requestRemoval(id: string): void {
    const entry = this.#entries.find(
      (candidate) => candidate.path === id || idsOf(candidate).includes(id),
    )
    if (entry === undefined) {
      throw new VmmError('E_DEVICE_NOT_FOUND', `Device '${id}' not found`, {
        fields: { device: id },
      })
    }
    const { type, option, place } = entry
    const now = this.#parts.clock.nowNs()
    if (entry.askedUntilNs !== undefined && now < entry.askedUntilNs) {
      throw new VmmError('E_HOTPLUG', `Device ${id} is already in the process of unplug`, {
        fields: { device: id },
      })
    }
    if (entry.path !== id && option.id !== id) throw busRefuses(`${option.id}.0`, id)
    const hotplug = place?.bus.hotplug
    if (hotplug === undefined) throw busRefuses(place?.busName ?? fixedBus(type), id)
    if (type.hotpluggable !== true) {
      throw new VmmError('E_HOTPLUG', `Device '${type.name}' does not support hotplugging`, {
        fields: { device: id },
      })
    }
    const { slot, functionNumber } = place!
    const isFree = hotplug.requestUnplug(slot, functionNumber)
    entry.askedUntilNs = now + hotplug.patienceNs
    if (isFree) this.#remove(entry)
  }

  /** Options that make the same devices in the same places. */
  options(): DeviceOption[] {
    return this.#entries.flatMap(({ option, place, children }) => {
      if (place === undefined) return [option, ...children]
      const addr = `${place.slot.toString(16)}.${place.functionNumber}`
      const properties = { ...option.properties, bus: place.busName, addr }
      return [{ ...option, properties }, ...children]
    })
  }

  /** One by its path in QEMU's object model. */
  find(path: string): PluggedDevice | undefined {
    return this.#entries.find((entry) => entry.path === path)?.device
  }

  /** Whether a device has this id, or this path. */
  has(qdev: string): boolean {
    return this.#entries.some((entry) => entry.path === qdev || idsOf(entry).includes(qdev))
  }

  /** The id of the device that has a function of PCI; empty where it has none. */
  idOf(fn: PciFunction): string {
    return this.#entries.find(({ place }) => place?.fn === fn)?.option.id ?? ''
  }

  /** All that are in, in order. */
  *devices(): Iterable<PluggedDevice> {
    for (const { device } of this.#entries) if (device !== undefined) yield device
  }

  /** Resolves when nothing is under way in those that leave. */
  async left(): Promise<void> {
    await Promise.all(this.#leaving.values())
  }

  /** Takes out what can be taken out of a slot. */
  release(bus: PciBus, slot: number): void {
    for (const entry of this.#entries.toReversed()) {
      const { type, place } = entry
      if (place?.bus !== bus || place.slot !== slot || type.hotpluggable !== true) continue
      this.#remove(entry)
    }
  }

  #entryOf(slot: Slot): Entry {
    const { id, driver } = slot.option
    const path = id === undefined ? this.#parts.anonymousPath() : `/machine/peripheral/${id}`
    return {
      ...slot,
      name: id ?? `${driver} ${path}`,
      path,
      qdev: id ?? path,
      drives: [],
      claims: [],
    }
  }

  #plug(entry: Entry, isHotplugged: boolean): void {
    const { type, option, children } = entry
    const device = type.plug?.(this.#context(entry, isHotplugged), option, children)
    // Its bus would have plugged it in: `slots` has given it to that.
    if (device === undefined) throw new VmmError('E_INTERNAL', `${type.name} is not on a bus`)
    entry.device = device
    this.#entries.push(entry)
  }

  #context(entry: Entry, isHotplugged: boolean): PlugContext {
    const parts = this.#parts
    const { claims } = entry
    return {
      ...parts,
      devices: this.#byId(),
      isHotplugged,
      drive: (id, owner) => {
        // QEMU's virtio devices are two objects: the function on the bus, and behind it what has the drive.
        const isVirtio = entry.type.name.startsWith('virtio-')
        const qdev = isVirtio ? `${entry.path}/virtio-backend` : entry.qdev
        const drive = parts.drives.take(id, owner, qdev)
        entry.drives.push(id)
        claims.push(() => parts.drives.release(id))
        return drive
      },
      removable: (id, owner, media) => {
        parts.drives.takeRemovable(id, owner, entry.qdev, media)
        claims.push(() => parts.drives.releaseRemovable(entry.qdev))
      },
      chardev: (id, owner) => {
        const chardev = parts.chardev(id, owner)
        claims.push(() => parts.releaseChardev(id))
        return chardev
      },
      netdev: (id, card) => {
        const side = parts.netdev(id, card)
        claims.push(() => parts.releaseNetdev(id))
        return side
      },
      rng: (id) => {
        const source = parts.objects.take(id)
        claims.push(() => parts.objects.release(id))
        return source
      },
      placed: (place) => {
        entry.place = place
        place.fn.removable = entry.type.hotpluggable === true
        const { busName, slot, functionNumber } = place
        if (entry.option.id === undefined) {
          entry.name = `${entry.option.driver} at ${busName} ${slot.toString(16)}.${functionNumber}`
        }
        claims.push(() => unplug(place))
      },
      slotReleased: (bus, slot) => this.release(bus, slot),
    }
  }

  #byId(): ReadonlyMap<string, PluggedDevice> {
    const known = this.#entries.filter(({ option }) => option.id !== undefined)
    return new Map(known.map(({ option, device }) => [option.id!, device!]))
  }

  /** Takes a device out of the guest's sight at once; what it had is free when nothing uses it. */
  #remove(entry: Entry): void {
    const { device, place, drives } = entry
    this.#entries.splice(this.#entries.indexOf(entry), 1)
    this.#events?.removed(entry.name)
    device!.reset()
    if (place !== undefined) unplug(place)
    for (const id of drives) this.#parts.drives.abandonOne(id)
    const leaving = this.#leave(entry)
    this.#leaving.set(entry, leaving)
  }

  async #leave(entry: Entry): Promise<void> {
    const { device, option, path } = entry
    try {
      await device!.quiesce?.()
      device!.close?.()
      await this.#giveBack(entry)
    } catch (error) {
      this.#events?.log(`${entry.name}: ${error instanceof Error ? error.message : String(error)}`)
    }
    this.#leaving.delete(entry)
    this.#events?.deleted({
      ...(option.id === undefined ? {} : { id: option.id }),
      path,
    })
  }

  async #giveBack({ claims }: Entry): Promise<void> {
    for (const claim of claims.splice(0).toReversed()) await claim()
  }
}

export function duplicateId(id: string): VmmError {
  return new VmmError('E_DEVICE_OPTION', `Duplicate device ID '${id}'`, { fields: { device: id } })
}

/** Takes a function off its bus, where another may be by now. */
function unplug({ bus, slot, functionNumber, fn }: PlugPlace): void {
  if (bus.function(slot, functionNumber) === fn) bus.remove(slot, functionNumber)
}

/** The ids of a device and of those on its bus. */
function idsOf({ option, children }: Slot): (string | undefined)[] {
  return [option, ...children].map(({ id }) => id).filter((id) => id !== undefined)
}
