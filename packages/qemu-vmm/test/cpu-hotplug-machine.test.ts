// Processors that come and go in a whole machine: before it runs, while it runs, and in saved states.
import { rmSync } from 'node:fs'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DeletedDevice, DeviceOption, MachineConfig } from 'qemu-vmm'

import { monitorOf } from './fixtures/fake-machine.ts'
import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

/** Where another processor starts: page 8. */
const START = 0x8000
/** mov al, 'A'; mov dx, 0x3f8; out dx, al; hlt; jmp to the hlt */
const PRINT_A = [0xb0, 0x41, 0xba, 0xf8, 0x03, 0xee, 0xf4, 0xeb, 0xfd]
const little = (n: number): number[] => [0, 8, 16, 24].map((shift) => (n >>> shift) & 0xff)

/** mov dword [address], value */
function store(code: GuestCode, address: number, value: number): GuestCode {
  return code.raw(0xc7, 0x05, ...little(address), ...little(value))
}

/** Puts the program of another processor in its place, and sends it INIT and a start-up interrupt. */
function startOther(guest: GuestCode, id: number): GuestCode {
  const bytes = Buffer.alloc(12)
  bytes.set(PRINT_A)
  for (let at = 0; at < bytes.length; at += 4) store(guest, START + at, bytes.readInt32LE(at))
  store(guest, 0xfee0_00f0, 0x1ff)
  for (const command of [0x4500, 0x4600 | (START >> 12)]) {
    store(guest, 0xfee0_0310, id << 24)
    store(guest, 0xfee0_0300, command)
  }
  return guest
}

let serial = 0
function config(code: GuestCode, extra: Partial<MachineConfig> = {}): MachineConfig {
  const kernel = writeImage(folder, `guest-${serial++}`, multiboot(code.bytes()))
  const cpus = { cpus: 1, maxcpus: 3 }
  return { memory: 16 * MIB, accel: 'tcg', cpus, kernel, log() {}, ...extra }
}

function processor(core: number, id?: string): DeviceOption {
  const properties = { 'socket-id': '0', 'core-id': String(core), 'thread-id': '0' }
  return { driver: 'qemu64-x86_64-cpu', properties, ...(id === undefined ? {} : { id }) }
}

test('a processor that is plugged in starts, is saved, and survives a reset', async (t) => {
  const guest = config(startOther(new GuestCode().print('B'), 2).halt())
  await using vm = new VirtualMachine({ ...guest, startPaused: true })
  await vm.start()
  await vm.addDevice(processor(2, 'c2'))
  await vm.resume()
  await vm.expect('BA')
  t.deepEqual(
    (await vm.cpus()).map(({ index }) => index),
    [0, 2],
  )
  t.deepEqual(await vm.devices(), [processor(2, 'c2')])
  const state = structuredClone(await vm.saveState())
  t.deepEqual(state.processors, [
    { index: 0, isPlugged: false },
    { index: 2, isPlugged: true, id: 'c2' },
  ])
  await vm.reset()
  await vm.expect('BA')

  // Into a machine that begins without it, and one that has another.
  for (const plug of [[], [processor(1, 'c1')]]) {
    await using other = new VirtualMachine({ ...guest, plug, startPaused: true })
    await other.start()
    await other.loadState(state)
    t.deepEqual(await other.devices(), [processor(2, 'c2')])
    const again = await other.saveState()
    t.deepEqual(again.processors, state.processors)
    t.deepEqual(again.vcpus[1]!.regs, state.vcpus[1]!.regs)
    await other.resume()
    await other.reset()
    await other.expect('BA')
  }
})

