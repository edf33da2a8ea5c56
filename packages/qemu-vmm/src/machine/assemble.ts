import { KvmError, PIT_SPEAKER_DUMMY, open } from 'kvm-core'
import type { GuestRam, Kvm, Vcpu, Vm } from 'kvm-core'

import { VmmError } from '../errors.ts'
import type { MachineConfig } from './config.ts'
import type { MemoryMap } from './memory-map.ts'

/** The virtual hardware below the devices. */
export interface VmHandles {
  kvm: Kvm
  vm: Vm
  ram: GuestRam
  vcpus: Vcpu[]
}

const ENGINES = { auto: 'auto', kvm: 'host', tcg: 'soft' } as const

/** Opens the engine and creates the VM with its RAM, interrupt controllers, timer and one vCPU. */
export function assembleVm(config: MachineConfig, map: MemoryMap): VmHandles {
  const kvm = openEngine(config.accel ?? 'auto')
  let vm: Vm | undefined
  try {
    vm = kvm.createVm()
    vm.createIrqchip()
    // Port 0x61 then answers with the timer's output, which Linux calibrates against.
    vm.createPit2(PIT_SPEAKER_DUMMY)
    const ram = createRam(vm, map)
    const vcpu = vm.createVcpu(0)
    vcpu.setCpuid2(cpuid(kvm, config))
    return { kvm, vm, ram, vcpus: [vcpu] }
  } catch (error) {
    void vm?.close()
    kvm.close()
    throw error
  }
}

function openEngine(accel: 'auto' | 'kvm' | 'tcg'): Kvm {
  try {
    return open({ engine: ENGINES[accel] })
  } catch (error) {
    if (!(error instanceof KvmError) || accel !== 'kvm') throw error
    throw new VmmError(
      'E_NO_HOST_ENGINE',
      `the host's KVM cannot be used (${error.message}); use -accel tcg, the software CPU`,
      { cause: error },
    )
  }
}

function createRam(vm: Vm, map: MemoryMap): GuestRam {
  try {
    const ram = vm.createRam({ size: map.memoryBytes })
    for (const [slot, { gpa, offset, size }] of map.slots.entries()) {
      vm.setUserMemoryRegion({ slot, gpa, size, ram, offset })
    }
    return ram
  } catch (error) {
    if (!(error instanceof KvmError) || error.errno !== 'ENOMEM') throw error
    throw new VmmError(
      'E_MEMORY_SIZE',
      `the host does not give ${map.memoryBytes} bytes for guest memory (${error.message}); ` +
        'ask for less',
      { fields: { memory: map.memoryBytes }, cause: error },
    )
  }
}

function cpuid(kvm: Kvm, config: MachineConfig): ReturnType<Kvm['cpuidForModel']> {
  const { model, features } = config.cpu ?? { model: 'qemu64', features: {} }
  try {
    return kvm.cpuidForModel(model, features)
  } catch (error) {
    if (!(error instanceof KvmError)) throw error
    throw new VmmError('E_CONFIG', error.message, { fields: { model }, cause: error })
  }
}
