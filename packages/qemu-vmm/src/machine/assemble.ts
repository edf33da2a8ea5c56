import { KvmError, PIT_SPEAKER_DUMMY } from 'kvm-core'
import type { GuestRam, Kvm, Vcpu, Vm } from 'kvm-core'

import { VmmError } from '../errors.ts'
import { isMemoryBackend } from '../objects/config.ts'
import type { MemoryBackendConfig } from '../objects/config.ts'
import { openEngine } from './accel.ts'
import type { CpuConfig, MachineConfig } from './config.ts'
import type { CpuPlaces } from './cpu-places.ts'
import { physBits, withIdentity } from './cpu-identity.ts'
import { cpuidOf } from './cpuid-topology.ts'
import type { MemoryMap } from './memory-map.ts'
import { createGuestRam } from './ram.ts'

/** The virtual hardware below the devices. */
export interface VmHandles {
  kvm: Kvm
  vm: Vm
  ram: GuestRam
  /** In the order of their places. */
  vcpus: Vcpu[]
  /** Makes the one for a place, as after power-on. Throws `KvmError`. */
  createVcpu(index: number): Vcpu
}

/**
 * Opens the engine and creates the VM with its RAM, interrupt controllers, timer and vCPUs. As on
 * KVM the number of a vCPU is its APIC id; its index is its place in the list.
 */
export function assembleVm(
  config: MachineConfig,
  map: MemoryMap,
  cpus: CpuPlaces,
  log: (message: string) => void,
): VmHandles {
  const kvm = openEngine({ ...config, log })
  let vm: Vm | undefined
  try {
    vm = kvm.createVm()
    vm.createIrqchip()
    const { pit = true, pitLostTicks } = config.machine?.options ?? {}
    // Port 0x61 then answers with the timer's output, which Linux calibrates against.
    if (pit) vm.createPit2(PIT_SPEAKER_DUMMY)
    if (pit && pitLostTicks === 'discard') vm.reinjectControl(false)
    const ram = createGuestRam(vm, map, memoryBackend(config))
    const model = cpuid(kvm, config)
    const owner = vm
    const createVcpu = (index: number): Vcpu => {
      const id = cpus.apicIds[index]!
      const vcpu = owner.createVcpu(id)
      vcpu.setCpuid2(cpuidOf(model, cpus.topology, id))
      return vcpu
    }
    return { kvm, vm, ram, vcpus: cpus.present.map(createVcpu), createVcpu }
  } catch (error) {
    void vm?.close()
    kvm.close()
    throw error
  }
}

/** `checkConfig` has seen to it that the id names one. */
function memoryBackend(config: MachineConfig): MemoryBackendConfig | undefined {
  return config.objects?.filter(isMemoryBackend).find(({ id }) => id === config.memoryBackend)
}

function cpuid(kvm: Kvm, config: MachineConfig): ReturnType<Kvm['cpuidForModel']> {
  const cpu: CpuConfig = config.cpu ?? { model: 'qemu64', features: {} }
  const { model, features } = cpu
  try {
    const hostPhysBits = (): number => physBits(kvm.cpuidForModel('host'))
    return withIdentity(kvm.cpuidForModel(model, features), cpu, hostPhysBits)
  } catch (error) {
    if (!(error instanceof KvmError)) throw error
    throw new VmmError('E_CONFIG', error.message, { fields: { model }, cause: error })
  }
}
