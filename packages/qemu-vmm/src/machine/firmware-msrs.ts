import type { CpuidEntry } from 'kvm-core'

import type { MemoryMap } from './memory-map.ts'

// Memory type range registers (Intel SDM volume 3, 12.11).
const MTRR_PHYS_BASE_0 = 0x200
const MTRR_PHYS_MASK_0 = 0x201
const MTRR_FIX_64K_00000 = 0x250
const MTRR_FIX_16K_80000 = 0x258
const MTRR_FIX_16K_A0000 = 0x259
const MTRR_FIX_4K_C0000 = 0x268
const MTRR_FIX_4K_COUNT = 8
const MTRR_DEF_TYPE = 0x2ff

const ALL_WRITE_BACK = 0x0606_0606_0606_0606n
const ALL_WRITE_PROTECTED = 0x0505_0505_0505_0505n
const ALL_UNCACHED = 0n
/** Fixed and variable ranges on; everything else is write-back. */
const DEF_TYPE = 0xc06n
const MASK_VALID = 0x800n
const FOUR_GIB = 1n << 32n

const CPUID_ADDRESS_SIZES = 0x8000_0008
const DEFAULT_PHYSICAL_BITS = 36

/** Machine registers as firmware leaves them: RAM is cached, the PCI hole is not. */
export function firmwareMsrs(
  map: MemoryMap,
  cpuid: readonly CpuidEntry[],
): [index: number, value: bigint][] {
  const sizes = cpuid.find((entry) => entry.function === CPUID_ADDRESS_SIZES)
  const physicalBits = sizes === undefined ? DEFAULT_PHYSICAL_BITS : sizes.eax & 0xff
  const holeStart = BigInt(map.pciHoleStart)
  const mask = ((1n << BigInt(physicalBits)) - 1n) & ~(FOUR_GIB - holeStart - 1n)
  const msrs: [number, bigint][] = [
    [MTRR_FIX_64K_00000, ALL_WRITE_BACK],
    [MTRR_FIX_16K_80000, ALL_WRITE_BACK],
    [MTRR_FIX_16K_A0000, ALL_UNCACHED],
  ]
  for (let i = 0; i < MTRR_FIX_4K_COUNT; i++)
    msrs.push([MTRR_FIX_4K_C0000 + i, ALL_WRITE_PROTECTED])
  msrs.push([MTRR_PHYS_BASE_0, holeStart])
  msrs.push([MTRR_PHYS_MASK_0, mask | MASK_VALID])
  msrs.push([MTRR_DEF_TYPE, DEF_TYPE])
  return msrs
}
