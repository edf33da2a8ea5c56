import type { RouteHandle, Vm } from 'kvm-core'

import type { Latch } from '../device.ts'

/** The byte at a port where a device keeps what a read would give. */
export type Latches = (port: number) => Latch

/**
 * Ports of a VM whose reads are answered without an exit. The ranges stay the devices', which get all writes, and
 * reads of more than the one byte.
 */
export function portLatches(vm: Pick<Vm, 'route'>): Latches {
  return (port) => {
    let route: RouteHandle | undefined
    let ended = false
    return (value) => {
      if (ended) return
      if (value === undefined) {
        ended = true
        route?.close()
        return
      }
      // What is not there when the machine starts is not put there later: a vCPU might read it before its first value.
      route ??= vm.route({ space: 'pio', base: port, len: 1, kind: 'latched' })
      route.latch![0] = value
    }
  }
}
