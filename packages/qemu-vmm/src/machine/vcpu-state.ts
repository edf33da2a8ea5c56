import { IrqchipId, KvmError } from 'kvm-core'
import type { CpuidEntry, Vcpu, Vm } from 'kvm-core'

const IRQCHIPS = [IrqchipId.PicPrimary, IrqchipId.PicSecondary, IrqchipId.Ioapic] as const
export const MSR_TSC = 0x10
export const MSR_TSC_DEADLINE = 0x6e0

/** Everything that `kvm_*` structures say about one vCPU. */
export interface VcpuState {
  cpuid: CpuidEntry[]
  regs: BigUint64Array
  sregs: Uint8Array
  xsave: Uint8Array
  xcrs: [number, bigint][]
  msrs: [number, bigint][]
  lapic: Uint8Array
  events: Uint8Array
  debugRegs: BigUint64Array
  mpState: number
  tscKhz: number
}

/** Interrupt controllers and timer. */
export interface ChipState {
  irqchips: Uint8Array[]
  /** Absent on a machine without the timer. */
  pit?: Uint8Array
}

/** Reads a parked vCPU. `msrs` is `getMsrIndexList()`. */
export function saveVcpu(vcpu: Vcpu, msrs: readonly number[]): VcpuState {
  const values = vcpu.getMsrs(msrs)
  return {
    cpuid: vcpu.getCpuid2(),
    regs: vcpu.getRegs().slice(),
    sregs: vcpu.getSregs(),
    xsave: vcpu.getXsave(),
    xcrs: vcpu.getXcrs(),
    msrs: msrs.map((index, i) => [index, values[i] ?? 0n]),
    lapic: vcpu.getLapic(),
    events: vcpu.getVcpuEvents(),
    debugRegs: vcpu.getDebugRegs(),
    mpState: vcpu.getMpState(),
    tscKhz: vcpu.getTscKhz(),
  }
}

/**
 * Writes a parked vCPU. Order matters: CPUID decides what the rest may hold, XCR0 what the XSAVE
 * area may; the local APIC's mode comes with `sregs`, and the TSC deadline counts only once the
 * APIC is in that mode.
 */
export function loadVcpu(vcpu: Vcpu, state: VcpuState): void {
  vcpu.setCpuid2(state.cpuid)
  vcpu.setTscKhz(state.tscKhz)
  vcpu.setSregs(state.sregs)
  vcpu.setXcrs(state.xcrs)
  vcpu.setXsave(state.xsave)
  vcpu.setMsrs(state.msrs.filter(([index]) => index !== MSR_TSC_DEADLINE))
  vcpu.setLapic(state.lapic)
  vcpu.setMsrs(state.msrs.filter(([index]) => index === MSR_TSC_DEADLINE))
  vcpu.setRegs(state.regs)
  vcpu.setDebugRegs(state.debugRegs)
  vcpu.setMpState(state.mpState)
  vcpu.setVcpuEvents(state.events)
}

/** Reads the chips of a VM whose vCPUs are parked. */
export function saveChips(vm: Vm): ChipState {
  // The timer first: a tick that it counts as sent must be found in the controller.
  const pit = savePit(vm)
  const irqchips = IRQCHIPS.map((chip) => vm.getIrqchip(chip))
  return pit === undefined ? { irqchips } : { irqchips, pit }
}

/** Undefined on a machine without the timer. */
function savePit(vm: Vm): Uint8Array | undefined {
  try {
    return vm.getPit2()
  } catch (error) {
    if (error instanceof KvmError && error.errno === 'ENXIO') return undefined
    throw error
  }
}

/** Writes the chips. Their timers are kept in guest time, which must be right before. */
export function loadChips(vm: Vm, state: ChipState): void {
  for (const chip of state.irqchips) vm.setIrqchip(chip)
  if (state.pit !== undefined) vm.setPit2(state.pit)
}
