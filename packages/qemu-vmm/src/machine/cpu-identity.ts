import type { CpuidEntry } from 'kvm-core'

import { VmmError } from '../errors.ts'
import type { CpuConfig } from './config.ts'

const VENDOR = /^[\x20-\x7e]{12}$/
const LEAF_EXT_MAX = 0x8000_0000
const LEAF_EXT_FEATURES = 0x8000_0001
const LEAF_EXT_SIZES = 0x8000_0008
/** Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX. */
const AMD_ALIASES = 0x0183_f3ff
const AMD = 'AuthenticAMD'
const PHYS_BITS_MIN = 36
const PHYS_BITS_MAX = 52

/** Bits of guest-physical addresses that CPUID shows. */
export function physBits(cpuid: readonly CpuidEntry[]): number {
  const entry = cpuid.find((leaf) => leaf.function === LEAF_EXT_SIZES)
  return (entry?.eax ?? PHYS_BITS_MIN) & 0xff
}

/** The CPUID of a model with another vendor, or other physical address bits. */
export function withIdentity(
  model: readonly CpuidEntry[],
  { vendor, physBits: wanted }: CpuConfig,
  hostPhysBits: () => number,
): CpuidEntry[] {
  const bits = wanted === 'host' ? hostPhysBits() : wanted
  if (bits !== undefined && !(bits >= PHYS_BITS_MIN && bits <= PHYS_BITS_MAX)) {
    throw bad(`phys-bits should be between ${PHYS_BITS_MIN} and ${PHYS_BITS_MAX} (but is ${bits})`)
  }
  if (vendor !== undefined && !VENDOR.test(vendor)) {
    throw bad(`'${vendor}' is not a processor vendor: twelve characters`)
  }
  return model.map((entry) => {
    const changed = vendor === undefined ? entry : withVendor(entry, vendor, model)
    if (bits === undefined || changed.function !== LEAF_EXT_SIZES) return changed
    return { ...changed, eax: ((changed.eax & ~0xff) | bits) >>> 0 }
  })
}

function withVendor(entry: CpuidEntry, vendor: string, model: readonly CpuidEntry[]): CpuidEntry {
  if (entry.function === 0 || entry.function === LEAF_EXT_MAX) {
    const text = new DataView(new TextEncoder().encode(vendor).buffer)
    const [ebx, edx, ecx] = [0, 4, 8].map((at) => text.getUint32(at, true)) as [
      number,
      number,
      number,
    ]
    return { ...entry, ebx, ecx, edx }
  }
  if (entry.function !== LEAF_EXT_FEATURES) return entry
  const aliases =
    vendor === AMD ? (model.find((leaf) => leaf.function === 1)?.edx ?? 0) & AMD_ALIASES : 0
  return { ...entry, edx: ((entry.edx & ~AMD_ALIASES) | aliases) >>> 0 }
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}
