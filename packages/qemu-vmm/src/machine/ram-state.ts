import type { GuestRam, Vm } from 'kvm-core'

import { VmmError } from '../errors.ts'
import { HIGH_MEMORY_START, VGA_HOLE_END } from './memory-map.ts'
import type { MemoryMap } from './memory-map.ts'

const PAGE = 4096
/** Runs are cut here, so that no single buffer of a state gets huge. */
const MAX_RUN_BYTES = 16 << 20
const ZERO_PAGE: Buffer = Buffer.alloc(PAGE)

/** A run of pages that are not all zero, by its offset in RAM. */
export interface RamRun {
  offset: number
  data: Uint8Array
}

/** Copies RAM, leaving out pages of zeros. */
export function saveRam(ram: GuestRam): RamRun[] {
  const runs: RamRun[] = []
  for (let index = 0; index < ram.segments; index++) {
    const segment = Buffer.from(ram.segment(index))
    const base = index * ram.segmentBytes
    let start = -1
    for (let at = 0; at <= segment.length; at += PAGE) {
      const isData = at < segment.length && !ZERO_PAGE.equals(segment.subarray(at, at + PAGE))
      if (isData && start < 0) start = at
      const isLong = start >= 0 && at - start >= MAX_RUN_BYTES
      if (start >= 0 && (!isData || isLong)) {
        runs.push({ offset: base + start, data: Uint8Array.from(segment.subarray(start, at)) })
        start = isData ? at : -1
      }
    }
  }
  return runs
}

/** Restores RAM: pages in no run become zero. Throws `E_STATE` for runs outside RAM. */
export function loadRam(vm: Vm, map: MemoryMap, ram: GuestRam, runs: readonly RamRun[]): void {
  for (const { offset, data } of runs) {
    const isValid =
      data instanceof Uint8Array &&
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      offset % PAGE === 0 &&
      data.length % PAGE === 0 &&
      data.length <= MAX_RUN_BYTES + PAGE &&
      offset + data.length <= ram.size
    if (!isValid) throw new VmmError('E_STATE', `the saved state has RAM at ${offset}, outside RAM`)
  }
  clearRam(ram)
  for (const { offset, data } of runs) {
    const segment = Math.floor(offset / ram.segmentBytes)
    new Uint8Array(ram.segment(segment)).set(data, offset - segment * ram.segmentBytes)
  }
  for (const { gpa, size } of map.slots) vm.memory.markWritten(gpa, size)
  vm.memory.markWritten(VGA_HOLE_END, HIGH_MEMORY_START - VGA_HOLE_END)
}

/** Zeroes what is not zero already: writing zeros to untouched pages would make them resident. */
function clearRam(ram: GuestRam): void {
  for (let index = 0; index < ram.segments; index++) {
    const segment = Buffer.from(ram.segment(index))
    for (let at = 0; at < segment.length; at += PAGE) {
      const page = segment.subarray(at, at + PAGE)
      if (!ZERO_PAGE.equals(page)) page.fill(0)
    }
  }
}
