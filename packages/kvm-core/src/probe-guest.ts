/** The child process of `host-probe.ts`: a guest that shows that it is in 64-bit mode. */

import { ExitReason, KVM_RUN } from './generated/abi.ts'
import { open } from './kvm.ts'
import { enterLong } from './testing/modes.ts'

const CODE_AT = 0x6000
const RAM_BYTES = 2 << 20
const PORT = 0x10
const LIMIT_MS = 5000
// In 32-bit mode the same bytes are a shorter constant and other instructions.
const CODE = [
  [0x48, 0xb8, 0, 0, 0, 0, 0x5a, 0, 0, 0], // mov rax, 0x5a00000000
  [0x48, 0xc1, 0xe8, 0x20], // shr rax, 32
  [0xe6, PORT], // out PORT, al
  [0xf4], // hlt
].flat()

async function main(device: string | undefined): Promise<string> {
  using kvm = open({ engine: 'host', ...(device === undefined ? {} : { device }) })
  const vm = kvm.createVm()
  vm.createIrqchip()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: RAM_BYTES, ram })
  vm.memory.write(CODE_AT, Uint8Array.from(CODE))
  const vcpu = vm.createVcpu(0)
  vcpu.setCpuid2(kvm.cpuidForModel('qemu64'))
  enterLong(vm, vcpu, CODE_AT)
  const why = vcpu.runSync({ timeoutMs: LIMIT_MS })
  const run = new DataView(vcpu.run)
  const at = Number(run.getBigUint64(KVM_RUN.ioDataOffset, true))
  const right =
    why === ExitReason.Io &&
    run.getUint16(KVM_RUN.ioPort, true) === PORT &&
    run.getUint8(at) === 0x5a
  await vm.close()
  return right ? 'ok' : `exit ${why} instead of a write of 0x5a to port ${PORT}`
}

main(process.argv[2]).then(
  (line) => console.log(line),
  (error: unknown) => {
    console.log(error instanceof Error ? error.message : String(error))
    process.exitCode = 1
  },
)
