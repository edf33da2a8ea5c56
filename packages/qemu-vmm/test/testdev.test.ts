import { rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'

import { FW_CFG_ITEM, FwCfg } from '../src/chipset/fw-cfg.ts'
import { PcTestDev } from '../src/chipset/pc-testdev.ts'
import { PciTestDev } from '../src/chipset/pci/testdev.ts'
import type { GuestMemory } from '../src/device.ts'
import { Bus } from '../src/machine/bus.ts'
import { FakeIrq } from './support/fakes.ts'
import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

/** A few kilobytes of RAM from address 0 up. */
function ram(): { memory: GuestMemory; bytes: Uint8Array } {
  const bytes = new Uint8Array(4096)
  const view = (gpa: number, length: number): DataView => new DataView(bytes.buffer, gpa, length)
  return {
    bytes,
    memory: {
      view,
      read(gpa, target) {
        view(gpa, target.length)
        target.set(bytes.subarray(gpa, gpa + target.length))
      },
      write(gpa, source) {
        view(gpa, source.length)
        bytes.set(source, gpa)
      },
    },
  }
}

test('pc-testdev: a register in parts, lines, memory', (t) => {
  const bus = new Bus()
  const lines = Array.from({ length: 16 }, () => new FakeIrq())
  const device = new PcTestDev(bus, lines)
  bus.pio.write(0xe0, 4, 0x1122_3344)
  bus.pio.write(0xe1, 1, 0xaa)
  t.is(bus.pio.read(0xe0, 4), 0x1122_aa44)
  t.is(bus.pio.read(0xe2, 2), 0x1122)
  t.is(bus.pio.read(0xe8, 4), 0x1122_aa44)
  bus.pio.write(0xe4, 4, 0xffff_ffff)
  bus.pio.write(0x2005, 1, 1)
  bus.pio.write(0x200f, 1, 7)
  bus.pio.write(0x2017, 1, 1)
  t.deepEqual([lines[5]!.level, lines[15]!.level], [true, true])
  // A wide access sets one line and clears those behind it.
  bus.pio.write(0x200d, 4, 1)
  t.deepEqual([lines[13]!.level, lines[15]!.level], [true, false])
  bus.mmio.write(0xff00_fffe, 4, 0x0102_0304)
  t.is(bus.mmio.read(0xff00_fffe, 2), 0x0304)
  t.is(bus.mmio.read(0xff00_ffff, 1), 0x03)
  const saved = device.save()
  device.reset()
  t.deepEqual(
    [bus.pio.read(0xe0, 4), bus.mmio.read(0xff00_ffff, 1), lines[5]!.level],
    [0, 0, false],
  )
  device.load(saved)
  t.deepEqual(device.save(), saved)
  t.true(lines[5]!.level)
  t.throws(() => device.load({ ...saved, memory: new Uint8Array(3) }), { code: 'E_STATE' })
})

test('pci-testdev: counts the writes of the selected test', (t) => {
  const bus = new Bus()
  const device = new PciTestDev('test', bus)
  device.fn.configWrite(0x10, 4, 0xe000_0000)
  device.fn.configWrite(0x14, 4, 0xc000)
  device.fn.configWrite(4, 2, 3)
  t.is(device.fn.configRead(0, 4), 0x0005_1b36)
  t.is(bus.mmio.read(0xe000_0000, 4), 0, 'none is selected')
  const read32 = (at: number): number =>
    [0, 1, 2, 3].reduce((value, i) => value + bus.mmio.read(at + i, 1) * 2 ** (8 * i), 0)
  bus.mmio.write(0xe000_0000, 1, 0)
  const offset = read32(0xe000_0004)
  const name = Array.from({ length: 15 }, (_, i) => bus.mmio.read(0xe000_0010 + i, 1))
  t.is(String.fromCharCode(...name), 'mmio-no-eventfd')
  const data = bus.mmio.read(0xe000_0008, 1)
  bus.mmio.write(0xe000_0000 + offset, 1, data)
  bus.mmio.write(0xe000_0000 + offset, 1, data)
  bus.mmio.write(0xe000_0000 + offset, 1, data ^ 1)
  bus.mmio.write(0xe000_0000 + offset + 1, 1, data)
  t.is(read32(0xe000_000c), 2)
  const saved = device.save()
  bus.pio.write(0xc000, 1, 1)
  t.is(bus.pio.read(0xc000, 1), 4)
  t.is(read32(0xe000_000c), 0)
  // An event takes the write.
  bus.pio.write(0xc000 + bus.pio.read(0xc004, 1), 1, bus.pio.read(0xc008, 1))
  t.is(bus.pio.read(0xc00c, 1), 0)
  device.load(saved)
  t.is(read32(0xe000_000c), 2)
  bus.mmio.write(0xe000_0000, 1, 99)
  t.is(device.save().current, -1)
  t.throws(() => device.load({ current: 6, count: 0 }), { code: 'E_STATE' })
})

test('fw_cfg: live files are built once, when the first is asked for, until the next reset', (t) => {
  const { memory } = ram()
  let builds = 0
  const create = (): FwCfg =>
    new FwCfg(
      memory,
      new Map(),
      [
        { name: 'opt/live', data: new Uint8Array(2) },
        { name: 'opt/still', data: Uint8Array.of(7) },
      ],
      {
        names: ['opt/live'],
        build: () => [{ name: 'opt/live', data: Uint8Array.of(++builds, 0xaa) }],
      },
    )
  const device = create()
  const take = (from: FwCfg, key: number): number[] => {
    from.write(0, 2, key)
    return [from.read(1, 1), from.read(1, 1)]
  }
  t.deepEqual(take(device, 0x21), [7, 0])
  t.is(builds, 0)
  t.deepEqual(take(device, 0x20), [1, 0xaa])
  t.deepEqual(take(device, 0x20), [1, 0xaa])
  const other = create()
  other.load(structuredClone(device.save()))
  t.deepEqual(take(other, 0x20), [1, 0xaa], 'what was built is part of the state')
  device.reset()
  t.deepEqual(take(device, 0x20), [2, 0xaa])
})

test('fw_cfg: by port, by DMA, and a guest that asks for nonsense', (t) => {
  const { memory, bytes } = ram()
  const file = { name: 'opt/a', data: Uint8Array.of(1, 2, 3) }
  const items = new Map([[FW_CFG_ITEM.cpus as number, Uint8Array.of(4, 0)]])
  const device = new FwCfg(memory, items, [{ name: 'opt/b', data: Uint8Array.of(9) }, file])
  const take = (key: number, count: number): number[] => {
    device.write(0, 2, key)
    return Array.from({ length: count }, () => device.read(1, 1))
  }
  t.is(String.fromCharCode(...take(0, 4)), 'QEMU')
  t.deepEqual(take(1, 5), [3, 0, 0, 0, 0])
  t.deepEqual(take(FW_CFG_ITEM.cpus, 3), [4, 0, 0])
  t.deepEqual(take(0x19, 12), [0, 0, 0, 2, 0, 0, 0, 3, 0, 0x20, 0, 0])
  t.deepEqual(take(0x20, 4), [1, 2, 3, 0])
  for (const key of [0x40, 0x3fff, 0xffff, 0x8000]) t.deepEqual(take(key, 1), [0])
  t.is(device.read(4, 4), 0x554d_4551)
  // Select 0x20 and read five bytes to 0x100.
  const dma = (control: number, length: number, target: number): number => {
    const block = new DataView(bytes.buffer, 64, 16)
    block.setUint32(0, control)
    block.setUint32(4, length)
    block.setBigUint64(8, BigInt(target))
    device.write(8, 4, 0x4000_0000)
    return block.getUint32(0)
  }
  bytes.fill(0xee, 0x100, 0x110)
  t.is(dma(0x0020_000a, 5, 0x100), 0)
  t.deepEqual([...bytes.subarray(0x100, 0x106)], [1, 2, 3, 0, 0, 0xee])
  t.is(dma(0x0020_000c, 2, 0), 0, 'skip')
  t.is(device.read(1, 1), 3)
  t.is(dma(0x0020_0018, 1, 0x100), 1, 'nothing can be written')
  t.is(dma(0x0020_000a, 0xffff_ffff, 0x100), 1, 'the end of RAM')
  t.is(dma(0x0020_000a, 1, 2 ** 40), 1)
  t.is(dma(0x0020_000a, 16, 64), 0, 'over the block itself')
  t.is(dma(0xffff_ffff, 4, 0x100), 0, 'all bits: reads nothing')
  // A block at the end of RAM, or beyond.
  for (const address of [4081, 4096, 0xffff_fff0]) {
    device.write(8, 4, swapped(address))
  }
  device.write(4, 4, 0xffff_ffff)
  device.write(8, 4, 0xffff_ffff)
  const saved = device.save()
  device.reset()
  device.load(saved)
  t.deepEqual(device.save(), saved)
  t.throws(() => device.load({ ...saved, offset: -1 }), { code: 'E_STATE' })
  t.throws(() => new FwCfg(memory, items, [file, file]), { message: /duplicate/ })
  t.throws(() => new FwCfg(memory, items, [{ ...file, name: 'x'.repeat(56) }]), {
    code: 'E_CONFIG',
  })
})

/** As the address register takes it. */
function swapped(value: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, value)
  return view.getUint32(0, true)
}

