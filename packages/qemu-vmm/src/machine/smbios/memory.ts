import { MANUFACTURER } from './config.ts'
import type { SmbiosConfig } from './config.ts'
import { fieldsOf } from './options.ts'
import { Structure } from './structure.ts'

const KIB = 1 << 10
const MIB = 1 << 20
/** A module has at most so much. */
const MODULE_BYTES = 16 * 1024 * MIB
const HANDLE_ARRAY = 0x1000
const HANDLE_MODULE = 0x1100
const HANDLE_MAPPING = 0x1300
/** Sizes from these on are in a longer field, and the value stands in the shorter. */
const LARGE_ARRAY_KIB = 0x8000_0000
const LARGE_MODULE_MIB = 0x7fff

/** The array of memory, its modules, and where it is. */
export function memoryStructures(config: SmbiosConfig): Structure[] {
  const { memoryBytes, ram = [{ gpa: 0, size: memoryBytes }] } = config
  const modules = Math.ceil(memoryBytes / MODULE_BYTES)
  return [
    array(memoryBytes, modules),
    ...Array.from({ length: modules }, (_, i) => {
      const bytes = Math.min(MODULE_BYTES, memoryBytes - i * MODULE_BYTES)
      return memoryModule(config, i, bytes)
    }),
    ...ram.map(({ gpa, size }, i) => mapping(i, gpa, size)),
  ]
}

function array(memoryBytes: number, modules: number): Structure {
  const kib = Math.ceil(memoryBytes / KIB)
  const isLarge = kib >= LARGE_ARRAY_KIB
  return (
    new Structure(16, HANDLE_ARRAY, 23)
      .u8(4, 1)
      .u8(5, 3)
      .u8(6, 6)
      .u32(7, isLarge ? LARGE_ARRAY_KIB : kib)
      // No information about errors.
      .u16(11, 0xfffe)
      .u16(13, modules)
      .u64(15, isLarge ? memoryBytes : 0)
  )
}

function memoryModule({ smbios = [] }: SmbiosConfig, index: number, bytes: number): Structure {
  const given = fieldsOf(smbios, 17)
  const mib = Math.ceil(bytes / MIB)
  const isLarge = mib >= LARGE_MODULE_MIB
  const speed = given.speed ?? 0
  return (
    new Structure(17, HANDLE_MODULE + index, 40)
      .u16(4, HANDLE_ARRAY)
      .u16(6, 0xfffe)
      .u16(8, 0xffff)
      .u16(10, 0xffff)
      .u16(12, isLarge ? LARGE_MODULE_MIB : mib)
      .u8(14, 9)
      .string(16, `${given.locatorPrefix ?? 'DIMM'} ${index}`)
      .string(17, given.bank)
      // RAM, of an "other" kind.
      .u8(18, 7)
      .u16(19, 2)
      .u16(21, speed)
      .string(23, given.manufacturer ?? MANUFACTURER)
      .string(24, given.serial)
      .string(25, given.asset)
      .string(26, given.part)
      .u32(28, isLarge ? mib : 0)
      .u16(32, speed)
  )
}

function mapping(index: number, gpa: number, size: number): Structure {
  const [first, last] = [Math.floor(gpa / KIB), Math.ceil((gpa + size) / KIB) - 1]
  // What is behind 4 TiB does not fit.
  const isLarge = last > 0xffff_fffe
  return new Structure(19, HANDLE_MAPPING + index, 31)
    .u32(4, isLarge ? 0xffff_ffff : first)
    .u32(8, isLarge ? 0xffff_ffff : last)
    .u16(12, HANDLE_ARRAY)
    .u8(14, 1)
    .u64(15, isLarge ? gpa : 0)
    .u64(23, isLarge ? gpa + size - 1 : 0)
}
