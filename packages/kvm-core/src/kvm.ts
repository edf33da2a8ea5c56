import type { CpuidEntry, EngineKind, Kvm, OpenOptions, SoftOptions } from './api/kvm.ts'
import type { Vm } from './api/vm.ts'
import { cpuidFromWords } from './cpuid.ts'
import { KvmError, kvmError, native } from './errors.ts'
import type { Cap } from './generated/abi.ts'
import { hostVerdict } from './host-probe.ts'
import type { NativeKvm } from './native/addon.ts'
import { addon } from './native/loader.ts'
import { VmImpl } from './vm.ts'

/**
 * Opens an engine.
 * @throws KvmError E_NO_HOST_ENGINE for `'host'` where the host's KVM cannot be used; its `errno` is
 *   ENOENT without a device, EACCES without permission, EOPNOTSUPP for a kernel that lacks
 *   something. E_NO_ADDON when the native part is missing. EINVAL for `soft.codeBytes` outside its
 *   limits; EBUSY for `soft.perfMap` where Node.js writes that file itself, EACCES or EIO where
 *   nobody can.
 */
export function open(opts: OpenOptions = {}): Kvm {
  const { engine = 'auto', device, soft } = opts
  switch (engine) {
    case 'host':
      if (soft !== undefined) {
        throw new KvmError('EINVAL', "the option 'soft' is of no use to the host's engine")
      }
      return openHost(device)
    case 'soft':
      if (device !== undefined) {
        throw new KvmError('EINVAL', `device '${device}' is of no use to the soft engine`)
      }
      return openSoft(soft)
    case 'auto':
      return openBest(device, soft)
    default:
      throw new KvmError('EINVAL', `engine '${String(engine)}' is not 'auto', 'soft' or 'host'`)
  }
}

function openSoft({ codeBytes, perfMap = false }: SoftOptions = {}): Kvm {
  return new KvmImpl(
    'soft',
    native(() => addon().NativeKvm.openSoft(codeBytes, perfMap)),
  )
}

function openHost(device: string | undefined): Kvm {
  const { NativeKvm } = addon()
  try {
    return new KvmImpl('host', NativeKvm.openHost(device))
  } catch (error) {
    const cause = kvmError(error)
    if (!(cause instanceof KvmError) || !(error instanceof Error)) throw cause
    throw new KvmError(cause.errno, error.message, 'E_NO_HOST_ENGINE', { cause })
  }
}

/** The verdict is of this boot; the device may be gone or busy since. */
function openBest(device: string | undefined, soft: SoftOptions | undefined): Kvm {
  if (!hostVerdict(device).usable) return openSoft(soft)
  try {
    return openHost(device)
  } catch (error) {
    if (error instanceof KvmError && error.code === 'E_NO_HOST_ENGINE') return openSoft(soft)
    throw error
  }
}

/** A VM that another isolate of this process created, by its `id`. ENOENT if it was closed. */
export function attachVm(id: number): Vm {
  return new VmImpl(
    native(() => addon().attachVm(id)),
    false,
  )
}

class KvmImpl implements Kvm {
  readonly engine: EngineKind
  readonly #native: NativeKvm
  #open = true

  constructor(engine: EngineKind, from: NativeKvm) {
    this.engine = engine
    this.#native = from
  }

  get apiVersion(): number {
    return this.#native.apiVersion
  }

  get cpuModels(): readonly string[] {
    return this.#native.cpuModels()
  }

  get cpuFeatures(): readonly string[] {
    return this.#native.cpuFeatures()
  }

  checkExtension(cap: Cap): number {
    return native(() => this.#native.checkExtension(cap))
  }

  createVm(type: number = 0): Vm {
    if (!this.#open) throw new KvmError('EBADF', 'this Kvm was closed')
    if (type !== 0) throw new KvmError('EINVAL', `VM type ${type} is not 0`)
    return new VmImpl(
      native(() => this.#native.createVm()),
      true,
    )
  }

  getSupportedCpuid(): CpuidEntry[] {
    return cpuidFromWords(native(() => this.#native.supportedCpuid()))
  }

  cpuidForModel(model: string, features: Readonly<Record<string, boolean>> = {}): CpuidEntry[] {
    const [names, on] = [Object.keys(features), Object.values(features)]
    return cpuidFromWords(native(() => this.#native.cpuidForModel(model, names, on)))
  }

  getMsrIndexList(): number[] {
    return [...native(() => this.#native.msrIndexList())]
  }

  close(): void {
    this.#open = false
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
