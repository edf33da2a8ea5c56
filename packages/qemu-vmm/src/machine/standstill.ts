import type { Vcpu, Vm } from 'kvm-core'

import { MSR_TSC, MSR_TSC_DEADLINE, loadChips, saveChips, saveVcpu } from './vcpu-state.ts'
import type { ChipState, VcpuState } from './vcpu-state.ts'

/**
 * The virtual hardware at the moment when all vCPUs were parked. Its timers go on in host time
 * and may fire while the machine stands, so this is what counts as its state, and what it goes on
 * from.
 */
export interface Standstill {
  /** Guest time in nanoseconds. */
  clock: bigint
  chips: ChipState
  vcpus: VcpuState[]
}

/** Takes the state of parked hardware. `clock` is the guest time that counts as the moment. */
export function captureStandstill(
  vm: Vm,
  vcpus: readonly Vcpu[],
  msrs: readonly number[],
  clock: bigint,
): Standstill {
  return {
    clock,
    chips: saveChips(vm),
    vcpus: vcpus.map((vcpu) => {
      const state = saveVcpu(vcpu, msrs)
      const tsc = tscAt(vm, vcpu, clock)
      state.msrs = state.msrs.map(([index, value]) => [index, index === MSR_TSC ? tsc : value])
      return state
    }),
  }
}

/** Sets guest time back to the moment, and undoes what timers did since. */
export function leaveStandstill(vm: Vm, vcpus: readonly Vcpu[], standstill: Standstill): void {
  vm.setClock({ clock: standstill.clock })
  loadChips(vm, standstill.chips)
  for (const [i, vcpu] of vcpus.entries()) {
    const { lapic, msrs } = standstill.vcpus[i]!
    vcpu.setLapic(lapic)
    const deadline = msrs.find(([index]) => index === MSR_TSC_DEADLINE)
    if (deadline !== undefined) vcpu.setMsrs([deadline])
  }
}

/** Sets the TSC so that it has the value in `state` at guest time `clock`. */
export function setTscAt(vm: Vm, vcpu: Vcpu, clock: bigint, state: VcpuState): void {
  const tsc = state.msrs.find(([index]) => index === MSR_TSC)?.[1]
  if (tsc === undefined) return
  const khz = BigInt(vcpu.getTscKhz())
  bracketed(vm, (now) => {
    const value = BigInt.asUintN(64, tsc + ticks(now - clock, khz))
    vcpu.setMsrs([[MSR_TSC, value]])
  })
}

/** The value that the TSC had, or will have, at guest time `clock`. */
function tscAt(vm: Vm, vcpu: Vcpu, clock: bigint): bigint {
  const khz = BigInt(vcpu.getTscKhz())
  return bracketed(vm, (now) =>
    BigInt.asUintN(64, vcpu.getMsrs([MSR_TSC])[0]! - ticks(now - clock, khz)),
  )
}

function ticks(ns: bigint, khz: bigint): bigint {
  return (ns * khz) / 1_000_000n
}

/** Guests distrust a TSC that is off by a tenth of a millisecond; the host may take longer breaks. */
const CLOSE_ENOUGH_NS = 20_000n
const ATTEMPTS = 50

/** Does something at a known guest time: again when the host interrupted in between. */
function bracketed<T>(vm: Vm, action: (now: bigint) => T): T {
  for (let attempt = 1; ; attempt++) {
    const before = vm.getClock().clock
    const result = action(before)
    if (vm.getClock().clock - before < CLOSE_ENOUGH_NS || attempt === ATTEMPTS) return result
  }
}
