import { AtaDisk } from '../chipset/ide/disk.ts'
import { translation } from '../chipset/ide/geometry.ts'
import type { PiixIde } from '../chipset/ide/piix-ide.ts'
import type { Rtc } from '../chipset/rtc.ts'
import type { MemoryMap } from './memory-map.ts'

/** How the processor was reset; firmware looks at it first. */
export const CMOS_SHUTDOWN_STATUS = 0x0f
/** The end of a suspend to RAM. */
export const CMOS_RESUMES = 0xfe

const KIB = 1024
const MIB = 1024 * KIB
const UNIT_64K = 64 * KIB
const BASE_MEMORY_KIB = 640
/** 8042 with a mouse, no floppy, display decided elsewhere. */
const EQUIPMENT = 0x04

/** Puts the memory sizes where PC firmware and old kernels look for them. */
export function setMemoryCmos(rtc: Rtc, map: MemoryMap): void {
  const set16 = (index: number, value: number): void => {
    rtc.setCmos(index, value & 0xff)
    rtc.setCmos(index + 1, value >> 8)
  }
  const extendedKib = Math.min(Math.floor((map.lowRamEnd - MIB) / KIB), 65_535)
  const above16M = Math.floor(Math.max(0, map.lowRamEnd - 16 * MIB) / UNIT_64K)
  const above4G = Math.floor(map.highRamBytes / UNIT_64K)
  rtc.setCmos(0x14, EQUIPMENT)
  set16(0x15, BASE_MEMORY_KIB)
  set16(0x17, extendedKib)
  set16(0x30, extendedKib)
  set16(0x34, Math.min(above16M, 65_535))
  set16(0x5b, above4G & 0xffff)
  rtc.setCmos(0x5d, Math.floor(above4G / 0x1_0000) & 0xff)
}

/** Firmware waits for so many processors beside the first one. */
export function setCpuCmos(rtc: Rtc, cpus: number): void {
  rtc.setCmos(0x5f, cpus - 1)
}

const FLOPPY_TYPES = 0x10
const EQUIPMENT_AT = 0x14
/** There are floppy drives; the number less one is above. */
const EQUIPMENT_FLOPPY = 0x01
const EQUIPMENT_TWO_FLOPPIES = 0x40

/** Tells firmware which floppy drives there are; 0 is none. */
export function setFloppyCmos(rtc: Rtc, [first, second]: readonly [number, number]): void {
  rtc.setCmos(FLOPPY_TYPES, (first << 4) | second)
  if (first === 0 && second === 0) return
  const both = first !== 0 && second !== 0 ? EQUIPMENT_TWO_FLOPPIES : 0
  rtc.setCmos(EQUIPMENT_AT, EQUIPMENT | EQUIPMENT_FLOPPY | both)
}

/** Where the geometry of a disk of "user-defined" type is, and that type. */
const DISK_TYPES = [
  { type: 0x19, info: 0x1b },
  { type: 0x1a, info: 0x24 },
] as const
const DISK_TYPE_USER = 47

/** Tells firmware the geometry of the disks at the first channel, and how to translate all four. */
export function setDiskCmos(rtc: Rtc, ide: PiixIde): void {
  let types = 0
  let translations = 0
  for (let index = 0; index < 4; index++) {
    const unit = ide.unit(index)
    if (!(unit instanceof AtaDisk)) continue
    const { cylinders, heads, sectors } = unit.geometry
    translations |= translation(unit.geometry) << (index * 2)
    const place = DISK_TYPES[index]
    if (place === undefined) continue
    types |= index === 0 ? 0xf0 : 0x0f
    rtc.setCmos(place.type, DISK_TYPE_USER)
    const low = cylinders & 0xff
    const high = cylinders >> 8
    const control = 0xc0 | (heads > 8 ? 0x08 : 0)
    for (const [i, byte] of [low, high, heads, 0xff, 0xff, control, low, high, sectors].entries()) {
      rtc.setCmos(place.info + i, byte)
    }
  }
  rtc.setCmos(0x12, types)
  rtc.setCmos(0x39, translations)
}
