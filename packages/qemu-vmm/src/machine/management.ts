import type { DeviceProperty } from '../devices/device-type.ts'
import type { ThrottleLimits } from '../block/throttle/limits.ts'
import { VmmError } from '../errors.ts'
import { addressRanges } from './address-ranges.ts'
import type { AddressRange } from './address-ranges.ts'
import type { VmHandles } from './assemble.ts'
import type { BackendInfo } from './block-backend.ts'
import { addressProperties } from './cpu-address.ts'
import { ostOf } from './cpu-places.ts'
import type { CpuAddress, CpuPlaces, OstDetail } from './cpu-places.ts'
import type { DeviceTree } from './device-tree.ts'
import type { Drives } from './drives.ts'
import type { PcBoard } from './pc.ts'
import type { ObjectRegistry } from '../objects/registry.ts'
import { pciInfo } from './pci-info.ts'
import type { PciFunctionInfo } from './pci-info.ts'
import { RemovableMedia } from './removable-media.ts'
import type { DriveName, NewMedium } from './removable-media.ts'

const PAGE_BYTES = 4096
/** Where QEMU's object model has objects. */
const OBJECT_PATH = /^\/objects\/([^/]+)$/

/** What there is to manage. */
export interface ManagedParts {
  board: PcBoard
  tree: DeviceTree
  drives: Drives
  places: CpuPlaces
  objects: ObjectRegistry
  cpuType: string
}

/** A place for a processor. Plain data. */
export interface ProcessorInfo {
  index: number
  /** The type of what can be there. */
  type: string
  apicId: number
  address: Partial<CpuAddress>
  /** Of the processor that is there. */
  path?: string
}

/** A property that a device has while it runs. Plain data. */
export interface PropertyInfo {
  name: string
  type: string
  value: unknown
}

/** What monitors do with a machine beside running it: the less usual part. */
export class Management {
  readonly #parts: ManagedParts

  readonly #memory: number
  readonly #handles: Pick<VmHandles, 'vm' | 'vcpus'>
  readonly #media: RemovableMedia

  /** `memory` is what the guest has, in bytes. */
  constructor(memory: number, handles: Pick<VmHandles, 'vm' | 'vcpus'>, parts: ManagedParts) {
    this.#memory = memory
    this.#handles = handles
    this.#parts = parts
    this.#media = new RemovableMedia(parts.drives, (id) => parts.tree.has(id))
  }

  /** Bytes that the guest has: its memory without the balloon. Throws `E_DEVICE_NOT_FOUND` without one. */
  balloon(): number {
    return this.#memory - this.#balloon().actual * PAGE_BYTES
  }

  /** Asks the guest to make do with so many bytes, at most what it began with. */
  setBalloon(bytes: number): void {
    const memory = this.#memory
    const balloon = this.#balloon()
    balloon.setWanted(Math.floor((memory - Math.min(bytes, memory)) / PAGE_BYTES))
  }

  /** Makes a drive larger or smaller. Rejects as `Drives.resize` does. */
  resizeDrive(id: string, sizeBytes: number): Promise<void> {
    return this.#parts.drives.resize(id, sizeBytes)
  }

  /** What devices have of drives, with and without media. */
  blockBackends(): BackendInfo[] {
    return this.#parts.drives.backends()
  }

  /** Opens a tray, or asks a guest that keeps it locked for that. Throws `E_DEVICE_NOT_FOUND`, `E_MEDIUM`. */
  openTray(name: DriveName, force: boolean): void {
    this.#media.openTray(name, force)
  }

  /** Closes a tray. Throws as `openTray`. */
  closeTray(name: DriveName): void {
    this.#media.closeTray(name)
  }

  /** Puts a node into an open tray, or a drive without one. Throws as `openTray`, and `E_NO_DRIVE`. */
  insertMedium(name: DriveName, node: string): void {
    this.#media.insert(name, node)
  }

  /** Takes a medium out of an open tray, or a drive without one. Rejects as `openTray` throws. */
  removeMedium(name: DriveName): Promise<void> {
    return this.#media.remove(name)
  }

  /** Opens a tray and takes the medium out. Rejects as `openTray` throws, also while the tray is locked. */
  eject(name: DriveName, force: boolean): Promise<void> {
    return this.#media.eject(name, force)
  }

  /** Puts another image into a drive. Rejects as `eject`, and as images do. */
  changeMedium(name: DriveName, medium: NewMedium): Promise<void> {
    return this.#media.change(name, medium)
  }

