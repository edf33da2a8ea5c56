import type { CpuidEntry, EngineKind, Kvm, OpenOptions } from './api/kvm.ts'
import type { Vm } from './api/vm.ts'
import { cpuidFromWords } from './cpuid.ts'
import { KvmError, native } from './errors.ts'
import type { Cap } from './generated/abi.ts'
import type { NativeKvm } from './native/addon.ts'
import { addon } from './native/loader.ts'
import { VmImpl } from './vm.ts'

/**
 * Opens an engine.
 * @throws KvmError E_NO_HOST_ENGINE for `'host'`, E_NO_ADDON when the native part is missing.
 */
export function open(opts: OpenOptions = {}): Kvm {
  const { engine = 'auto' } = opts
  if (engine === 'host') {
    throw new KvmError(
      'ENXIO',
      "the host engine comes with a later release: use engine 'soft' or 'auto'",
      'E_NO_HOST_ENGINE',
    )
  }
  if (engine !== 'auto' && engine !== 'soft') {
    throw new KvmError('EINVAL', `engine '${String(engine)}' is not 'auto', 'soft' or 'host'`)
  }
  if (opts.device !== undefined) {
    throw new KvmError('EINVAL', `device '${opts.device}' is of no use to the soft engine`)
  }
  return new KvmImpl(native(() => addon().NativeKvm.open(false)))
}

/** A VM that another isolate of this process created, by its `id`. ENOENT if it was closed. */
export function attachVm(id: number): Vm {
  return new VmImpl(
    native(() => addon().attachVm(id)),
    false,
  )
}

class KvmImpl implements Kvm {
  readonly engine: EngineKind = 'soft'
  readonly #native: NativeKvm
  #open = true

  constructor(from: NativeKvm) {
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
