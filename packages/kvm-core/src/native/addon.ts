/** What the addon exports. Its Rust sources say what each call does; the API is `api.ts`. */

import type { CreateRamOptions } from '../api/memory.ts'

export interface NativeRam {
  readonly size: number
  readonly key: number
  readonly backing: 'anon' | 'memfd' | 'hugetlb' | 'file'
  readonly fd: number
  window(offset: number, len: number): ArrayBuffer
  markWritten(offset: number, len: number): void
  populate(): void
  hugeBytes(): number
  residentBytes(): number
  release(): void
}

export interface NativeMemory {
  generation(): ArrayBuffer
  /** Six numbers per region: slot, gpa, size, flags, offset, place of its memory in `rams` or -1. */
  setRegions(numbers: Float64Array, rams: NativeRam[]): void
  /** Five numbers per memslot: slot, gpa, size, offset, key of the RAM. */
  slots(): Float64Array
  slotRam(slot: number): NativeRam
  read(gpa: number, dst: Uint8Array): void
  write(gpa: number, src: Uint8Array): void
  markWritten(gpa: number, len: number): void
  discard(gpa: number, len: number): void
  markAllWritten(gpas: Float64Array, lens: Uint32Array, first: number, end: number): void
  dirtyLog(slot: number): Uint8Array
  clearDirtyLog(slot: number, firstPage: number, numPages: number, bitmap: Uint8Array): void
  setManualProtect(on: boolean): void
}

export interface NativeIrqFd {
  trigger(): void
  fd(): number
  resampleFd(): number
  close(): void
}

export interface NativeIoEvent {
  fd(): number
  setApart(apart: boolean): void
  close(): void
}

export interface NativeRoute {
  latch(): ArrayBuffer | null
  close(): void
}

export interface NativeHost {
  readonly pollUs: number
  control(): ArrayBuffer
  complete(vcpu: number): boolean
  poll(): 0 | 1 | 2
  mustYield(): boolean
  ringLater(): void
  close(): void
}

export interface NativeVcpu {
  readonly index: number
  readonly phase: number
  runPage(): ArrayBuffer
  runSync(timeoutMs: number): number
  start(affinity: number[], spinMaxUs: number): void
  kick(): void
  pause(done: () => void): void
  resume(): void
  stop(done: () => void): void
  nmi(): void
  smi(): void
  failure(): string | null
  stats(): [number, number, number, number, number, number]
  codeStats(): Record<string, number> | null
  takeRefusals(): string[]
  getRegs(into: BigUint64Array): void
  setRegs(regs: BigUint64Array): void
  getSregs(): Uint8Array
  setSregs(sregs: Uint8Array): void
  getFpu(): Uint8Array
  setFpu(fpu: Uint8Array): void
  getXsave(): Uint8Array
  setXsave(area: Uint8Array): void
  getXcr0(): bigint
  setXcr0(value: bigint): void
  getVcpuEvents(): Uint8Array
  setVcpuEvents(events: Uint8Array): void
  getDebugRegs(): BigUint64Array
  setDebugRegs(regs: BigUint64Array): void
  setGuestDebug(control: number, debugreg: BigUint64Array): void
  getLapic(): Uint8Array
  setLapic(state: Uint8Array): void
  getMpState(): number
  setMpState(state: number): void
  getCpuid2(): Uint32Array
  setCpuid2(words: Uint32Array): void
  getMsrs(indices: Uint32Array): BigUint64Array
  setMsrs(indices: Uint32Array, values: BigUint64Array): void
  /** What the engine left out since the last call, one sentence each. */
  takeNotes(): string[]
  getTscKhz(): number
  setTscKhz(khz: number): void
  translate(gva: bigint): number | null
  instructions(): number
  stopAtInstruction(count: number): void
  interrupt(vector: number): void
}

export interface NativeVm {
  readonly id: number
  memory(): NativeMemory
  createRam(size: number, backing: NonNullable<CreateRamOptions['backing']>): NativeRam
  createFileRam(size: number, fd: number, share: boolean): NativeRam
  createIrqchip(): void
  createPit2(flags: number): void
  reinjectControl(on: boolean): void
  setGsiRouting(numbers: Float64Array): void
  irqLine(gsi: number, level: boolean): void
  signalMsi(addr: number, data: number): number
  nativeCalls(): unknown
  irqfd(gsi: number, resample: boolean, notify: (() => void) | undefined): NativeIrqFd
  ioeventfd(
    pio: boolean,
    addr: number,
    len: number,
    datamatch: bigint | undefined,
    id: number,
    host: number,
  ): NativeIoEvent
  route(
    pio: boolean,
    base: number,
    len: number,
    kind: number,
    size: number,
    host: number,
  ): NativeRoute
  createDeviceHost(id: number, maxPollUs: number, onDoorbell: () => void): NativeHost
  getIrqchip(chip: number): Uint8Array
  setIrqchip(state: Uint8Array): void
  getPit2(): Uint8Array
  setPit2(state: Uint8Array): void
  resetIrqchip(): void
  getClock(): [clock: bigint, realtime: bigint, hostTsc: bigint, flags: bigint]
  setClock(clock: bigint, realtime: bigint, flags: number): void
  createVcpu(index: number): NativeVcpu
  vcpu(index: number): NativeVcpu
  vcpus(): number[]
  onClose(f: () => void): number
  forget(key: number): void
  beginClose(done: () => void): void
  finishClose(): void
}

export interface NativeKvm {
  readonly apiVersion: number
  checkExtension(cap: number): number
  createVm(): NativeVm
  supportedCpuid(): Uint32Array
  cpuidForModel(model: string, names: string[], on: boolean[]): Uint32Array
  cpuModels(): string[]
  cpuFeatures(): string[]
  msrIndexList(): Uint32Array
}

export interface Addon {
  readonly NativeKvm: {
    openSoft(codeBytes: number | undefined, perfMap: boolean): NativeKvm
    openHost(device?: string): NativeKvm
  }
  attachVm(id: number): NativeVm
  detachBuffer(buffer: ArrayBuffer): void
}
