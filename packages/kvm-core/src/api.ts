/** The types of the package, in the vocabulary of `linux/kvm.h`. */

export type * from './api/device-host.ts'
export type * from './api/kvm.ts'
export type * from './api/memory.ts'
export type * from './api/vcpu.ts'
export type * from './api/vm.ts'
