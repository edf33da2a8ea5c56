import type { ExitReason } from '../generated/abi.ts'
import type { CpuidEntry } from './kvm.ts'

/** `KVM_SET_GUEST_DEBUG`. */
export interface GuestDebug {
  /** `GuestDebugFlag` bits. */
  control: number
  /** DR0 to DR7 for `UseHwBp`. */
  debugreg?: BigUint64Array
}

export interface StartOptions {
  /** Host CPUs for the thread; default all. */
  affinity?: readonly number[]
  /** Limit of the time that the thread waits for an answer before it sleeps; default 20. */
  spin?: { maxUs: number }
}

/** Why a vCPU's thread ended. */
export type StopReason = 'stopped' | 'closed'

/**
 * `'idle'`: no thread, `runSync` may be used. `'running'` includes halted. `'exit'`: an exit waits
 * for its answer.
 */
export type VcpuState = 'idle' | 'running' | 'exit' | 'paused' | 'closed'

/** Counters since the vCPU was created. */
export interface VcpuStats {
  /** Entries into the guest. */
  entries: number
  /** Exits handed to TypeScript. */
  exits: number
  /** Port and memory accesses that an ioeventfd, a route or the irqchip handled. */
  kernelExits: number
  /** Times that the guest halted. */
  halts: number
  /** Answers that came while the thread was still looking. */
  spinHits: number
  /** Answers for which the thread had to sleep. */
  spinMisses: number
  /** What the soft engine did to execute the guest's code. */
  code?: CodeStats
}

/** Counters of the soft engine since the vCPU was created; what is kept now, for `codeBytes`. */
export interface CodeStats {
  /** Blocks of instructions that were decoded. */
  decodedBlocks: number
  /** Blocks that went because there was no room. */
  evictedBlocks: number
  /** Blocks that went because their bytes changed. */
  invalidatedBlocks: number
  /** Regions that were translated to host code. */
  translations: number
  /** Bytes of host code. */
  codeBytes: number
  /** Times that all host code was dropped to make room. */
  codeResets: number
  /** Instructions that the interpreter executed. */
  interpretedInstructions: number
  /** Times that translated code asked it to. */
  slowPaths: number
  /** Of these, for the last instruction of a block: nearly always a branch to what was not found. */
  branchMisses: number
  /**
   * Nanoseconds that the vCPU spent in translated code, in the interpreter and the delivery of events, in
   * the interpreter on behalf of translated code, and waiting for answers of devices. They are
   * estimates: a look every 10 ms at what it does.
   */
  translatedNs: number
  interpretedNs: number
  helperNs: number
  deviceNs: number
}

/**
 * One virtual CPU. Registers and other state can be read and written while the vCPU is not in the
 * guest: before `start`, while paused, while stopped, and from a handler while its exit waits
 * for the answer. At any other time these methods throw KvmError EBUSY.
 */
export interface Vcpu extends AsyncDisposable {
  readonly index: number
  /** The `kvm_run` page of this isolate; offsets are in `KVM_RUN`. */
  readonly run: ArrayBuffer
  readonly state: VcpuState
  /** After `InternalError` with suberror 0x10000: the message of the engine's own failure. */
  readonly failure: string | undefined

  /** `kvm_regs`: RAX RBX RCX RDX RSI RDI RSP RBP R8-R15 RIP RFLAGS. */
  getRegs(into?: BigUint64Array): BigUint64Array
  setRegs(regs: BigUint64Array): void
  /** `kvm_sregs`, 312 bytes. */
  getSregs(): Uint8Array
  setSregs(sregs: Uint8Array): void
  /** `kvm_fpu`, 416 bytes. */
  getFpu(): Uint8Array
  setFpu(fpu: Uint8Array): void
  /** An XSAVE area in standard format (`KVM_GET_XSAVE2`). */
  getXsave(): Uint8Array
  setXsave(area: Uint8Array): void
  /** Pairs of register number and value (`kvm_xcrs`). */
  getXcrs(): [index: number, value: bigint][]
  setXcrs(xcrs: readonly (readonly [index: number, value: bigint])[]): void
  /** `kvm_vcpu_events`, 64 bytes. */
  getVcpuEvents(): Uint8Array
  setVcpuEvents(events: Uint8Array): void
  /** `kvm_debugregs`, 16 words: DR0 to DR3, DR6, DR7, then zeros. */
  getDebugRegs(): BigUint64Array
  setDebugRegs(regs: BigUint64Array): void
  setGuestDebug(debug: GuestDebug): void
  /** `kvm_lapic_state`, 1024 bytes. ENXIO without an irqchip. */
  getLapic(): Uint8Array
  setLapic(state: Uint8Array): void
  /** A value of `MpState`. */
  getMpState(): number
  setMpState(state: number): void
  getCpuid2(): CpuidEntry[]
  setCpuid2(entries: readonly CpuidEntry[]): void
  /** @throws KvmError EINVAL for a register that does not exist. */
  getMsrs(indices: readonly number[]): bigint[]
  /** Stops at the first that is refused: its KvmError EINVAL says which. */
  setMsrs(msrs: readonly (readonly [index: number, value: bigint])[]): void
  getTscKhz(): number
  setTscKhz(khz: number): void
  /** `KVM_TRANSLATE`: the guest physical address of a linear one, or undefined. */
  translate(gva: bigint): number | undefined
  /**
   * Instructions counted since creation (soft engine). At first only those that are interpreted,
   * because translated code counts none; all in what follows the first `stopAtInstruction` with a number.
   */
  instructions(): number
  /**
   * Exit with `CountReached` just before this instruction number; undefined clears it. From the first
   * number on every instruction is counted alone, at some cost of speed.
   */
  stopAtInstruction(count: number | undefined): void

  /** `KVM_INTERRUPT`, only without an irqchip. */
  interrupt(vector: number): void
  /** `KVM_NMI`. Allowed at any time. */
  nmi(): void
  /** `KVM_SMI`. Allowed at any time. @throws KvmError ENOTTY: the engine has no system management mode (`Cap.X86Smm`). */
  smi(): void

  /**
   * `KVM_RUN` on the calling thread. With an irqchip, HLT sleeps here and never returns; `Intr`
   * is returned for a kick, for work that waits for this isolate's device host, and when
   * `timeoutMs` is over. Answers to reads are taken from the page at the next call.
   */
  runSync(opts?: { timeoutMs?: number }): ExitReason
  /** Starts the vCPU's native thread, which hands its exits to the device hosts. */
  start(opts?: StartOptions): void
  /** Makes the vCPU leave the guest once. */
  kick(): void
  /** Completes pending I/O and parks the thread. The isolate must go on serving exits. */
  pause(): Promise<void>
  resume(): void
  /** Ends the thread. An exit that waits for an answer is given up. */
  stop(): Promise<StopReason>
  stats(): VcpuStats
  /**
   * What the guest has asked of the soft engine since the last call and it does not have: at most 256 texts such as
   * `the read of MSR 0x123`. The first call begins it; the host's engine never has any.
   */
  takeRefusals(): string[]
}
