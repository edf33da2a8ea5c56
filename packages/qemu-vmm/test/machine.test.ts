import { rmSync } from 'node:fs'

import test from 'ava'
// The published entry point: its worker module exists only in the built package.
import { SeededEntropy, VirtualMachine, VmmError, debugExit, defineDevice } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'

import type { I8042State } from '../src/chipset/i8042.ts'
import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

let serial = 0
function guest(code: GuestCode, extra: Partial<MachineConfig> = {}): MachineConfig {
  const kernel = writeImage(folder, `guest-${serial++}`, multiboot(code.bytes()))
  return { memory: 16 * MIB, accel: 'tcg', kernel, log: () => {}, ...extra }
}

/** Prints one character per round, forever; each round waits for a port to be read. */
function counter(): GuestCode {
  const code = new GuestCode().raw(0xb3, 0x41)
  const loop = code.here
  // mov al, bl; mov dx, 0x3f8; out; inc bl; and bl, 0x5f; or bl, 0x40
  code.raw(0x88, 0xd8, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xfe, 0xc3, 0x80, 0xe3, 0x5f, 0x80, 0xcb, 0x40)
  return code.jump(loop)
}

/** Sends back what it receives; Q powers off. */
function echo(): GuestCode {
  const code = new GuestCode().print('ready\n')
  const loop = code.here
  code.inb(0x3fd).test(1).jumpIfZero(loop).inb(0x3f8)
  code.raw(0x88, 0xc3, 0x66, 0xba, 0xf8, 0x03, 0xee, 0x88, 0xd8).compare(0x51)
  const jumpAt = code.here
  code.raw(0x0f, 0x85, 0, 0, 0, 0)
  code.powerOff()
  const bytes = code.bytes()
  const distance = loop - (jumpAt + 6)
  new DataView(bytes.buffer).setInt32(jumpAt + 2, distance, true)
  return new GuestCode().raw(...bytes)
}

for (const host of ['inline', 'worker'] as const) {
  test(`${host}: a guest prints and powers off`, async (t) => {
    const config = guest(new GuestCode().print('hello\n').powerOff(), { host })
    await using vm = await VirtualMachine.start(config)
    t.is(await vm.expect('hello\n'), 'hello\n')
    t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0 })
    t.is(vm.status, 'shutdown')
  })

  test(`${host}: expect and type hold a conversation`, async (t) => {
    await using vm = await VirtualMachine.start(guest(echo(), { host }))
    await vm.expect('ready')
    vm.type('first')
    await vm.expect('first')
    const long = 'abcdefghij'.repeat(2000)
    vm.type(`${long}.`)
    t.is((await vm.expect('.')).length, long.length + 1)
    vm.type('Q')
    t.like(await vm.exited, { reason: 'shutdown', guest: true })
  })

  test(`${host}: a device that throws stops the machine with a typed error`, async (t) => {
    const code = new GuestCode().print('before').outb(0x5a0, 1).print('after').halt()
    const devices = [new URL('fixtures/worker-devices.mjs', import.meta.url)]
    await using vm = await VirtualMachine.start(guest(code, { host, devices }))
    const info = await vm.exited
    t.like(info, { reason: 'error', guest: false, code: 1 })
    t.is((info.error as VmmError).code, 'E_DEVICE_FAULT')
    t.regex(info.error!.message, /broken.*offset 0x0.*thrown in a handler/s)
    t.is(vm.status, 'internal-error')
    t.is((await vm.cpus()).length, 1, 'it can still be inspected')
    await t.throwsAsync(vm.resume(), { code: 'E_INVALID_STATE' })
  })
}

test('worker: one that dies stops the machine, not this isolate', async (t) => {
  const devices = [new URL('fixtures/worker-devices.mjs', import.meta.url)]
  for (const [port, reason] of [
    [0x5a1, /threw: thrown later/],
    [0x5a2, /ended with exit code 3/],
  ] as const) {
    const code = new GuestCode().outb(port, 1).print('alive').halt()
    await using vm = new VirtualMachine(guest(code, { host: 'worker', devices }))
    // It may die before the start has been reported.
    await vm.start().catch(() => {})
    const { error, ...info } = await vm.exited
    t.deepEqual(info, { reason: 'error', guest: false, code: 1 })
    t.is((error as VmmError).code, 'E_WORKER_DIED')
    t.regex(error!.message, reason)
    t.is(vm.status, 'internal-error')
    await t.throwsAsync(vm.pause(), { code: 'E_WORKER_DIED' })
  }
})

/** Writes to CMOS how often it has started; dies by `how` until that is `times`. */
function restarting(how: (code: GuestCode) => GuestCode, times: number): GuestCode {
  const code = new GuestCode().outb(0x70, 0x60).inb(0x71)
  // inc al; out 0x71, al; cmp al, times; je over the reset
  code.raw(0xfe, 0xc0, 0xe6, 0x71).compare(times)
  const reset = how(new GuestCode()).halt().bytes()
  code.raw(0x0f, 0x84, reset.length, 0, 0, 0).raw(...reset)
  return code.print('done').powerOff()
}