  /** What answers in the address spaces, memory and ports. */
  addressRanges(): AddressRange[] {
    return addressRanges(this.#handles.vm, this.#parts.board.bus)
  }

  /** How often devices have raised each interrupt line, by its number. */
  irqRises(): [gsi: number, count: number][] {
    return this.#parts.board.irqRises()
  }

  /** Limits a drive, or no longer. Throws as `Drives.throttle` does. */
  throttleDrive(id: string, limits: ThrottleLimits, group: string): void {
    this.#parts.drives.throttle(id, limits, group)
  }

  /** The places for processors, and who is in them. */
  processors(): ProcessorInfo[] {
    const { places } = this.#parts
    return Array.from(places.apicIds, (_, index) => {
      const occupant = places.occupant(index)
      return {
        index,
        type: this.#parts.cpuType,
        apicId: places.apicIds[index]!,
        address: addressProperties(places, index),
        ...(occupant === undefined ? {} : { path: occupant.path }),
      }
    })
  }

  /** What the guest has said of events of processors. */
  ospmStatus(): OstDetail[] {
    const { places, board } = this.#parts
    return board.chipset.cpuHotplug.reports().map((report) => ostOf(places, report))
  }

  /** What is on the PCI buses. */
  pci(): PciFunctionInfo[] {
    const { board, tree } = this.#parts
    return pciInfo(board.pci, 0, (fn) => tree.idOf(fn))
  }

  /** Bytes of guest memory; undefined where a part of them is not in RAM or ROM. */
  readPhysical(gpa: bigint, length: number): Uint8Array | undefined {
    const { memory } = this.#handles.vm
    const at = Number(gpa)
    if (!Number.isSafeInteger(at) || !memory.contains(at, length)) return undefined
    const bytes = new Uint8Array(length)
    memory.read(at, bytes)
    return bytes
  }

  /** The same by an address of the first processor, which stands; undefined as well where nothing is mapped. */
  readVirtual(gva: bigint, length: number): Uint8Array | undefined {
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length;) {
      const at = BigInt.asUintN(64, gva + BigInt(done))
      const here = Math.min(length - done, PAGE_BYTES - Number(at % BigInt(PAGE_BYTES)))
      const gpa = this.#handles.vcpus[0]?.translate(at)
      const part = gpa === undefined ? undefined : this.readPhysical(BigInt(gpa), here)
      if (part === undefined) return undefined
      bytes.set(part, done)
      done += here
    }
    return bytes
  }

  /** Ends suspend to RAM. Throws `E_INVALID_STATE` where the guest is not suspended. */
  wakeUp(): void {
    if (this.#parts.board.pm.wakeUp()) return
    throw new VmmError('E_INVALID_STATE', 'Unable to wake up: guest is not in suspended state')
  }

  /** Objects that devices and the machine refer to: their ids and types. */
  objects(): { id: string; type: string }[] {
    return this.#parts.objects.list()
  }

  /** A property of an object that can be looked at; undefined for none. */
  objectProperty(id: string, name: string): unknown {
    return this.#parts.objects.property(id, name)
  }

  /** Properties of a device, named by its path, that change while it runs; undefined where there is none. */
  properties(path: string): PropertyInfo[] | undefined {
    const device = this.#parts.tree.find(path)
    if (device === undefined) return undefined
    return Array.from(device.properties ?? [], ([name, { type, get }]) => ({
      name,
      type,
      value: get(),
    }))
  }

  /** Changes one. Throws `E_DEVICE_OPTION` for what it cannot be, and for one that cannot be changed. */
  setProperty(path: string, name: string, value: unknown): void {
    const object = OBJECT_PATH.exec(path)?.[1]
    if (object !== undefined) {
      this.#parts.objects.setProperty(object, name, value)
      return
    }
    const property: DeviceProperty | undefined = this.#parts.tree.find(path)?.properties?.get(name)
    if (property?.set === undefined) {
      throw new VmmError('E_DEVICE_OPTION', 'Insufficient permission to perform this operation', {
        fields: { device: path, property: name },
      })
    }
    property.set(value)
  }

  #balloon(): NonNullable<PcBoard['balloon']['model']> {
    const { model } = this.#parts.board.balloon
    if (model !== undefined) return model
    throw new VmmError('E_NO_BALLOON', 'No balloon device has been activated')
  }
}

/** One of its methods by name. */
export type ManagementCall = keyof Management

/** Calls one of its methods, on this side or in a worker. */
export type Manage = <K extends ManagementCall>(
  call: K,
  ...args: Parameters<Management[K]>
) => Promise<Awaited<ReturnType<Management[K]>>>

/** Calls what a message names. Throws `E_INTERNAL` for no method. */
export async function carryOut(
  management: Management,
  call: ManagementCall,
  args: readonly unknown[],
): Promise<unknown> {
  const method = management[call] as ((...args: readonly unknown[]) => unknown) | undefined
  if (method === undefined) throw new VmmError('E_INTERNAL', `${call} is not a way to manage`)
  return await method.apply(management, args as unknown[])
}
