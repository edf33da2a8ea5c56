import type { RouteHandle, Vm } from 'kvm-core'

import type { PostGate } from '../device.ts'

/** The gate of a port. */
export type PostGates = (port: number) => PostGate

/** Ports of a VM where the guest does not always wait until a byte that it writes has been served. They begin as others do. */
export function postGates(vm: Pick<Vm, 'route'>): PostGates {
  return (port) => {
    let route: RouteHandle | undefined
    return (isOpen) => {
      if (isOpen === (route !== undefined)) return
      route?.close()
      route = isOpen ? vm.route({ space: 'pio', base: port, len: 1, kind: 'posted' }) : undefined
    }
  }
}
