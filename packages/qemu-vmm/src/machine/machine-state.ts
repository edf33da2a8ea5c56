import type { GuestRam, Vcpu, Vm } from 'kvm-core'

import { VmmError } from '../errors.ts'
import type { Netdevs } from '../net/netdevs.ts'
import type { MachineClock } from './clock.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import type { Processors, SavedProcessor } from './processors.ts'
import { loadRam, saveRam } from './ram-state.ts'
import type { RamRun } from './ram-state.ts'
import { setTscAt } from './standstill.ts'
import type { Standstill } from './standstill.ts'
import { loadChips, loadVcpu } from './vcpu-state.ts'
import type { ChipState, VcpuState } from './vcpu-state.ts'

const VERSION = 2

/**
 * Everything that a guest can tell: CPUs, interrupt controllers, devices and memory. It contains
 * only what `structuredClone` and `v8.serialize` accept.
 */
export interface MachineState {
  version: number
  memory: number
  /** Guest time of the devices in nanoseconds. */
  clockNs: number
  /** Guest time of the interrupt controllers' timers and the TSC, in nanoseconds. */
  vmClock: bigint
  /** The processors, in the order of `vcpus`. */
  processors: SavedProcessor[]
  vcpus: VcpuState[]
  chips: ChipState
  devices: Record<string, unknown>
  /** Of networks that have one, by their names. */
  networks: Record<string, unknown>
  ram: RamRun[]
}

/** The parts that a state is read from and written to. All vCPUs are parked. */
export interface StateParts {
  vm: Vm
  ram: GuestRam
  vcpus: readonly Vcpu[]
  board: PcBoard
  processors: Processors
  networks: Netdevs
  clock: MachineClock
  map: MemoryMap
  standstill: Standstill
}

export function saveMachine(parts: StateParts): MachineState {
  const { standstill } = parts
  return {
    version: VERSION,
    memory: parts.map.memoryBytes,
    clockNs: parts.clock.nowNs(),
    vmClock: standstill.clock,
    processors: parts.processors.save(),
    vcpus: standstill.vcpus,
    chips: standstill.chips,
    devices: parts.board.save(),
    networks: parts.networks.save(),
    ram: saveRam(parts.ram),
  }
}

/** Throws `E_STATE` for the state of another machine, before anything is changed. */
export function checkState(parts: StateParts, state: MachineState): void {
  const mismatch =
    state.version !== VERSION
      ? `has version ${state.version}; this program reads version ${VERSION}`
      : state.memory !== parts.map.memoryBytes
        ? `is of a machine with ${state.memory} bytes of memory; this one has ` +
          `${parts.map.memoryBytes}`
        : state.vcpus?.length !== state.processors?.length
          ? `has ${state.vcpus?.length} vCPUs; it says of ${state.processors?.length} processors`
          : !Number.isFinite(state.clockNs) || typeof state.vmClock !== 'bigint'
            ? `has no valid guest time`
            : typeof state.networks !== 'object' || state.networks === null
              ? `says nothing of networks`
              : parts.processors.check(state.processors)
  if (mismatch !== undefined) throw new VmmError('E_STATE', `the saved state ${mismatch}`)
}

/**
 * Replaces everything and returns the moment that the machine goes on from. After an error the
 * machine has parts of both states and must be reset.
 */
export function loadMachine(parts: StateParts, state: MachineState): Standstill {
  const { vmClock: clock, chips, vcpus } = state
  parts.clock.set(state.clockNs)
  loadRam(parts.vm, parts.map, parts.ram, state.ram)
  parts.board.load(state.devices)
  // The clock stands until the machine runs, so what is due at once is then.
  parts.networks.load(state.networks, (ms, fn) => {
    const { cancel } = parts.clock.setTimer(ms === 0 ? 0 : parts.clock.nowNs() + ms * 1e6, fn)
    return cancel
  })
  loadChips(parts.vm, chips)
  for (const [i, vcpu] of parts.vcpus.entries()) {
    loadVcpu(vcpu, vcpus[i]!)
    setTscAt(parts.vm, vcpu, clock, vcpus[i]!)
  }
  return { clock, chips, vcpus: [...vcpus] }
}
