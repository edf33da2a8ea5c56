import { rmSync } from 'node:fs'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'

import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const HALTED = 3
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

/** Where the other processors start: page 8. */
const START = 0x8000
/** mov al, 'A'; mov dx, 0x3f8; out dx, al; hlt; jmp to the hlt */
const PRINT_A = [0xb0, 0x41, 0xba, 0xf8, 0x03, 0xee, 0xf4, 0xeb, 0xfd]
/** lidt [0x8020], which is all zeros; int3 */
const TRIPLE_FAULT = [0x0f, 0x01, 0x1e, 0x20, 0x80, 0xcc]

function store(code: GuestCode, address: number, value: number): GuestCode {
  const word = (n: number): number[] => [0, 8, 16, 24].map((shift) => (n >>> shift) & 0xff)
  return code.raw(0xc7, 0x05, ...word(address), ...word(value))
}

/** Prints B, starts the processor with this APIC id on `code`, and halts. */
function starting(apicId: number, code: readonly number[]): GuestCode {
  const guest = new GuestCode().print('B')
  const bytes = Buffer.alloc(Math.ceil(code.length / 4) * 4)
  bytes.set(code)
  for (let at = 0; at < bytes.length; at += 4) store(guest, START + at, bytes.readInt32LE(at))
  // Local APIC on; INIT, then a start-up interrupt for the page, to the id in the high half.
  store(guest, 0xfee0_00f0, 0x1ff)
  for (const command of [0x4500, 0x4600 | (START >> 12)]) {
    store(guest, 0xfee0_0310, apicId << 24)
    store(guest, 0xfee0_0300, command)
  }
  return guest.halt()
}

let serial = 0
function config(code: GuestCode, extra: Partial<MachineConfig> = {}): MachineConfig {
  const kernel = writeImage(folder, `guest-${serial++}`, multiboot(code.bytes()))
  return { memory: 16 * MIB, accel: 'tcg', cpus: 2, kernel, log() {}, ...extra }
}

for (const host of ['inline', 'worker'] as const) {
  test(`${host}: the second processor waits until the first one starts it`, async (t) => {
    await using vm = await VirtualMachine.start(config(new GuestCode().print('B').halt(), { host }))
    await vm.expect('B')
    t.is((await vm.cpus()).length, 2)
    await t.throwsAsync(vm.expect('A', { timeoutMs: 50 }), { code: 'E_TIMEOUT' })
    await using other = await VirtualMachine.start(config(starting(1, PRINT_A), { host }))
    await other.expect('BA')
    const cpus = await other.cpus()
    t.deepEqual(
      cpus.map(({ index }) => index),
      [0, 1],
    )
  })
}

test('APIC ids follow the topology, and the index counts on', async (t) => {
  // Three cores take four ids: the second socket begins at 4.
  const cpus = { sockets: 2, cores: 3 }
  await using vm = await VirtualMachine.start(config(starting(4, PRINT_A), { cpus }))
  await vm.expect('BA')
  t.deepEqual(
    (await vm.cpus()).map(({ index }) => index),
    [0, 1, 2, 3, 4, 5],
  )
})

test('a reset puts the others back to where they wait', async (t) => {
  await using vm = await VirtualMachine.start(config(starting(1, PRINT_A)))
  await vm.expect('BA')
  await vm.pause()
  await vm.reset()
  const state = await vm.saveState()
  t.is(state.vcpus[1]!.mpState, 1, 'uninitialized')
  await vm.resume()
  await vm.expect('BA')
})

test('a triple fault of any processor resets the machine', async (t) => {
  await using vm = await VirtualMachine.start(config(starting(1, TRIPLE_FAULT)))
  let resets = 0
  vm.on('reset', () => resets++)
  await vm.expect('BBB')
  t.true(resets >= 2)
  const once = config(starting(1, TRIPLE_FAULT), { rebootAction: 'shutdown' })
  await using single = await VirtualMachine.start(once)
  t.like(await single.exited, { reason: 'reset', guest: true, code: 0 })
})

test('state of all processors is saved and goes on', async (t) => {
  const made = config(starting(1, PRINT_A))
  await using vm = await VirtualMachine.start(made)
  await vm.expect('BA')
  let state = await vm.saveState()
  while (state.vcpus.some(({ mpState }) => mpState !== HALTED)) state = await vm.saveState()
  await using other = await VirtualMachine.start({ ...made, startPaused: true })
  await other.loadState(structuredClone(state))
  const [before, after] = [await vm.cpus(), await other.cpus()]
  for (const i of [0, 1]) {
    t.deepEqual(after[i]!.regs, before[i]!.regs)
    t.deepEqual(after[i]!.sregs, before[i]!.sregs)
  }
  const one = { ...state, vcpus: state.vcpus.slice(1) }
  await t.throwsAsync(other.loadState(one), { code: 'E_STATE', message: /has 1 vCPUs/ })
})

test('more processors than the host has run all the same', async (t) => {
  await using vm = await VirtualMachine.start(config(starting(15, PRINT_A), { cpus: 16 }))
  await vm.expect('BA')
  await vm.pause()
  await vm.resume()
  t.is((await vm.cpus()).length, 16)
})

test('a number of processors that cannot be is refused before anything is opened', (t) => {
  for (const cpus of [0, -1, 256, 1.5]) {
    t.throws(() => new VirtualMachine(config(new GuestCode().halt(), { cpus })), {
      code: 'E_CPUS',
    })
  }
})
