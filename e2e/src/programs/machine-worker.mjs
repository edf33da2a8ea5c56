// A machine that lives in a worker of the user's; its owner ends the worker while the guest runs.
import { parentPort, workerData } from 'node:worker_threads'
import { VirtualMachine } from 'qemu-vmm'

const vm = new VirtualMachine({ memory: 96 << 20, append: 'console=ttyS0', ...workerData })
await vm.start()
await vm.expect('Linux version', { timeoutMs: 300_000 })
parentPort.postMessage('running')
await vm.exited
