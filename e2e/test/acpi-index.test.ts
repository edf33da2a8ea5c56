// Linux reads the index that a card was given from ACPI, for a card that was there at the start and one that came later.
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DeviceOption } from 'qemu-vmm'
import { bootTimeoutMs, guestFiles } from '../src/guest.ts'

const { kernel, diskInitrd: initrd } = guestFiles
const timeoutMs = bootTimeoutMs

function rng(id: string, index: string, bus?: string): DeviceOption {
  const properties = { 'acpi-index': index, ...(bus === undefined ? {} : { bus }) }
  return { driver: 'virtio-rng-pci', id, properties }
}

function port(id: string, slot: string): DeviceOption {
  return { driver: 'pcie-root-port', id, properties: { chassis: '1', slot } }
}

const boards = [
  { type: 'pc', plug: [], buses: [undefined, undefined] },
  { type: 'q35', plug: [port('p', '1'), port('p2', '2')], buses: ['p', 'p2'] },
] as const

for (const { type, plug, buses } of boards) {
  test.serial(`a guest sees the indices of its cards on ${type}`, async (t) => {
    await using vm = await VirtualMachine.start({
      memory: 256 << 20,
      kernel,
      initrd,
      append: 'console=ttyS0 quiet',
      machine: { type },
      plug: [...plug, rng('cold', '7', buses[0])],
    })
    await vm.expect(/ # /, { timeoutMs })
    await vm.addDevice(rng('later', '16383', buses[1]))
    const files = '/sys/bus/pci/devices/*/acpi_index'
    vm.type(`until cat ${files} | grep 16383; do sleep 0.1; done; cat ${files}; echo do""ne\n`)
    const seen = (await vm.expect(/\ndone\r?\n/, { timeoutMs })).replaceAll('\r', '')
    t.regex(seen, /\n7\n16383\ndone\n|\n16383\n7\ndone\n/)
  })
}
