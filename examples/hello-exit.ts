// The smallest virtual machine: 14 bytes of guest code that print a string through a port, on kvm-core alone.
//   npx tsx examples/hello-exit.ts
import { ExitReason, KVM_RUN, open } from 'kvm-core'

const code = [
  [0xbe, 0x20, 0x10], //    mov si, 0x1020
  [0xfc], //                cld
  [0xac], //          next: lodsb
  [0x84, 0xc0], //          test al, al
  [0x74, 0x04], //          jz done
  [0xe6, 0xe9], //          out 0xe9, al
  [0xeb, 0xf7], //          jmp next
  [0xf4], //          done: hlt
].flat()

const kvm = open({ engine: 'soft' })
const vm = kvm.createVm()
const ram = vm.createRam({ size: 0x1000 })
vm.setUserMemoryRegion({ slot: 0, gpa: 0x1000, size: ram.size, ram })
vm.memory.write(0x1000, Uint8Array.from(code))
vm.memory.write(0x1020, new TextEncoder().encode('Hello from ring 0\n\0'))

const vcpu = vm.createVcpu(0)
const sregs = vcpu.getSregs()
// The code segment is the first member of kvm_sregs: its base at 0, its selector at 12.
sregs.fill(0, 0, 8)
sregs.fill(0, 12, 14)
vcpu.setSregs(sregs)
const regs = vcpu.getRegs()
regs[16] = 0x1000n // rip
vcpu.setRegs(regs)

const run = new DataView(vcpu.run)
for (;;) {
  const reason = vcpu.runSync()
  if (reason === ExitReason.Hlt) break
  if (reason !== ExitReason.Io) throw new Error(`unexpected exit ${reason}`)
  const data = Number(run.getBigUint64(KVM_RUN.ioDataOffset, true))
  process.stdout.write(String.fromCharCode(run.getUint8(data)))
}
await vm.close()
kvm.close()
