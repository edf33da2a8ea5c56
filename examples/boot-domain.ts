// Boots Linux from libvirt's domain XML in this process, changes the machine, and writes the XML that says so.
//   npx tsx examples/boot-domain.ts
import { formatDomain, fromMachine, toMachine } from 'libvirt-lite'
import { VirtualMachine } from 'qemu-vmm'
import { readCommandLine } from 'qemu-vmm/command-line'
import { initrd, kernel } from './guest-files.ts'

const xml = `<domain type='qemu'>
  <name>demo</name>
  <title>What no machine needs stays</title>
  <memory unit='MiB'>128</memory>
  <os>
    <type machine='q35'>hvm</type>
    <kernel>${kernel}</kernel>
    <initrd>${initrd}</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <devices><serial type='pty'/></devices>
</domain>`

const machine = toMachine(xml, readCommandLine)
machine.options.memory = 256 << 20
const changed = fromMachine(machine, readCommandLine)
console.log(formatDomain(changed))

const { options } = toMachine(changed, readCommandLine)
const vm = await VirtualMachine.start(options)
await vm.expect(/ # /)
vm.type('grep MemTotal /proc/meminfo\n')
console.log(await vm.expect(/ # /))
vm.type('poweroff -f\n')
await vm.exited