const RESETS = {
  'reset control': (code: GuestCode) => code.outb(0xcf9, 0x06),
  i8042: (code: GuestCode) => code.outb(0x64, 0xfe),
  'port 92': (code: GuestCode) => code.outb(0x92, 0x01),
  'triple fault': (code: GuestCode) => code.tripleFault(),
}

for (const [name, how] of Object.entries(RESETS)) {
  test(`reset by ${name} starts the guest again`, async (t) => {
    await using vm = await VirtualMachine.start(guest(restarting(how, 3)))
    let resets = 0
    vm.on('reset', () => resets++)
    await vm.expect('done')
    t.like(await vm.exited, { reason: 'shutdown' })
    t.is(resets, 2)
  })

  test(`reset by ${name} ends the machine where reboots are off`, async (t) => {
    const config = guest(restarting(how, 3), { rebootAction: 'shutdown' })
    await using vm = await VirtualMachine.start(config)
    t.like(await vm.exited, { reason: 'reset', guest: true, code: 0 })
  })
}

test('power-off can leave the machine standing for inspection', async (t) => {
  const config = guest(new GuestCode().powerOff(), { shutdownAction: 'pause' })
  await using vm = new VirtualMachine(config)
  const stopped = new Promise<void>((resolve) => {
    vm.on('stop', resolve)
  })
  await vm.start()
  await stopped
  t.is(vm.status, 'shutdown')
  await t.throwsAsync(vm.resume(), { code: 'E_INVALID_STATE' })
  await vm.reset()
  t.is(vm.status, 'paused')
  await vm.quit()
  t.like(await vm.exited, { reason: 'quit', guest: false })
})

test('starts paused, pauses and goes on', async (t) => {
  await using vm = await VirtualMachine.start(guest(echo(), { startPaused: true }))
  t.is(vm.status, 'prelaunch')
  await t.throwsAsync(vm.expect('ready', { timeoutMs: 50 }), { code: 'E_TIMEOUT' })
  await vm.resume()
  await vm.expect('ready')
  await vm.pause()
  t.is(vm.status, 'paused')
  vm.type('abc')
  const error = await t.throwsAsync(vm.expect('abc', { timeoutMs: 50 }), { code: 'E_TIMEOUT' })
  t.regex(error.message, /ready/, 'the screen is shown')
  await vm.resume()
  await vm.expect('abc')
})

test('a saved state goes on in another machine', async (t) => {
  const config = guest(counter(), { entropy: new SeededEntropy(1) })
  await using first = await VirtualMachine.start(config)
  await first.expect('XYZ')
  await first.pause()
  const state = structuredClone(await first.saveState())
  const [before] = await first.cpus()

  await using second = await VirtualMachine.start({ ...config, startPaused: true })
  await second.loadState(state)
  const [after] = await second.cpus()
  t.deepEqual(after!.regs, before!.regs)
  t.deepEqual(after!.sregs, before!.sregs)
  await second.resume()
  // BL holds the character that comes next, or the one before it in the middle of a round.
  const next = Number(after!.regs[1]! & 0xffn)
  const text = await second.expect(/.{64}/s)
  const possible = [next, (next & 0x1f) === 0x1f ? 0x40 : next + 1]
  t.true(possible.includes(text.charCodeAt(0)), `${text[0]} after ${String.fromCharCode(next)}`)
  const other = { ...state, memory: 1 }
  await t.throwsAsync(second.loadState(other), { code: 'E_STATE', message: /memory/ })
})

test('what is typed comes key by key, not more at once than a BIOS keeps', async (t) => {
  await using vm = await VirtualMachine.start(guest(counter(), { startPaused: true }))
  await vm.typeKeys('a line of text that is longer than 15 keys')
  const { keyboard } = (await vm.saveState()).devices['i8042'] as I8042State
  // Time stands: the first key is down, and nothing is behind it.
  t.true(keyboard.queue.length <= 1, keyboard.queue.join())
})

test('a custom device reads, writes, interrupts and reaches memory', async (t) => {
  const written: number[] = []
  const dice = defineDevice({
    name: 'dice',
    pio: { base: 0x5a0, len: 4 },
    irq: 5,
    create: ({ irq, ram }) => {
      let seed = 1
      return {
        read: (offset) => (offset === 0 ? seed : 0),
        write(offset, size, value) {
          written.push(offset, size, value)
          if (offset === 0) seed = value
          // Patches the guest's next instruction away: the write must reach its decoded code.
          ram.view(0x20_0000, 4).setUint32(0, value, true)
          irq.pulse()
        },
        reset() {
          seed = 1
        },
        save: () => ({ seed }),
        load(state: { seed: number }) {
          seed = state.seed
        },
      }
    },
  })
  // out 0x5a0, 'K'; mov al, [0x200000]; print al
  const code = new GuestCode().outb(0x5a0, 0x4b).raw(0xa0, 0, 0, 0x20, 0)
  code.raw(0x66, 0xba, 0xf8, 0x03, 0xee).powerOff()
  await using vm = await VirtualMachine.start(guest(code, { devices: [dice] }))
  await vm.expect('K')
  t.deepEqual(written, [0, 1, 0x4b])
})

