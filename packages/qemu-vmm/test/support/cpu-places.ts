import { CpuPlaces } from '../../src/machine/cpu-places.ts'
import { resolveTopology } from '../../src/machine/topology.ts'
import type { SmpConfig } from '../../src/machine/topology.ts'

/** Places for the processors of a PC. */
export function cpuPlaces(smp: SmpConfig | number): CpuPlaces {
  return new CpuPlaces(resolveTopology(smp, 'pc'))
}
