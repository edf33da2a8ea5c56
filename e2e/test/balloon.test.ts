// Linux gives memory back to the host by its balloon, takes it again, and tells of its memory.
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import { withFolder } from '../src/disk.ts'
import { bootTimeoutMs as timeoutMs, guestFiles } from '../src/guest.ts'
import { initrdWithModules } from '../src/modules.ts'

const MIB = 1 << 20
/** In the order in which they need each other. */
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_balloon',
]
const PATH = '/machine/peripheral/balloon'

const FILL = 'dd if=/dev/zero of=/mnt/x bs=1M count=100; rm /mnt/x'

/** Runs a line in the guest's shell; resolves to what it printed. */
async function shell(vm: VirtualMachine, line: string): Promise<string> {
  vm.type(`${line}; printf '\\n%s\\n' do""ne\n`)
  return await vm.expect(/\ndone\r?\n[^]*# /, { timeoutMs })
}

test('memory comes and goes with the balloon, and the host has it meanwhile', async (t) => {
  await withFolder(async (folder) => {
    const initrd = join(folder, 'initrd')
    initrdWithModules(
      initrd,
      MODULES.map((name) => `virtio/${name}`),
    )
    await using vm = await VirtualMachine.start({
      memory: 256 * MIB,
      kernel: guestFiles.kernel,
      initrd,
      append: 'console=ttyS0 quiet',
      plug: [{ driver: 'virtio-balloon-pci', id: 'balloon', properties: {} }],
    })
    const actuals: number[] = []
    vm.on('balloon-change', ({ actual }) => actuals.push(actual))
    await vm.expect('# ', { timeoutMs })
    // What was used once is the host's no more until it is given back.
    await shell(vm, 'mkdir -p /mnt; mount -t tmpfs none /mnt')
    t.regex(await shell(vm, FILL), /100\+0 records out/)
    const insert = MODULES.map((name) => `insmod /${name}.ko`).join('; ')
    t.notRegex(await shell(vm, insert), /can't insert/)
    const settled = async (bytes: number): Promise<void> => {
      await vm.setBalloon(bytes)
      for (let i = 0; i < 300 && (await vm.balloon()) !== bytes; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      t.is(await vm.balloon(), bytes)
    }
    const before = (await vm.stats())['residentBytes'] ?? 0
    await settled(128 * MIB)
    const after = (await vm.stats())['residentBytes'] ?? 0
    t.true(before - after > 64 * MIB, `${before} bytes were resident, now ${after}`)
    t.is(actuals.at(-1), 128 * MIB)
    const [, total = ''] = /Mem:\s+(\d+)/.exec(await shell(vm, 'free -m')) ?? []
    t.true(Number(total) > 0 && Number(total) < 128, total)
    await vm.manage('setProperty', PATH, 'guest-stats-polling-interval', 1)
    let free: unknown
    for (let i = 0; i < 100 && free === undefined; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      const found = (await vm.manage('properties', PATH))?.find(
        ({ name }) => name === 'guest-stats',
      )
      const told = found?.value as { stats: Record<string, bigint>; 'last-update': number }
      if (told['last-update'] > 0) free = told.stats['stat-free-memory']
    }
    t.true(typeof free === 'bigint' && free > 0n && free < 128n << 20n, String(free))
    await settled(256 * MIB)
    t.regex(await shell(vm, FILL), /100\+0 records out/)
  })
})
