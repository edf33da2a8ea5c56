// A hostile guest against the whole machine. 100,000 accesses, or 10 million with LONG=1.
import { Buffer } from 'node:buffer'
import { readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { VirtualMachine, VmmError, defineDevice } from 'qemu-vmm'
import type { DeviceOption, NetdevConfig } from 'qemu-vmm'
import { chaosBase, chaosBatch, chaosImage } from '../src/chaos.ts'
import { guestCode, multiboot, printText, withImage } from '../src/image.ts'

const accesses = process.env['LONG'] === '1' ? 10_000_000 : 100_000

const residentKib = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])

function network(id: string): NetdevConfig {
  return { type: 'user', id, restrict: true, dnssearch: [], hostForwards: [], guestForwards: [] }
}

/** What a board has in beside its own: a disk `disk`, a floppy disk `floppy`, networks `n0` to `n3`. */
const plugged: Readonly<Record<'pc' | 'q35', readonly DeviceOption[]>> = {
  pc: [
    { driver: 'virtio-blk-pci', properties: { drive: 'disk' } },
    { driver: 'virtio-serial-pci', properties: {} },
    { driver: 'virtio-rng-pci', properties: {} },
    { driver: 'floppy', properties: { drive: 'floppy' } },
    { driver: 'isa-parallel', properties: { chardev: 'printer' } },
    { driver: 'pvpanic', properties: {} },
  ],
  q35: [
    { driver: 'pcie-root-port', id: 'p1', properties: { chassis: '1', slot: '1', addr: '1' } },
    { driver: 'pcie-root-port', id: 'p2', properties: { chassis: '1', slot: '2', addr: '2' } },
    { driver: 'virtio-net-pci', properties: { netdev: 'n0', bus: 'p1' } },
    { driver: 'VGA', properties: {} },
    { driver: 'e1000', properties: { netdev: 'n1' } },
    { driver: 'rtl8139', properties: { netdev: 'n2' } },
    { driver: 'virtio-balloon-pci', properties: {} },
    { driver: 'pvpanic-pci', properties: {} },
    { driver: 'pci-testdev', properties: {} },
    { driver: 'ich9-ahci', properties: {} },
    { driver: 'ide-hd', properties: { drive: 'disk' } },
    { driver: 'isa-parallel', properties: { chardev: 'printer' } },
    { driver: 'e1000e', properties: { netdev: 'n3' } },
  ],
}

for (const board of ['pc', 'q35'] as const) {
  test.serial(
    `${accesses} random accesses to ports and registers of ${board} do no harm`,
    async (t) => {
      t.timeout(4 * 3_600_000)
      const canaries = Array.from({ length: 32 }, (_, i) => Buffer.alloc(256 << 10, i + 1))
      let seed = 0x1234_5678
      const progress = { accesses: 0 }
      let finish: () => void = () => {}
      const finished = new Promise<void>((resolve) => (finish = resolve))
      const source = defineDevice({
        name: 'source',
        mmio: { base: chaosBase, len: 8 },
        create: () => ({
          read: () => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) | 1,
          write(offset) {
            if (offset === 4 && (progress.accesses += chaosBatch) >= accesses) finish()
          },
          reset() {},
          save: () => ({}),
          load() {},
        }),
      })
      await withImage(chaosImage(board), async (kernel) => {
        const disk = `${kernel}.disk`
        writeFileSync(disk, new Uint8Array(1 << 20))
        const floppy = `${kernel}.floppy`
        writeFileSync(floppy, new Uint8Array(1440 << 10))
        const vm = new VirtualMachine({
          memory: 16 << 20,
          kernel,
          machine: { type: board },
          devices: [source],
          drives: [
            { id: 'disk', file: disk, format: 'raw' },
            { id: 'floppy', file: floppy, format: 'raw' },
          ],
          netdevs: ['n0', 'n1', 'n2', 'n3'].map((id) => network(id)),
          // A parallel port needs a printer.
          chardevs: { printer: { write: () => true, close() {} } },
          panicAction: 'none',
          plug: plugged[board],
          shutdownAction: 'pause',
          log: () => {},
        })
        let resets = 0
        let broken = 0
        let changes = 0
        vm.on('reset', () => resets++)
        await vm.start()
        const before = residentKib()
        const { exited } = vm
        // The guest powers the machine off, breaks its CPU, or sends it an INIT from which nothing wakes it.
        for (let seen = -1; progress.accesses < accesses;) {
          const pause = new Promise((resolve) => setTimeout(resolve, 250))
          await Promise.race([pause, finished])
          if (vm.status === 'internal-error') {
            const { error } = await exited
            if (!(error instanceof VmmError && error.code === 'E_CPU_FAILED')) throw error
            broken++
          }
          if (vm.status !== 'running' || seen === progress.accesses) {
            await vm.reset()
            if (vm.status !== 'running') await vm.resume()
          }
          seen = progress.accesses
          changes += await comeOrGo(vm, board === 'q35' ? { bus: 'p2' } : {})
        }
        t.log(
          `${progress.accesses} accesses, ${resets} resets, CPU broken ${broken} times, ` +
            `${changes} devices came or were to go, ${residentKib() - before} KiB more`,
        )
        t.true(residentKib() - before < 256 << 10)
        t.is((await vm.cpus()).length, 1, 'the machine answers')
        await vm.quit()
      })
      for (const [i, canary] of canaries.entries()) {
        t.true(canary.every((byte) => byte === i + 1))
      }
    },
  )
}