test('the debug exit device ends with its status', async (t) => {
  const config = guest(new GuestCode().outb(0x501, 0x10).halt(), { devices: [debugExit()] })
  await using vm = await VirtualMachine.start(config)
  t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0x21 })
})

test('a guest that writes to every port and jumps into nowhere does no harm', async (t) => {
  // mov ecx, 20000; loop: imul ebx, ebx, 1103515245; add ebx, 12345; mov edx, ebx; shr edx, 8;
  // mov eax, ebx; out dx, al; in al, dx; loop; then jump to unclaimed memory
  const code = new GuestCode().raw(0xb9, 0x20, 0x4e, 0, 0, 0xbb, 1, 0, 0, 0)
  const loop = code.here
  code.raw(0x69, 0xdb, 0x6d, 0x4e, 0xc6, 0x41, 0x81, 0xc3, 0x39, 0x30, 0, 0, 0x89, 0xda)
  code.raw(0xc1, 0xea, 0x08, 0x89, 0xd8, 0xee, 0xec, 0xe2, loop - (code.here + 9))
  code.print('survived').raw(0xe9, 0, 0, 0, 0x40)
  const config = guest(code, { rebootAction: 'shutdown', shutdownAction: 'pause' })
  await using vm = await VirtualMachine.start(config)
  const ended = vm.exited
  await Promise.race([vm.expect('survived').catch(() => {}), ended])
  await vm.quit()
  t.true(['quit', 'error'].includes((await ended).reason))
})

test('operations before the start and after the end are refused', async (t) => {
  const vm = new VirtualMachine(guest(new GuestCode().halt()))
  await t.throwsAsync(vm.pause(), { code: 'E_INVALID_STATE', message: /not started/ })
  await vm.start()
  await t.throwsAsync(vm.start(), { code: 'E_INVALID_STATE' })
  await vm.quit()
  await vm.quit()
  await t.throwsAsync(vm.cpus(), { code: 'E_INVALID_STATE', message: /closed/ })
  const error = await t.throwsAsync(vm.expect('never'), { code: 'E_ENDED' })
  t.true(error instanceof VmmError)
})

test('what cannot be opened rejects the start and leaves nothing behind', async (t) => {
  for (const host of ['inline', 'worker'] as const) {
    const missing = { memory: 16 * MIB, kernel: `${folder}/missing`, host }
    await t.throwsAsync(VirtualMachine.start(missing), { code: 'E_FILE', message: /no such file/ })
    const code = new GuestCode().halt()
    const cpu = { model: 'qemu64' as const, features: { avx9: true } }
    await t.throwsAsync(VirtualMachine.start(guest(code, { host, cpu })), {
      code: 'E_CONFIG',
      message: /avx9/,
    })
    const devices = [new URL('fixtures/missing.mjs', import.meta.url)]
    await t.throwsAsync(VirtualMachine.start(guest(code, { host, devices })), {
      code: 'E_CONFIG',
      message: /missing\.mjs/,
    })
  }
})

/** Sends registers of the real-time clock over the serial port. */
function clockReader(registers: readonly number[]): GuestCode {
  const code = new GuestCode()
  for (const register of registers) {
    code.outb(0x70, register).inb(0x71)
    code.raw(0x66, 0xba, 0xf8, 0x03, 0xee)
  }
  return code.print('end').powerOff()
}

test.serial('the real-time clock shows what it is told to at the start', async (t) => {
  const zone = process.env['TZ']
  // Half an hour off, so that the minutes tell as well.
  process.env['TZ'] = 'Asia/Kolkata'
  t.teardown(() => {
    if (zone === undefined) delete process.env['TZ']
    else process.env['TZ'] = zone
  })
  const shown = async (rtcBase: 'utc' | 'localtime' | number): Promise<string> => {
    const machine = { type: 'pc', options: { rtcBase } } as const
    await using vm = await VirtualMachine.start(guest(clockReader([9, 8, 7, 4]), { machine }))
    const text = await vm.expect('end')
    return Buffer.from(text, 'latin1').subarray(0, 4).toString('hex')
  }
  const at = (ms: number): string => new Date(ms).toISOString().replaceAll(/\D/g, '').slice(2, 10)
  t.is(await shown(Date.UTC(2006, 5, 17, 16)), '06061716')
  const before = Date.now()
  const local = await shown('localtime')
  const utc = await shown('utc')
  const after = Date.now()
  const zoneMs = 5.5 * 3_600_000
  t.true([at(before + zoneMs), at(after + zoneMs)].includes(local), local)
  t.true([at(before), at(after)].includes(utc), utc)
  const machine = (rtcBase: never): Partial<MachineConfig> => ({
    machine: { type: 'pc', options: { rtcBase } },
  })
  for (const wrong of ['noon', -1, Infinity]) {
    const config = guest(new GuestCode().halt(), machine(wrong as never))
    t.throws(() => new VirtualMachine(config), { code: 'E_CONFIG', message: /rtcBase is/ })
  }
})