/** A machine that runs `code` with these devices. */
async function start(code: GuestCode, ...plug: [driver: string, properties?: object][]) {
  const kernel = writeImage(folder, `guest-${plug.length}-${code.here}`, multiboot(code.bytes()))
  return VirtualMachine.start({
    memory: 16 * MIB,
    accel: 'tcg',
    kernel,
    log: () => {},
    plug: plug.map(([driver, properties = {}]) => ({ driver, properties: { ...properties } })),
  })
}

test('isa-debug-exit ends the machine from any of its ports', async (t) => {
  await using vm = await start(new GuestCode().outb(0xf6, 0x05).halt(), [
    'isa-debug-exit',
    { iobase: '0xf4', iosize: '4' },
  ])
  t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0x0b })
})

test('a multiboot kernel finds the vectors, controllers and timer of a BIOS', async (t) => {
  // lidt [descriptor of the vector table's protected-mode copy] is not needed: the timer's request
  // shows in the controller, at the vectors of a BIOS. Wait for it: in al, 0x20; test al, 1; jz.
  const code = new GuestCode()
  const loop = code.here
  code
    .raw(0xe4, 0x20, 0xa8, 0x01, 0x74, loop - (code.here + 6))
    .outb(0xf4, 0x01)
    .halt()
  await using vm = await start(code, ['isa-debug-exit', { iobase: '0xf4' }])
  t.like(await vm.exited, { code: 3 })
})

