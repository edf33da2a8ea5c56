// A program whose own code fails while its machine runs.
//   tsx throws.ts inline|worker
import { VirtualMachine } from 'qemu-vmm'
import { guestFiles } from '../guest.ts'

const host = process.argv[2] === 'worker' ? 'worker' : 'inline'
const { kernel, initrd } = guestFiles
const vm = new VirtualMachine({ memory: 96 << 20, kernel, initrd, append: 'console=ttyS0', host })
await vm.start()
await vm.expect('Linux version', { timeoutMs: 300_000 })
setTimeout(() => {
  throw new RangeError('a fault of the program')
}, 10)
await vm.exited
