import type { Vcpu, Vm } from 'kvm-core'

import type { BootImage } from '../boot/loader.ts'
import type { Entropy } from '../device.ts'
import type { MachineConfig } from './config.ts'
import { entryRegs, entrySregs } from './entry-state.ts'
import { setFirmwareChips, writeVectors } from './firmware-chips.ts'
import { firmwareMsrs } from './firmware-msrs.ts'
import { createFirmwareTables } from './firmware-tables.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import { NIL_UUID } from './smbios.ts'
import { setTscAt } from './standstill.ts'
import type { Standstill } from './standstill.ts'
import type { CpuTopology } from './topology.ts'
import { loadChips, loadVcpu } from './vcpu-state.ts'

/** The versioned name of the machine, as guests and messages show it. */
export const MACHINE_NAME = 'pc-i440fx-7.2'

/** What a boot starts from. All vCPUs are parked. */
export interface GuestParts {
  config: MachineConfig
  vm: Vm
  vcpus: readonly Vcpu[]
  board: PcBoard
  map: MemoryMap
  topology: CpuTopology
  boot: BootImage
  entropy: Entropy
  /** The hardware after power-on. */
  powerOn: Standstill
  /** Guest time at which the machine will start. */
  clock: bigint
}

/** Puts the machine where firmware and boot loader would have left it: about to run the kernel. */
export function loadGuest(parts: GuestParts): void {
  const { vm, vcpus, board, map, powerOn } = parts
  board.reset()
  loadChips(vm, powerOn.chips)
  board.applyFirmwareSetup()
  const tables = createFirmwareTables({
    topology: parts.topology,
    pciHoleStart: map.pciHoleStart,
    serialPorts: board.serial.map((_, port) => port),
    machine: MACHINE_NAME,
    uuid: parts.config.uuid ?? NIL_UUID,
    memoryBytes: map.memoryBytes,
  })
  vm.memory.write(tables.gpa, tables.bytes)
  writeVectors(vm.memory)
  const entry = parts.boot.load({
    memory: vm.memory,
    map,
    rsdpGpa: tables.rsdpGpa,
    entropy: parts.entropy,
  })
  for (const [i, vcpu] of vcpus.entries()) {
    const state = powerOn.vcpus[i]!
    loadVcpu(vcpu, state)
    setTscAt(vm, vcpu, parts.clock, state)
    vcpu.setMsrs(firmwareMsrs(map, state.cpuid))
    // The others wait for their start-up interrupt.
    if (i > 0) continue
    vcpu.setSregs(entrySregs(state.sregs, entry))
    vcpu.setRegs(entryRegs(entry))
  }
  // Last: its timer runs from now on.
  setFirmwareChips(vm, powerOn.chips, parts.boot.kind === 'multiboot')
}
