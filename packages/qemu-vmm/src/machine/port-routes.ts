import type { Vm } from 'kvm-core'

import { type Latches, portLatches } from './port-latch.ts'
import { type PostGates, postGates } from './post-gate.ts'

/** How ports of a VM are read, and written, without an exit. */
export function portRoutes(vm: Pick<Vm, 'route'>): { latches: Latches; postGates: PostGates } {
  return { latches: portLatches(vm), postGates: postGates(vm) }
}
