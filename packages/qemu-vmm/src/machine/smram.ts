import { Cap } from 'kvm-core'
import type { GuestRam, UserMemoryRegion, Vm } from 'kvm-core'

import { NO_SMRAM } from '../chipset/smm.ts'
import type { SmmControl, SmramView } from '../chipset/smm.ts'
import { VmmError } from '../errors.ts'
import type { VmHandles } from './assemble.ts'
import type { MachineConfig } from './config.ts'
import type { Range } from './device-ram.ts'
import { HIGH_MEMORY_START, VGA_HOLE_END, VGA_HOLE_START } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'

/** Memslots of address space 1 are seen in system management mode alone, over what else is there. */
const IN_SMM = 1 << 16
const LOW_SLOT = IN_SMM
const HIGH_SLOT = IN_SMM + 1
const TOP_SLOT = IN_SMM + 2
const BASE_SLOT = IN_SMM + 3
/** Memslots of RAM and firmware have the numbers below, those of flash the numbers above. */
const OPEN_SLOT = 22
const REST_SLOT = 23
/** Around the first SMBASE, as QEMU has it. */
const BASE_START = 0x3_0000
const BASE_END = 0x5_0000
const BASE_BYTES = BASE_END - BASE_START
/** Where the RAM at 640 KiB is seen a second time (Q35 data sheet, 9.2.4). */
const HIGH_START = 0xfeda_0000
const SIZE = VGA_HOLE_END - VGA_HOLE_START
/** Of the RAM below 640 KiB and from 1 MiB up, as the memory map has it. */
const LOW_RAM_SLOT = 0
const RAM_SLOT = 1

/** Something else that a guest may have put where the RAM is. */
interface Neighbour {
  /** Hides what is in the ranges, until they are others. */
  cover(ranges: readonly Range[]): void
}

/** The RAM of system management mode, as memslots show it. */
export class Smram {
  readonly #vm: Pick<Vm, 'setUserMemoryRegions'>
  readonly #ram: GuestRam
  readonly #map: MemoryMap
  readonly #video: Neighbour
  #view: SmramView = NO_SMRAM

  constructor(
    vm: Pick<Vm, 'setUserMemoryRegions'>,
    ram: GuestRam,
    map: MemoryMap,
    video: Neighbour,
  ) {
    this.#vm = vm
    this.#ram = ram
    this.#map = map
    this.#video = video
  }

