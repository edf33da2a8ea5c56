import type { ExecutionContext } from 'ava'

import { type Kvm, type Vcpu, type Vm, open } from '../src/index.ts'
import { Assembler, enterProtected, enterReal } from '../src/testing/index.ts'

export const CODE = 0x6000
export const RAM_BYTES = 0x10_0000

export interface Guest {
  readonly vm: Vm
  readonly vcpu: Vcpu
  readonly run: DataView
}

export const kvm: Kvm = open({ engine: 'soft' })

/** One vCPU with 1 MiB of RAM that is about to execute `code`. Closed with the test. */
export function guest(
  t: ExecutionContext,
  bits: 16 | 32,
  code: (asm: Assembler) => Assembler,
  opts: { irqchip?: boolean } = {},
): Guest {
  const vm = kvm.createVm()
  t.teardown(() => vm.close())
  if (opts.irqchip === true) vm.createIrqchip()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: RAM_BYTES, ram })
  vm.memory.write(CODE, code(new Assembler(bits, CODE)).build())
  const vcpu = vm.createVcpu(0)
  if (bits === 16) enterReal(vcpu, CODE)
  else enterProtected(vm, vcpu, CODE)
  return { vm, vcpu, run: new DataView(vcpu.run) }
}

/** Waits for `is`, at most five seconds. */
export async function eventually(what: string, is: () => boolean): Promise<void> {
  const end = Date.now() + 5000
  while (!is()) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
