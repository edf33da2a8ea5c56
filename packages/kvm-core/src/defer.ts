/** What an exit handler returns to answer later with `DeviceHost.complete`. */
export const DEFER: unique symbol = Symbol('kvm-core.DEFER')
