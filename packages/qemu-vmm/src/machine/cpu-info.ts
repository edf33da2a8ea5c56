import type { Vcpu } from 'kvm-core'

import type { CpuInfo } from './config.ts'

const MP_STATE_HALTED = 3

/** What monitors show of processors that stand; `places` are the numbers of their places. */
export function cpuInfo(vcpus: readonly Vcpu[], places: readonly number[]): CpuInfo[] {
  return vcpus.map((vcpu, i) => ({
    index: places[i]!,
    halted: vcpu.getMpState() === MP_STATE_HALTED,
    regs: vcpu.getRegs().slice(),
    sregs: vcpu.getSregs(),
    fpu: vcpu.getFpu(),
    debugRegs: vcpu.getDebugRegs(),
    events: vcpu.getVcpuEvents(),
  }))
}