/** Where the table with the waking vector is, whatever the machine has. */
const FACS_GPA = 0xf_0080

test('suspend to RAM: the power button wakes the guest at its vector, in memory that stayed', async (t) => {
  const store = (code: GuestCode, gpa: number, value: number): GuestCode => {
    const dword = (n: number): number[] => [0, 8, 16, 24].map((shift) => (n >>> shift) & 0xff)
    return code.raw(0xc7, 0x05, ...dword(gpa), ...dword(value))
  }
  const code = new GuestCode()
  // At 0x1000, in real mode: mov dx, 0xf4; mov al, [0x2000]; out dx, al; jmp to itself.
  store(store(store(code, 0x1000, 0xa0_00f4_ba), 0x1004, 0xeb_ee20_00), 0x1008, 0xfe)
  store(store(code, 0x2000, 0x21), FACS_GPA + 12, 0x1000)
  code.print('S').outw(0x604, 0x2400).outb(0xf4, 0x7f).halt()
  await using vm = await start(code, ['isa-debug-exit', { iobase: '0xf4' }])
  await vm.expect('S')
  const ended = vm.exited.then(({ code: status }) => status)
  t.is(await Promise.race([ended, delay(300, 'asleep')]), 'asleep')
  vm.powerdown()
  t.is(await ended, 0x43)
})

test('devices that cannot be as asked are refused', async (t) => {
  const refusals: [string, object, RegExp][] = [
    ['isa-debug-exit', { iobase: '65536' }, /iobase/],
    ['isa-debug-exit', { iobase: '0xffff', iosize: '2' }, /iosize/],
    ['isa-debugcon', {}, /chardev/],
    ['pc-testdev', { x: '1' }, /not found/],
    ['pci-testdev', { membar: '4096' }, /not found/],
    ['virtio-rng-pci', { 'disable-legacy': 'maybe' }, /disable-legacy/],
    [
      'virtio-rng-pci',
      { 'disable-legacy': 'on', 'disable-modern': 'on' },
      /neither modern nor legacy/,
    ],
  ]
  for (const [driver, properties, message] of refusals) {
    await t.throwsAsync(start(new GuestCode().halt(), [driver, properties]), {
      code: 'E_DEVICE_OPTION',
      message,
    })
  }
  await t.throwsAsync(start(new GuestCode().halt(), ['pc-testdev'], ['pc-testdev']), {
    code: 'E_RANGE_TAKEN',
  })
})