/** Plugs a device in, or asks for it if it is there; returns how often the machine took that, 0 or 1. */
async function comeOrGo(vm: VirtualMachine, properties: Record<string, string>): Promise<number> {
  try {
    const there = await vm.devices()
    if (there.some(({ id }) => id === 'guest')) await vm.removeDevice('guest')
    else await vm.addDevice({ driver: 'virtio-rng-pci', id: 'guest', properties })
    return 1
  } catch (error) {
    if (error instanceof VmmError && error.code !== 'E_INTERNAL') return 0
    throw error
  }
}

/** Runs a guest that cannot go on, and says how that ended. */
async function ending(code: Uint8Array): Promise<string> {
  return await withImage(multiboot(code), async (kernel) => {
    const config = { memory: 16 << 20, kernel, rebootAction: 'shutdown', log: () => {} } as const
    await using vm = new VirtualMachine(config)
    await vm.start()
    const info = await vm.exited
    if (info.error === undefined) return info.reason
    return info.error instanceof VmmError ? info.error.code : String(info.error)
  })
}

test.serial(
  'a guest that jumps out of memory triple-faults or stops with a typed error',
  async (t) => {
    const targets = [0xa_0000, 0x100_0000, 0xd000_0000, 0xfec0_0000, 0xfee0_0000, 0xffff_fff0]
    for (const target of targets) {
      const code = guestCode().db(0xb8).value(target, 4).db(0xff, 0xe0) // mov eax, target; jmp eax
      const how = await ending(code.build())
      t.true(['reset', 'E_CPU_FAILED'].includes(how), `0x${target.toString(16)}: ${how}`)
    }
  },
)

test.serial('a guest without a stack, or with tables in a hole, triple-faults', async (t) => {
  const paging = (): ReturnType<typeof guestCode> =>
    guestCode()
      // A page directory at 2 MiB whose first entry maps 4 MiB, and nothing else.
      .db(0xc7, 0x05)
      .value(0x20_0000, 4)
      .value(0x83, 4)
      .db(0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x10, 0x0f, 0x22, 0xe0) // CR4.PSE
      .db(0xb8)
      .value(0x20_0000, 4)
      .db(0x0f, 0x22, 0xd8) // mov cr3, eax
  const on = [0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0] // CR0.PG
  const unmapped = paging()
    .db(...on)
    .db(0xbc)
    .value(0x8000_0000, 4)
    .pushReg(0)
  t.is(await ending(unmapped.hlt().build()), 'reset')
  const noTables = guestCode()
    .db(0xb8)
    .value(0xfee0_0000, 4)
    .db(0x0f, 0x22, 0xd8)
    .db(...on)
    .hlt()
  t.true(['reset', 'E_CPU_FAILED'].includes(await ending(noTables.build())))
  const noIdt = guestCode().db(0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b)
  t.is(await ending(noIdt.build()), 'reset')
  const stackInRegisters = guestCode().db(0xbc).value(0xfee0_0400, 4).int(3)
  t.true(['reset', 'E_CPU_FAILED'].includes(await ending(stackInRegisters.hlt().build())))
})

test.serial('a triple fault starts a guest again where reboots are allowed', async (t) => {
  const code = guestCode()
  printText(code, 'again ')
  code.db(0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b)
  await withImage(multiboot(code.build()), async (kernel) => {
    await using vm = new VirtualMachine({ memory: 16 << 20, kernel })
    await vm.start()
    for (let i = 0; i < 5; i++) await vm.expect('again ')
    t.is(vm.status, 'running')
  })
})
