// Loads a machine's state from a file into a new machine of this process, and lets it go on to its shell.
//   tsx resume.ts FILE AT_SHELL EARLIEST
import { readFileSync } from 'node:fs'
import { deserialize } from 'node:v8'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineState } from 'qemu-vmm'
import { guestFiles } from '../guest.ts'
import { checkResumed, savedMachine } from '../resumed.ts'

const [file = '', atShell = '', earliest = '0'] = process.argv.slice(2)
const state = deserialize(readFileSync(file)) as MachineState
const { kernel, initrd } = guestFiles
const vm = new VirtualMachine({ ...savedMachine, kernel, initrd, startPaused: true })
await vm.start()
await vm.loadState(state)
await vm.resume()
const wrong = await checkResumed(vm, atShell === 'true', Number(earliest))
console.log(wrong ?? 'went on to the shell')
process.exitCode = wrong === undefined ? 0 : 1
