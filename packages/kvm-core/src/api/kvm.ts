import type { Cap } from '../generated/abi.ts'
import type { Vm } from './vm.ts'

/** Which engine executes guest code: KVM of the host, or the software CPU of this package. */
export type EngineKind = 'soft' | 'host'

export interface OpenOptions {
  /**
   * Default `'auto'`: the host's KVM where `hostVerdict` finds it good, else the software engine.
   */
  engine?: 'auto' | EngineKind
  /** Path of the KVM device, `/dev/kvm` by default; not for `'soft'`. */
  device?: string
  /** Wishes for the software engine, where that is used; not for `'host'`. */
  soft?: SoftOptions
}

export interface SoftOptions {
  /**
   * Bytes of translated code that each vCPU keeps before it drops all and begins again: 1 MiB to
   * 1 GiB, by default 128 MiB. Memory is only taken as the guest's code is translated.
   */
  codeBytes?: number
  /**
   * Names translated guest code in `/tmp/perf-PID.map`, so that `perf report` and `perf top` of the
   * host show it as `guest-kernel64 0xffffffff81000000`: privilege, kind of code, linear address.
   * The file stays when the process ends. Where `codeBytes` is used up addresses are used again, and
   * earlier lines of them are out of date.
   */
  perfMap?: boolean
}

/** What `engine: 'auto'` thinks of the host's KVM. */
export interface HostVerdict {
  readonly usable: boolean
  /** What was found, as a clause without a period. */
  readonly reason: string
}

/** One CPUID leaf, or one sub-leaf when bit 0 of `flags` is set (`kvm_cpuid_entry2`). */
export interface CpuidEntry {
  function: number
  index: number
  flags: number
  eax: number
  ebx: number
  ecx: number
  edx: number
}

/** What `/dev/kvm` is to KVM: capabilities, and the factory of VMs. */
export interface Kvm extends Disposable {
  readonly engine: EngineKind
  /** `KVM_GET_API_VERSION`: 12. */
  readonly apiVersion: number
  /** `KVM_CHECK_EXTENSION`: 0 when absent, else 1 or the capability's number. */
  checkExtension(cap: Cap): number
  /** `KVM_CREATE_VM`. `type` is 0, the only one of x86 that is not a confidential VM. */
  createVm(type?: number): Vm
  /** `KVM_GET_SUPPORTED_CPUID`. */
  getSupportedCpuid(): CpuidEntry[]
  /**
   * CPUID of a model by QEMU's names, with features switched on or off.
   * @throws KvmError EINVAL for a name that is not in `cpuModels` or `cpuFeatures`.
   */
  cpuidForModel(model: string, features?: Readonly<Record<string, boolean>>): CpuidEntry[]
  readonly cpuModels: readonly string[]
  readonly cpuFeatures: readonly string[]
  /** `KVM_GET_MSR_INDEX_LIST`. */
  getMsrIndexList(): number[]
  /** No further VM can be created; VMs that exist live on. */
  close(): void
}
