import type { CpuidEntry } from 'kvm-core'

import { apicIdShifts } from './topology.ts'
import type { CpuTopology } from './topology.ts'

const FLAG_SIGNIFICANT_INDEX = 1
/** EBX, EDX and ECX of leaf 0. */
const INTEL = [0x756e_6547, 0x4965_6e69, 0x6c65_746e] as const
const EDX_HTT = 1 << 28
const ECX_CMP_LEGACY = 1 << 1
const LEAF_CACHES = 4
const LEAF_TOPOLOGY = 0xb
const LEAF_TOPOLOGY_V2 = 0x1f
const LEAF_EXT_FEATURES = 0x8000_0001
const LEAF_EXT_SIZES = 0x8000_0008
/** Level types of the topology leaves, in their place in ECX. */
const LEVEL_SMT = 1 << 8
const LEVEL_CORE = 2 << 8
const LEVEL_DIE = 5 << 8

/**
 * The CPUID of one processor: that of the model, with what depends on the processor's place among
 * the others (Intel SDM volume 2, CPUID leaves 1, 4, 0xB and 0x1F; AMD APM volume 3, E.4).
 */
export function cpuidOf(
  model: readonly CpuidEntry[],
  topology: CpuTopology,
  apicId: number,
): CpuidEntry[] {
  const { dies, cores, threads } = topology
  const shifts = apicIdShifts(topology)
  const perSocket = dies * cores * threads
  const isIntel = hasVendor(model, INTEL)
  const level = (function_: number, index: number, type: number): CpuidEntry => {
    const [shift, count] =
      type === LEVEL_SMT
        ? [shifts.core, threads]
        : type === LEVEL_CORE && function_ === LEAF_TOPOLOGY_V2
          ? [shifts.die, cores * threads]
          : [shifts.socket, perSocket]
    return {
      function: function_,
      index,
      flags: FLAG_SIGNIFICANT_INDEX,
      eax: shift,
      ebx: count,
      ecx: index | type,
      edx: apicId,
    }
  }
  const result = model.map((entry): CpuidEntry => {
    const { eax, ebx, ecx, edx } = entry
    switch (entry.function) {
      case 0:
        // Dies are told by a leaf of their own, which must not lie beyond the last one.
        return dies > 1 ? { ...entry, eax: Math.max(eax, LEAF_TOPOLOGY_V2) } : entry
      case 1: {
        const counts = (Math.min(perSocket, 255) << 16) | (apicId << 24)
        return {
          ...entry,
          ebx: ((ebx & 0xffff) | counts) >>> 0,
          edx: (perSocket > 1 ? edx | EDX_HTT : edx & ~EDX_HTT) >>> 0,
        }
      }
      case LEAF_CACHES:
        return (eax & 0x1f) === 0 ? entry : { ...entry, eax: cacheSharing(eax, topology) }
      case LEAF_TOPOLOGY:
        return level(LEAF_TOPOLOGY, entry.index, entry.index === 0 ? LEVEL_SMT : LEVEL_CORE)
      case LEAF_EXT_FEATURES:
        return perSocket > 1 && !isIntel ? { ...entry, ecx: (ecx | ECX_CMP_LEGACY) >>> 0 } : entry
      case LEAF_EXT_SIZES:
        return perSocket > 1 && !isIntel
          ? { ...entry, ecx: (shifts.socket << 12) | (perSocket - 1) }
          : entry
      default:
        return entry
    }
  })
  if (dies > 1) {
    result.push(
      level(LEAF_TOPOLOGY_V2, 0, LEVEL_SMT),
      level(LEAF_TOPOLOGY_V2, 1, LEVEL_CORE),
      level(LEAF_TOPOLOGY_V2, 2, LEVEL_DIE),
    )
  }
  return result
}

/** The threads of a core share its caches; how many ids a socket's cores take stands beside that. */
function cacheSharing(eax: number, { dies, cores, threads }: CpuTopology): number {
  const kept = eax & 0x3fff
  return (kept | ((threads - 1) << 14) | (Math.min(dies * cores - 1, 63) << 26)) >>> 0
}

function hasVendor(model: readonly CpuidEntry[], vendor: readonly number[]): boolean {
  const leaf = model.find((entry) => entry.function === 0)
  return leaf !== undefined && [leaf.ebx, leaf.edx, leaf.ecx].every((word, i) => word === vendor[i])
}