  show(wanted: SmramView): void {
    const { lowRamEnd } = this.#map
    // What does not fit is as if it were not there.
    const topBytes = wanted.topBytes <= lowRamEnd - HIGH_MEMORY_START ? wanted.topBytes : 0
    const view = { ...wanted, topBytes }
    const before = this.#view
    this.#view = view
    const covered = this.#covered(view)
    const changes: UserMemoryRegion[] = []
    const ram = this.#ram
    const piece = (slot: number, gpa: number, isNow: boolean, wasBefore: boolean): void => {
      if (isNow === wasBefore) return
      const size = isNow ? SIZE : 0
      changes.push({ slot, gpa, size, ...(isNow && { ram, offset: VGA_HOLE_START }) })
    }
    const open = placeOfOpen(view)
    const openBefore = placeOfOpen(before)
    if (open !== openBefore) {
      if (openBefore !== undefined) changes.push({ slot: OPEN_SLOT, gpa: openBefore, size: 0 })
      if (open !== undefined) {
        changes.push({ slot: OPEN_SLOT, gpa: open, size: SIZE, ram, offset: VGA_HOLE_START })
      }
    }
    piece(LOW_SLOT, VGA_HOLE_START, view.low, before.low)
    piece(HIGH_SLOT, HIGH_START, view.high, before.high)
    if (topBytes !== before.topBytes) changes.push(...this.#top(before.topBytes, topBytes))
    if (view.atBase !== before.atBase) changes.push(...this.#atBase(view.atBase))
    if (changes.length === 0) return
    // What makes room does so before, and what comes back after the change.
    this.#video.cover([...this.#covered(before), ...covered])
    this.#vm.setUserMemoryRegions(changes)
    this.#video.cover(covered)
  }

  /** Where nothing else is seen: what is open, and what nobody but the mode sees. */
  #covered(view: SmramView): Range[] {
    const open = placeOfOpen(view)
    const { topBytes, atBase } = view
    return [
      ...(atBase ? [{ gpa: BASE_START, size: BASE_BYTES }] : []),
      ...(open === undefined ? [] : [{ gpa: open, size: SIZE }]),
      ...(topBytes === 0 ? [] : [{ gpa: this.#map.lowRamEnd - topBytes, size: topBytes }]),
    ]
  }

  /** Takes memory from all, and gives it to the mode alone. */
  #top(before: number, bytes: number): UserMemoryRegion[] {
    const { lowRamEnd } = this.#map
    const ram = this.#ram
    const place = (from: number): { gpa: number; offset: number } => ({ gpa: from, offset: from })
    const start = lowRamEnd - bytes
    const changes: UserMemoryRegion[] = []
    if (before > 0) changes.push({ slot: TOP_SLOT, gpa: lowRamEnd - before, size: 0 })
    changes.push({ slot: RAM_SLOT, gpa: HIGH_MEMORY_START, size: 0 })
    if (start > HIGH_MEMORY_START) {
      const size = start - HIGH_MEMORY_START
      changes.push({ slot: RAM_SLOT, size, ram, ...place(HIGH_MEMORY_START) })
    }
    if (bytes > 0) changes.push({ slot: TOP_SLOT, size: bytes, ram, ...place(start) })
    return changes
  }

  /** The same for the RAM around the first SMBASE, which lies within other. */
  #atBase(isTaken: boolean): UserMemoryRegion[] {
    const ram = this.#ram
    const none = (slot: number, gpa: number): UserMemoryRegion => ({ slot, gpa, size: 0 })
    const some = (slot: number, from: number, to: number): UserMemoryRegion => ({
      slot,
      gpa: from,
      size: to - from,
      ram,
      offset: from,
    })
    return isTaken
      ? [
          none(LOW_RAM_SLOT, 0),
          some(LOW_RAM_SLOT, 0, BASE_START),
          some(REST_SLOT, BASE_END, VGA_HOLE_START),
          some(BASE_SLOT, BASE_START, BASE_END),
        ]
      : [
          none(LOW_RAM_SLOT, 0),
          none(REST_SLOT, BASE_END),
          none(BASE_SLOT, BASE_START),
          some(LOW_RAM_SLOT, 0, VGA_HOLE_START),
        ]
  }
}

function placeOfOpen({ openLow, openHigh }: SmramView): number | undefined {
  if (openLow) return VGA_HOLE_START
  return openHigh ? HIGH_START : undefined
}

/**
 * System management mode for a machine that has it.
 *
 * @throws VmmError `E_CONFIG` where it is asked for and the engine has none
 */
export function smmOf(
  { machine }: MachineConfig,
  { kvm, vm, vcpus, ram }: VmHandles,
  map: MemoryMap,
  video: Neighbour,
  inFlash: boolean,
): { smm?: SmmControl } {
  const { smm: wanted = inFlash, secureFlash = false } = machine?.options ?? {}
  const has = wanted && kvm.checkExtension(Cap.X86Smm) > 0
  if (!has && (machine?.options?.smm === true || secureFlash)) {
    throw new VmmError(
      'E_CONFIG',
      secureFlash && !wanted
        ? 'flash that only system management mode may write needs that mode: use smm=on'
        : 'the kvm engine has no system management mode: use accel=tcg, or smm=off and plain flash',
    )
  }
  if (!has) return {}
  const smram = new Smram(vm, ram, map, video)
  return {
    smm: {
      show: (view) => smram.show(view),
      interrupt(vcpu) {
        for (const one of vcpus) if (vcpu === 'all' || vcpu === one.index) one.smi()
      },
    },
  }
}