test('a state with processors that cannot be here is refused, and nothing has changed', async (t) => {
  const guest = config(new GuestCode().print('B').halt())
  await using vm = await VirtualMachine.start(guest)
  await vm.expect('B')
  const state = await vm.saveState()
  const [first] = state.vcpus
  const at = (index: unknown): never => ({ index, isPlugged: true }) as never
  for (const [processors, message] of [
    [undefined, /1 vCPUs; it says of undefined processors/],
    [[], /1 vCPUs; it says of 0/],
    [[at(0), at(3)], /the place 3; this machine has the places 0 to 2/],
    [[at(0), at(0.5)], /the place 0.5/],
    [[at(1), at(2)], /no first processor/],
    [[at(0), at(0)], /out of order/],
    [[at(0), null], /without a place/],
    [[at(0), { index: 1, isPlugged: true, id: '../x' }], /the id '..\/x'/],
  ] as const) {
    const vcpus = [first, first].slice(0, Math.max(1, processors?.length ?? 0))
    const bad = { ...state, vcpus, processors } as unknown as typeof state
    await t.throwsAsync(vm.loadState(bad), { code: 'E_STATE', message })
  }
  t.is((await vm.cpus()).length, 1)
})

for (const host of ['inline', 'worker'] as const) {
  test(`${host}: a guest that is asked lets go of a processor, and gets it again`, async (t) => {
    // It prints, ejects, and waits for the reset that starts it anew.
    const code = startOther(new GuestCode().print('B'), 1)
    code.outl(0xaf00, 0).outl(0xaf00, 1).outb(0xaf04, 8).print('E').halt()
    await using vm = await VirtualMachine.start({ ...config(code), host })
    await vm.expect('BE')
    const deleted: DeletedDevice[] = []
    vm.on('device-deleted', (device) => deleted.push(device))
    for (let round = 0; round < 2; round++) {
      await vm.addDevice(processor(1, 'c1'))
      t.is((await vm.cpus()).length, 2)
      await t.throwsAsync(vm.addDevice(processor(1)), { message: 'CPU[1] with APIC ID 1 exists' })
      await vm.reset()
      await vm.expect('E')
      while (deleted.length <= round) await new Promise((resolve) => setTimeout(resolve, 1))
      t.deepEqual(deleted[round], { id: 'c1', path: '/machine/peripheral/c1' })
      t.is((await vm.cpus()).length, 1)
      t.deepEqual(await vm.devices(), [])
    }
  })
}

test('what cannot be plugged in, or taken out, is refused', async (t) => {
  await using vm = await VirtualMachine.start(
    config(new GuestCode().print('B').halt(), { plug: [processor(2, 'c2')] }),
  )
  await vm.expect('B')
  for (const [option, message] of [
    [
      { ...processor(1), driver: 'max-x86_64-cpu' },
      /Invalid CPU type, expected cpu type: 'qemu64-x86_64-cpu'/,
    ],
    [processor(1, 'c2'), /Duplicate device ID 'c2'/],
    [processor(2), /CPU\[2\] with APIC ID 2 exists/],
    [processor(3), /Invalid CPU core-id: 3 must be in range 0:2/],
    [{ ...processor(1), properties: {} }, /CPU socket-id is not set/],
    [
      { ...processor(1), properties: { 'socket-id': 'x' } },
      /'socket-id' expects a number, not 'x'/,
    ],
    [
      { ...processor(1), properties: { bus: 'pci.0' } },
      /Property 'qemu64-x86_64-cpu.bus' not found/,
    ],
    [{ driver: 'virtio-rng-pci', id: 'c2', properties: {} }, /Duplicate device ID 'c2'/],
  ] as const) {
    await t.throwsAsync(vm.addDevice(option), { code: 'E_DEVICE_OPTION', message })
  }
  await t.throwsAsync(vm.removeDevice('/machine/unattached/device[0]'), {
    message: 'Boot CPU is unpluggable',
  })
  await t.throwsAsync(vm.removeDevice('c2'), { message: /unplug request for not supported device/ })
  await t.throwsAsync(vm.removeDevice('c1'), { code: 'E_DEVICE_NOT_FOUND' })
  t.deepEqual(await vm.devices(), [processor(2, 'c2')])
  const shown = await monitorOf(vm)('info hotpluggable-cpus')
  t.regex(
    shown,
    /^Hotpluggable CPUs:\n {2}type: "qemu64-x86_64-cpu"\n {2}vcpus_count: "1"\n {2}qom_path: "\/machine\/peripheral\/c2"\n {2}CPUInstance Properties:\n {4}socket-id: "0"\n {4}core-id: "2"\n {4}thread-id: "0"\n/,
  )
  t.is(shown.split('qom_path').length, 3, 'two places of three are filled')
})
