// Boots Linux, runs a command in its shell and prints what it says.
//   npx tsx examples/boot-linux.ts [COMMAND]
import { VirtualMachine } from 'qemu-vmm'
import { initrd, kernel } from './guest-files.ts'

const command = process.argv[2] ?? 'uname -a'

const vm = new VirtualMachine({ memory: 512 << 20, kernel, initrd, append: 'console=ttyS0 quiet' })
await vm.start()
await vm.expect(/ # /)
vm.type(`${command}\n`)
const output = await vm.expect(/ # /)
console.log(output)
vm.type('poweroff -f\n')
await vm.exited
