// A device of one's own: dice, at a memory address that Linux leaves alone. The guest rolls them with busybox devmem.
//   npx tsx examples/custom-device.ts
import { VirtualMachine, defineDevice } from 'qemu-vmm'
import { initrd, kernel } from './guest-files.ts'

const base = 0xd000_0000

/** Offset 0: read rolls, write seeds. Offset 4: how often it rolled. */
export const dice = defineDevice({
  name: 'dice',
  mmio: { base, len: 8 },
  create() {
    let state = { seed: 1, rolls: 0 }
    return {
      read(offset) {
        if (offset === 4) return state.rolls
        state.rolls++
        state.seed = (state.seed * 48271) % 0x7fff_ffff
        return (state.seed % 6) + 1
      },
      write(offset, _size, value) {
        if (offset === 0) state.seed = (value % 0x7fff_fffe) + 1
      },
      reset: () => void (state = { seed: 1, rolls: 0 }),
      save: () => ({ ...state }),
      load: (saved) => void (state = { ...saved }),
    }
  },
})

const vm = new VirtualMachine({
  memory: 512 << 20,
  kernel,
  initrd,
  append: 'console=ttyS0 quiet',
  devices: [dice],
})
await vm.start()
await vm.expect(/ # /)
vm.type(`for i in 1 2 3; do devmem ${base}; done; devmem ${base + 4}\n`)
console.log(await vm.expect(/ # /))
vm.type('poweroff -f\n')
await vm.exited
