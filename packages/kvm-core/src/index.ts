/**
 * CPU, memory and interrupt virtualization with KVM's vocabulary.
 *
 * ```ts
 * using kvm = open({ engine: 'soft' })
 * await using vm = kvm.createVm()
 * const ram = vm.createRam({ size: 1 << 20 })
 * vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: ram.size, ram })
 * ```
 */
export type * from './api.ts'
export * from './generated/abi.ts'
export { DEFER } from './defer.ts'
export { KvmError, type Errno } from './errors.ts'
export { hostVerdict } from './host-probe.ts'
export { attachVm, open } from './kvm.ts'
