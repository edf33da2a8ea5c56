import type { DeviceHost, DeviceHostOptions } from './api/device-host.ts'
import type {
  ClearDirtyLog,
  CreateRamOptions,
  GuestMemory,
  GuestRam,
  UserMemoryRegion,
} from './api/memory.ts'
import type { Vcpu } from './api/vcpu.ts'
import type {
  ClockData,
  IoEventFd,
  IoEventFdRange,
  IrqFd,
  IrqFdOptions,
  IrqRoute,
  RouteHandle,
  RouteRange,
  Vm,
} from './api/vm.ts'
import { DeviceHostImpl } from './device-host.ts'
import { invalid, kvmError, native } from './errors.ts'
import { GuestMemoryImpl } from './guest-memory.ts'
import { GuestRamImpl } from './guest-ram.ts'
import {
  type Closable,
  IoEventFdImpl,
  IrqFdImpl,
  RouteImpl,
  routeKinds,
  routeNumbers,
} from './interrupts.ts'
import type { NativeMemory, NativeVm } from './native/addon.ts'
import { VcpuImpl } from './vcpu.ts'

const backings: readonly string[] = ['anon', 'memfd', 'hugetlb', 'file']

/** A VM in this isolate. */
export class VmImpl implements Vm {
  readonly id: number
  readonly #native: NativeVm
  readonly #nativeMemory: NativeMemory
  readonly #regions = new Map<number, Omit<UserMemoryRegion, 'ram'>>()
  readonly #memory: GuestMemoryImpl
  /** Made by this isolate, so its end is the VM's end. */
  readonly #creator: boolean
  readonly #vcpus: Map<number, VcpuImpl> = new Map()
  /** Device hosts, irqfds, ioeventfds and routes of this isolate. */
  readonly #open: Set<Closable> = new Set()
  readonly #rams: Set<WeakRef<GuestRamImpl>> = new Set()
  readonly #closeKey: number
  #closing: Promise<void> | undefined

  constructor(from: NativeVm, creator: boolean) {
    this.#native = from
    this.id = from.id
    this.#creator = creator
    this.#nativeMemory = from.memory()
    this.#memory = native(() => new GuestMemoryImpl(this.#nativeMemory))
    this.#closeKey = native(() => from.onClose(() => void this.#leave()))
  }

  get memory(): GuestMemory {
    return this.#memory
  }

  get vcpus(): readonly number[] {
    return this.#native.vcpus()
  }

  createRam(opts: CreateRamOptions): GuestRam {
    const { size, backing = 'anon', fd, share, ...unknown } = opts
    const [extra] = Object.keys(unknown)
    if (extra !== undefined) {
      throw invalid(`createRam has no option '${extra}'; it takes size, backing, fd and share`)
    }
    if (!backings.includes(backing)) {
      throw invalid(`backing '${String(backing)}' is not one of '${backings.join("', '")}'`)
    }
    if (backing === 'file' ? fd === undefined : fd !== undefined || share !== undefined) {
      throw invalid("backing 'file' needs an fd, and fd and share belong to it alone")
    }
    const ram = new GuestRamImpl(
      native(() =>
        fd === undefined
          ? this.#native.createRam(size, backing)
          : this.#native.createFileRam(size, fd, share ?? false),
      ),
    )
    this.#rams.add(new WeakRef(ram))
    return ram
  }

  setUserMemoryRegion(region: UserMemoryRegion): void {
    this.setUserMemoryRegions([region])
  }

