import type { Vcpu, Vm } from 'kvm-core'

import type { BootImage } from '../boot/loader.ts'
import { CMOS_RESUMES, CMOS_SHUTDOWN_STATUS } from './cmos.ts'
import type { CpuPlaces } from './cpu-places.ts'
import type { Entropy } from '../device.ts'
import type { MachineConfig } from './config.ts'
import { entryRegs, entrySregs, wakeRegs, wakeSregs } from './entry-state.ts'
import { setFirmwareChips, writeVectors } from './firmware-chips.ts'
import { firmwareMsrs } from './firmware-msrs.ts'
import { createFirmwareTables, tableConfig } from './firmware-tables.ts'
import type { FirmwareTables } from './firmware-tables.ts'
import type { MemoryMap } from './memory-map.ts'
import type { PcBoard } from './pc.ts'
import { setTscAt } from './standstill.ts'
import type { Standstill } from './standstill.ts'
import { loadChips, loadVcpu } from './vcpu-state.ts'

/** Offset of the waking vector in the firmware control structure (ACPI 6.5, 5.2.10). */
const FACS_WAKING_VECTOR = 12
const REAL_MODE_END = 0x10_0000

/** What a boot starts from. All vCPUs are parked. */
export interface GuestParts {
  config: MachineConfig
  vm: Vm
  vcpus: readonly Vcpu[]
  board: PcBoard
  map: MemoryMap
  places: CpuPlaces
  /** The kernel; without one the firmware runs. */
  boot: BootImage | undefined
  entropy: Entropy
  /** The hardware after power-on. */
  powerOn: Standstill
  /** Guest time at which the machine will start. */
  clock: bigint
}

/**
 * Puts the machine where power-on leaves it, about to run its firmware; or with a kernel where
 * firmware and boot loader would have left it, about to run that.
 */
export function loadGuest(parts: GuestParts): void {
  const { vm, vcpus, map, powerOn, boot } = parts
  if (boot === undefined) {
    powerOnBare(parts)
    return
  }
  powerOnBoard(parts)
  const tables = firmwareTables(parts)
  vm.memory.write(tables.gpa, tables.bytes)
  writeVectors(vm.memory)
  const entry = boot.load({
    memory: vm.memory,
    map,
    rsdpGpa: tables.rsdpGpa,
    entropy: parts.entropy,
    hasTextScreen: parts.board.displays.length > 0,
  })
  powerOnVcpus(parts)
  vcpus[0]!.setSregs(entrySregs(powerOn.vcpus[0]!.sregs, entry))
  vcpus[0]!.setRegs(entryRegs(entry))
  // Last: its timer runs from now on.
  setFirmwareChips(vm, powerOn.chips, boot.kind === 'multiboot')
}

/**
 * Puts the machine where firmware would have left it after a suspend to RAM: about to run at the
 * guest's waking vector. Without one it boots. Firmware finds the vector by itself.
 */
export function wakeGuest(parts: GuestParts): void {
  const { vm, vcpus, powerOn } = parts
  if (parts.boot === undefined) {
    powerOnBare(parts)
    parts.board.rtc.setCmos(CMOS_SHUTDOWN_STATUS, CMOS_RESUMES)
    return
  }
  const { facsGpa } = firmwareTables(parts)
  const field = facsGpa + FACS_WAKING_VECTOR
  const vector = facsGpa === 0 ? 0 : vm.memory.view(field, 4).getUint32(0, true)
  if (vector === 0 || vector >= REAL_MODE_END) {
    loadGuest(parts)
    return
  }
  powerOnBoard(parts)
  powerOnVcpus(parts)
  vcpus[0]!.setSregs(wakeSregs(powerOn.vcpus[0]!.sregs, vector))
  vcpus[0]!.setRegs(wakeRegs(vector))
  setFirmwareChips(vm, powerOn.chips, false)
}

/** Everything as after power-on; only RAM keeps what it has. */
function powerOnBare(parts: GuestParts): void {
  const { vm, board, powerOn } = parts
  board.reset()
  loadChips(vm, powerOn.chips)
  for (const [i, vcpu] of parts.vcpus.entries()) {
    loadVcpu(vcpu, powerOn.vcpus[i]!)
    setTscAt(vm, vcpu, parts.clock, powerOn.vcpus[i]!)
  }
}

function powerOnBoard({ vm, board, powerOn }: GuestParts): void {
  board.reset()
  loadChips(vm, powerOn.chips)
  board.applyFirmwareSetup()
}

function powerOnVcpus({ vm, vcpus, map, powerOn, clock }: GuestParts): void {
  // All but the first wait for their start-up interrupt.
  for (const [i, vcpu] of vcpus.entries()) {
    const state = powerOn.vcpus[i]!
    loadVcpu(vcpu, state)
    setTscAt(vm, vcpu, clock, state)
    vcpu.setMsrs(firmwareMsrs(map, state.cpuid))
  }
}

function firmwareTables(parts: GuestParts): FirmwareTables {
  return createFirmwareTables(tableConfig({ ...parts, cpuid: parts.powerOn.vcpus[0]!.cpuid }))
}
