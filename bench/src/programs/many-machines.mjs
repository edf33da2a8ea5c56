// Boots machines one after the other in this process. Says "ready N" when N of them are at their shell, and waits for a
// line on standard input before it goes on. Plain JavaScript, so that no compiler is in the memory that is measured.
import { createInterface } from 'node:readline'
import { VirtualMachine } from 'qemu-vmm'

const [count = '1', memoryMib = '256', kernel = '', initrd = ''] = process.argv.slice(2)
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const machines = []
for (let number = 1; number <= Number(count); number++) {
  const memory = Number(memoryMib) << 20
  const vm = new VirtualMachine({
    memory,
    kernel,
    initrd,
    accel: 'tcg',
    append: 'console=ttyS0 quiet',
  })
  machines.push(vm)
  await vm.start()
  await vm.expect(/ # /, { timeoutMs: 300_000 })
  process.stdout.write(`ready ${number}\n`)
  await answers.next()
}
process.exit()