  setUserMemoryRegions(regions: readonly UserMemoryRegion[]): void {
    const rams: GuestRamImpl[] = []
    const numbers = regions.flatMap(({ slot, gpa, size, ram, offset = 0, flags = 0 }) => {
      if (ram === undefined) return [slot, gpa, size, flags, offset, -1]
      if (!(ram instanceof GuestRamImpl)) throw invalid('ram was not made by createRam')
      rams.push(ram)
      return [slot, gpa, size, flags, offset, rams.length - 1]
    })
    const handles = rams.map((ram) => ram.handle)
    native(() => this.#nativeMemory.setRegions(Float64Array.from(numbers), handles))
    for (const { ram, ...region } of regions) {
      if (region.size === 0) this.#regions.delete(region.slot)
      else this.#regions.set(region.slot, { ...this.#regions.get(region.slot), ...region })
      if (ram instanceof GuestRamImpl && region.size > 0) this.#memory.adopt(ram)
    }
  }

  userMemoryRegions(): Omit<UserMemoryRegion, 'ram'>[] {
    return [...this.#regions.values()].toSorted((a, b) => a.gpa - b.gpa)
  }

  getDirtyLog(slot: number): Uint8Array {
    return native(() => this.#nativeMemory.dirtyLog(slot))
  }

  clearDirtyLog({ slot, firstPage, numPages, bitmap }: ClearDirtyLog): void {
    native(() => this.#nativeMemory.clearDirtyLog(slot, firstPage, numPages, bitmap))
  }

  setManualDirtyLogProtect(on: boolean): void {
    this.#nativeMemory.setManualProtect(on)
  }

  createIrqchip(): void {
    native(() => this.#native.createIrqchip())
  }

  createPit2(flags: number = 0): void {
    native(() => this.#native.createPit2(flags))
  }

  reinjectControl(on: boolean): void {
    native(() => this.#native.reinjectControl(on))
  }

  setGsiRouting(entries: readonly IrqRoute[]): void {
    native(() => this.#native.setGsiRouting(routeNumbers(entries)))
  }

  irqLine(gsi: number, level: 0 | 1): void {
    try {
      this.#native.irqLine(gsi, level !== 0)
    } catch (error) {
      throw kvmError(error)
    }
  }

  signalMsi(addr: number, data: number): void {
    native(() => this.#native.signalMsi(addr, data))
  }

  nativeCalls(): unknown {
    return native(() => this.#native.nativeCalls())
  }

  irqfd(gsi: number, opts: IrqFdOptions = {}): IrqFd {
    const { resample = false, onResample } = opts
    const made = native(() => this.#native.irqfd(gsi, resample, onResample))
    return this.#keep(new IrqFdImpl(gsi, made, this.#forget))
  }

  ioeventfd(range: IoEventFdRange, id: number): IoEventFd {
    const { addr, len, datamatch, pio = false, host = 0 } = range
    const match = datamatch === undefined ? undefined : BigInt(datamatch)
    const made = native(() => this.#native.ioeventfd(pio, addr, len, match, id, host))
    return this.#keep(new IoEventFdImpl(id, made, this.#forget))
  }

  getIrqchip(chip: number): Uint8Array {
    return native(() => this.#native.getIrqchip(chip))
  }

  setIrqchip(state: Uint8Array): void {
    native(() => this.#native.setIrqchip(state))
  }

  getPit2(): Uint8Array {
    return native(() => this.#native.getPit2())
  }

  setPit2(state: Uint8Array): void {
    native(() => this.#native.setPit2(state))
  }

  resetIrqchip(): void {
    native(() => this.#native.resetIrqchip())
  }

  getClock(): ClockData {
    const [clock, realtime, hostTsc, flags] = native(() => this.#native.getClock())
    return { clock, realtime, hostTsc, flags: Number(flags) }
  }

  setClock(data: Partial<ClockData> & { clock: bigint }): void {
    native(() => this.#native.setClock(data.clock, data.realtime ?? 0n, data.flags ?? 0))
  }

  createVcpu(index: number): Vcpu {
    const vcpu = new VcpuImpl(native(() => this.#native.createVcpu(index)))
    this.#vcpus.set(index, vcpu)
    return vcpu
  }

  vcpu(index: number): Vcpu {
    return this.#vcpu(index)
  }

  route(range: RouteRange): RouteHandle {
    const { space, base, len, kind = 'js', size = 0, host = 0 } = range
    if (space !== 'pio' && space !== 'mmio') {
      throw invalid(`space '${String(space)}' is not 'pio' or 'mmio'`)
    }
    const number = routeKinds[kind]
    if (number === undefined) {
      const kinds = Object.keys(routeKinds).join("', '")
      throw invalid(`kind '${String(kind)}' is not one of '${kinds}'`)
    }
    const made = native(() => this.#native.route(space === 'pio', base, len, number, size, host))
    return this.#keep(new RouteImpl(made, this.#forget))
  }

  createDeviceHost(onDoorbell: () => void, opts: DeviceHostOptions = {}): DeviceHost {
    const page = (vcpu: number): ArrayBuffer => this.#vcpu(vcpu).run
    return this.#keep(new DeviceHostImpl(this.#native, onDoorbell, opts, page, this.#forget))
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    if (!this.#creator) {
      this.#letGo()
      return
    }
    await new Promise<void>((resolve, reject) => {
      try {
        this.#native.beginClose(resolve)
      } catch (error) {
        reject(kvmError(error))
      }
    })
    this.#letGo()
    native(() => this.#native.finishClose())
  }

  /** The VM begins to close: an isolate that only attached gives back what it has. */
  async #leave(): Promise<void> {
    if (!this.#creator) await this.close()
  }

  #letGo(): void {
    for (const thing of this.#open) thing.close()
    for (const vcpu of this.#vcpus.values()) vcpu.detach()
    this.#memory.detach()
    for (const ram of this.#rams) ram.deref()?.detach()
    this.#native.forget(this.#closeKey)
  }

  #vcpu(index: number): VcpuImpl {
    let vcpu = this.#vcpus.get(index)
    if (vcpu === undefined) {
      vcpu = new VcpuImpl(native(() => this.#native.vcpu(index)))
      this.#vcpus.set(index, vcpu)
    }
    return vcpu
  }

  #keep<T extends Closable>(thing: T): T {
    this.#open.add(thing)
    return thing
  }

  readonly #forget = (thing: Closable): void => {
    this.#open.delete(thing)
  }
}
