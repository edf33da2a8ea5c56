import type { DeviceHost, DeviceHostOptions } from './device-host.ts'
import type {
  ClearDirtyLog,
  CreateRamOptions,
  GuestMemory,
  GuestRam,
  UserMemoryRegion,
} from './memory.ts'
import type { Vcpu } from './vcpu.ts'

/** `kvm_irq_routing_entry`. */
export type IrqRoute =
  | { gsi: number; type: 'irqchip'; irqchip: number; pin: number }
  | { gsi: number; type: 'msi'; addr: number; data: number }

/** `kvm_clock_data`, in nanoseconds. */
export interface ClockData {
  /** Guest time since the VM was created. */
  clock: bigint
  /** `ClockFlag` bits that say which of the next two are valid. */
  flags: number
  /** UTC at the moment of `clock`. */
  realtime: bigint
  /** The host's TSC at the moment of `clock`. */
  hostTsc: bigint
}

/** An interrupt that any isolate or process can raise without an exit. */
export interface IrqFd extends Disposable {
  readonly gsi: number
  /** An eventfd: a write from anywhere raises the interrupt. Opened when first asked for. */
  readonly fd: number
  /**
   * With `resample`: an eventfd that is signalled when the guest acknowledged the interrupt and
   * the line was lowered, else -1.
   */
  readonly resampleFd: number
  /** Raises the interrupt: an edge, or with `resample` a level until the guest acknowledges. */
  trigger(): void
  close(): void
}

export interface IrqFdOptions {
  /** Level-triggered: see `IrqFd.resampleFd`. */
  resample?: boolean
  /** Called in this isolate after each acknowledgement; needs `resample`. */
  onResample?: () => void
}

export interface IoEventFdRange {
  addr: number
  /** Bytes of the access; 0 matches any length. */
  len: 0 | 1 | 2 | 4 | 8
  /** Only writes of this value match. Needs a `len` that is not 0. */
  datamatch?: number | bigint
  /** Port space instead of memory. */
  pio?: boolean
  /** Device host that is told; default 0. */
  host?: number
}

/** A guest write that signals instead of exiting. */
export interface IoEventFd extends Disposable {
  /** What `ServeHandlers.ioevent` gets. */
  readonly id: number
  /** An eventfd that is also signalled. Opened when first asked for. */
  readonly fd: number
  /**
   * With `true` the eventfd alone is signalled from now on: for who watches `fd` and does by himself what there is to do.
   * With `false` the device host is told as well, which is the default.
   */
  setApart(apart: boolean): void
  close(): void
}

export interface RouteRange {
  space: 'pio' | 'mmio'
  base: number
  len: number
  /**
   * `'js'` (default): exits are answered by the device host. `'posted'`: writes are put in a ring
   * and the vCPU goes on. `'latched'`: reads are answered from `RouteHandle.latch`, writes exit.
   * `'ignore'`: reads give all ones, writes are dropped.
   */
  kind?: 'js' | 'posted' | 'latched' | 'ignore'
  /** Bytes of the only writes that a `'posted'` route takes, 1, 2, 4 or 8; others exit. All by default. */
  size?: number
  /** Device host that answers; default 0. */
  host?: number
}

export interface RouteHandle extends Disposable {
  /** The bytes that reads of a `'latched'` route get: at most 64, else undefined. */
  readonly latch: Uint8Array | undefined
  close(): void
}

export interface Vm extends AsyncDisposable {
  /** For `attachVm(id)` in another isolate of this process. */
  readonly id: number
  readonly memory: GuestMemory

  createRam(opts: CreateRamOptions): GuestRam
  /** `KVM_SET_USER_MEMORY_REGION`: EEXIST for an overlap, EINVAL with the reason otherwise. */
  setUserMemoryRegion(region: UserMemoryRegion): void
  /**
   * Several changes, one after the other, of which vCPUs see all or none: memory that is deleted and
   * created anew is never absent. The host engine's kernel has no such call: there a vCPU that runs
   * meanwhile may see each. After an error nothing has changed, unless the kernel refused.
   */
  setUserMemoryRegions(regions: readonly UserMemoryRegion[]): void
  /** The slots that were set here, by address; without the RAM behind them. */
  userMemoryRegions(): Omit<UserMemoryRegion, 'ram'>[]
  /** One bit per page; clears them unless `setManualDirtyLogProtect(true)`. */
  getDirtyLog(slot: number): Uint8Array
  clearDirtyLog(log: ClearDirtyLog): void
  /** `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2`. */
  setManualDirtyLogProtect(on: boolean): void

  /** PIC, IOAPIC and local APICs; before the first vCPU. */
  createIrqchip(): void
  /** The timer; needs the irqchip. `flags`: `PIT_SPEAKER_DUMMY`. */
  createPit2(flags?: number): void
  /** Whether ticks of the timer that find the last one pending come later (the default) or never. */
  reinjectControl(on: boolean): void
  /** Replaces the whole table. */
  setGsiRouting(entries: readonly IrqRoute[]): void
  irqLine(gsi: number, level: 0 | 1): void
  signalMsi(addr: number, data: number): void
  irqfd(gsi: number, opts?: IrqFdOptions): IrqFd
  /**
   * A value by which another addon of this process reads and writes guest memory and sends messages, from any thread and without
   * JavaScript: `MachineCalls` of `crates/binding/src/calls.rs`. It works as long as somebody keeps it.
   */
  nativeCalls(): unknown
  /** `id`: 0 to 4095, the bit in the host's bitmap; several ioeventfds may share one. */
  ioeventfd(range: IoEventFdRange, id: number): IoEventFd

  /** `kvm_irqchip`, 520 bytes, for a chip of `IrqchipId`. */
  getIrqchip(chip: number): Uint8Array
  setIrqchip(state: Uint8Array): void
  /** `kvm_pit_state2`, 112 bytes. */
  getPit2(): Uint8Array
  setPit2(state: Uint8Array): void
  /** PIC, IOAPIC and PIT as after power-up; local APICs are reset with their vCPUs. */
  resetIrqchip(): void
  getClock(): ClockData
  setClock(data: Partial<ClockData> & { clock: bigint }): void

  createVcpu(index: number): Vcpu
  /** A vCPU that exists, as an object of this isolate. ENOENT otherwise. */
  vcpu(index: number): Vcpu
  /** Numbers of all vCPUs. */
  readonly vcpus: readonly number[]

  /** Says who handles a range. EEXIST if another route has a part of it. */
  route(range: RouteRange): RouteHandle
  /** Makes this isolate answer exits. `onDoorbell` is called when something waits. */
  createDeviceHost(onDoorbell: () => void, opts?: DeviceHostOptions): DeviceHost

  /**
   * In the isolate that created the VM: stops all vCPUs, closes everything, in all isolates. In
   * one that attached: only what this isolate holds. The ArrayBuffers are detached: no `fs` call
   * that reads into guest memory may be under way.
   */
  close(): Promise<void>
}
