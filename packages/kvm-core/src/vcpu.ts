import type { CpuidEntry } from './api/kvm.ts'
import type {
  CodeStats,
  GuestDebug,
  StartOptions,
  StopReason,
  Vcpu,
  VcpuState,
  VcpuStats,
} from './api/vcpu.ts'
import { cpuidFromWords, cpuidToWords } from './cpuid.ts'
import { invalid, kvmError, native } from './errors.ts'
import type { ExitReason } from './generated/abi.ts'
import type { NativeVcpu } from './native/addon.ts'
import { addon } from './native/loader.ts'

const states: readonly VcpuState[] = ['idle', 'running', 'exit', 'paused', 'closed']
/** Words of `kvm_regs`. */
const regsWords = 18
/** Words of the debug registers in `kvm_guest_debug`. */
const debugregWords = 8

/** One vCPU in this isolate. */
export class VcpuImpl implements Vcpu {
  readonly index: number
  readonly run: ArrayBuffer
  readonly #native: NativeVcpu

  constructor(from: NativeVcpu) {
    this.#native = from
    this.index = from.index
    this.run = native(() => from.runPage())
  }

  get state(): VcpuState {
    return states[this.#native.phase] ?? 'closed'
  }

  get failure(): string | undefined {
    return this.#native.failure() ?? undefined
  }

  getRegs(into: BigUint64Array = new BigUint64Array(regsWords)): BigUint64Array {
    native(() => this.#native.getRegs(into))
    return into
  }

  setRegs(regs: BigUint64Array): void {
    native(() => this.#native.setRegs(regs))
  }

  getSregs(): Uint8Array {
    return native(() => this.#native.getSregs())
  }

  setSregs(sregs: Uint8Array): void {
    native(() => this.#native.setSregs(sregs))
  }

  getFpu(): Uint8Array {
    return native(() => this.#native.getFpu())
  }

  setFpu(fpu: Uint8Array): void {
    native(() => this.#native.setFpu(fpu))
  }

  getXsave(): Uint8Array {
    return native(() => this.#native.getXsave())
  }

  setXsave(area: Uint8Array): void {
    native(() => this.#native.setXsave(area))
  }

  getXcrs(): [index: number, value: bigint][] {
    return [[0, native(() => this.#native.getXcr0())]]
  }

  setXcrs(xcrs: readonly (readonly [index: number, value: bigint])[]): void {
    for (const [index, value] of xcrs) {
      if (index !== 0) throw invalid(`XCR${index} does not exist, only XCR0`)
      native(() => this.#native.setXcr0(value))
    }
  }

  getVcpuEvents(): Uint8Array {
    return native(() => this.#native.getVcpuEvents())
  }

  setVcpuEvents(events: Uint8Array): void {
    native(() => this.#native.setVcpuEvents(events))
  }

  getDebugRegs(): BigUint64Array {
    return native(() => this.#native.getDebugRegs())
  }

  setDebugRegs(regs: BigUint64Array): void {
    native(() => this.#native.setDebugRegs(regs))
  }

  setGuestDebug(debug: GuestDebug): void {
    const debugreg = debug.debugreg ?? new BigUint64Array(debugregWords)
    native(() => this.#native.setGuestDebug(debug.control, debugreg))
  }

  getLapic(): Uint8Array {
    return native(() => this.#native.getLapic())
  }

  setLapic(state: Uint8Array): void {
    native(() => this.#native.setLapic(state))
  }

  getMpState(): number {
    return native(() => this.#native.getMpState())
  }

  setMpState(state: number): void {
    native(() => this.#native.setMpState(state))
  }

  getCpuid2(): CpuidEntry[] {
    return cpuidFromWords(native(() => this.#native.getCpuid2()))
  }

  setCpuid2(entries: readonly CpuidEntry[]): void {
    native(() => this.#native.setCpuid2(cpuidToWords(entries)))
  }

  getMsrs(indices: readonly number[]): bigint[] {
    return [...native(() => this.#native.getMsrs(Uint32Array.from(indices)))]
  }

  setMsrs(msrs: readonly (readonly [index: number, value: bigint])[]): void {
    const indices = Uint32Array.from(msrs, ([index]) => index)
    const values = BigUint64Array.from(msrs, ([, value]) => value)
    native(() => this.#native.setMsrs(indices, values))
    for (const note of native(() => this.#native.takeNotes())) {
      process.emitWarning(note, { type: 'KvmWarning', code: 'KVM_SKIPPED' })
    }
  }

  getTscKhz(): number {
    return native(() => this.#native.getTscKhz())
  }

  setTscKhz(khz: number): void {
    native(() => this.#native.setTscKhz(khz))
  }

  translate(gva: bigint): number | undefined {
    return native(() => this.#native.translate(gva)) ?? undefined
  }

  instructions(): number {
    return native(() => this.#native.instructions())
  }

  stopAtInstruction(count: number | undefined): void {
    if (count !== undefined && !(count >= 0)) throw invalid(`count ${count} is negative`)
    native(() => this.#native.stopAtInstruction(count ?? -1))
  }

  interrupt(vector: number): void {
    native(() => this.#native.interrupt(vector))
  }

  nmi(): void {
    this.#native.nmi()
  }

  smi(): void {
    native(() => this.#native.smi())
  }

  runSync(opts?: { timeoutMs?: number }): ExitReason {
    const timeout = opts?.timeoutMs ?? -1
    if (opts?.timeoutMs !== undefined && !(timeout >= 0)) {
      throw invalid(`timeoutMs ${timeout} is negative`)
    }
    try {
      return this.#native.runSync(timeout) as ExitReason
    } catch (error) {
      throw kvmError(error)
    }
  }

  start(opts: StartOptions = {}): void {
    const maxUs = opts.spin?.maxUs ?? 20
    native(() => this.#native.start([...(opts.affinity ?? [])], maxUs))
  }

  kick(): void {
    this.#native.kick()
  }

  pause(): Promise<void> {
    return this.#called((done) => this.#native.pause(done))
  }

  resume(): void {
    native(() => this.#native.resume())
  }

  async stop(): Promise<StopReason> {
    await this.#called((done) => this.#native.stop(done))
    return this.state === 'closed' ? 'closed' : 'stopped'
  }

  stats(): VcpuStats {
    const [entries, exits, kernelExits, halts, spinHits, spinMisses] = this.#native.stats()
    const code = this.#native.codeStats() as (CodeStats & Record<string, number>) | null
    const counters = { entries, exits, kernelExits, halts, spinHits, spinMisses }
    return code === null ? counters : { ...counters, code }
  }

  takeRefusals(): string[] {
    return this.#native.takeRefusals()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Detaches the page; the VM calls it when it closes. */
  detach(): void {
    if (this.run.byteLength > 0) addon().detachBuffer(this.run)
  }

  #called(ask: (done: () => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      try {
        ask(resolve)
      } catch (error) {
        reject(kvmError(error))
      }
    })
  }
}
