import test from 'ava'

import { PARALLEL_IRQ, ParallelPort } from '../src/chipset/parallel.ts'
import { PvpanicPci, pvpanicRegister } from '../src/chipset/pvpanic.ts'
import { PciHost } from '../src/chipset/pci/host.ts'
import { VmmError } from '../src/errors.ts'
import { createDsdt } from '../src/machine/acpi/dsdt.ts'
import { Bus } from '../src/machine/bus.ts'
import { resolveTopology } from '../src/machine/topology.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { FakeIrq } from './support/fakes.ts'
import { plugBoard } from './support/plug-board.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test : test.skip
const BASE = 0x378

function listener(): { seen: string[]; panicked(): void; crashLoaded(): void } {
  const seen: string[] = []
  return {
    seen,
    panicked: () => void seen.push('panicked'),
    crashLoaded: () => void seen.push('crash loaded'),
  }
}

test('pvpanic: says which events it takes, and takes them', (t) => {
  const told = listener()
  const register = pvpanicRegister(3, told)
  t.is(register.read(0, 1), 3)
  register.write(0, 1, 0)
  register.write(0, 1, 0xfc)
  t.deepEqual(told.seen, [])
  register.write(0, 1, 1)
  register.write(0, 1, 2)
  register.write(0, 1, 3)
  t.deepEqual(told.seen, ['panicked', 'crash loaded', 'panicked'])
})

test('pvpanic-pci: the same in a memory BAR', (t) => {
  const told = listener()
  const bus = new Bus()
  const device = new PvpanicPci('panic', bus, 1, told)
  const pci = new PciHost({ line: () => 0, drive() {} })
  pci.add(device.fn, 5, 0)
  t.is(device.fn.configRead(0, 4), 0x0011_1b36)
  t.is(device.fn.configRead(8, 4), 0x0880_0001)
  device.fn.configWrite(0x10, 4, 0xfeb0_0000)
  device.fn.configWrite(4, 2, 2)
  t.is(bus.mmio.read(0xfeb0_0000, 1), 1)
  bus.mmio.write(0xfeb0_0001, 1, 1)
  t.deepEqual(told.seen, [])
  bus.mmio.write(0xfeb0_0000, 2, 0x0101)
  t.deepEqual(told.seen, ['panicked'])
})

test('firmware tables name the devices by which drivers find them', (t) => {
  const isaDevices = [
    { kind: 'pvpanic', base: 0x505 },
    { kind: 'parallel', index: 0, base: BASE, irq: PARALLEL_IRQ },
    { kind: 'serial', index: 1, base: 0x400, irq: 7 },
  ] as const
  for (const board of ['i440fx', 'q35'] as const) {
    const topology = resolveTopology(1, 'pc-i440fx-7.2')
    const config = { board, topology, pciHoleStart: 0xc000_0000 }
    const text = Buffer.from(createDsdt({ ...config, isaDevices })).toString('latin1')
    t.true(
      text.includes('QEMU0001') &&
        text.includes('PEVT') &&
        text.includes('LPT1') &&
        text.includes('COM2'),
    )
    t.false(Buffer.from(createDsdt(config)).toString('latin1').includes('QEMU0001'))
  }
})

function parallel(): { port: ParallelPort; irq: FakeIrq; printed: number[] } {
  const [irq, printed] = [new FakeIrq(), [] as number[]]
  return { port: new ParallelPort(irq, (byte) => printed.push(byte)), irq, printed }
}

test('parallel: a byte is printed at the strobe, and acknowledged', (t) => {
  const { port, irq, printed } = parallel()
  t.is(port.read(1) & 0x80, 0x80, 'ready')
  port.write(0, 1, 0x41)
  port.write(2, 1, 0x1c)
  t.deepEqual(printed, [])
  port.write(2, 1, 0x1d)
  port.write(2, 1, 0x1d)
  t.deepEqual(printed, [0x41])
  t.is(port.read(1) & 0x80, 0, 'busy while the strobe is low')
  port.write(2, 1, 0x1c)
  t.true(irq.level)
  t.deepEqual([port.read(1) & 0xc0, irq.level], [0x40, false])
  t.is(port.read(1) & 0xc0, 0)
  t.is(port.read(1) & 0xc0, 0xc0)
  port.write(2, 1, 0x2c)
  t.is(port.read(0), 0xff, 'lines that nobody drives')
  t.is(port.read(5), 0xff)
})

test('parallel: a loaded port goes on exactly like the one that was saved', (t) => {
  const random = words(0x1284)
  const [first, second] = [parallel(), parallel()]
  for (let i = 0; i < 5000; i++) {
    const [offset, value, kind] = [random() & 7, random(), random() % 3]
    for (const { port } of i < 2500 ? [first] : [first, second]) {
      if (kind === 0) port.write(offset, 1, value)
    }
    if (i === 2499) second.port.load(structuredClone(first.port.save()))
    if (kind !== 0 && i >= 2500) t.is(first.port.read(offset), second.port.read(offset))
    else if (kind !== 0) first.port.read(offset)
  }
  t.is(first.irq.level, second.irq.level)
  const error = t.throws(() => first.port.load({ data: 300 } as never), { instanceOf: VmmError })
  t.is(error.code, 'E_STATE')
})

const serial = (properties: Record<string, string> = {}): DeviceOption => ({
  driver: 'isa-serial',
  properties,
})

/** Ports at which a UART answers: its scratch register keeps what is written to it. */
async function uarts(...plug: DeviceOption[]): Promise<number[]> {
  const { pio } = (await plugBoard('i440fx', plug)).board.bus
  return [0x2e8, 0x2f8, 0x3e8, 0x3f8, 0x500].filter((base) => {
    pio.write(base + 7, 1, 0x5a)
    return pio.read(base + 7, 1) === 0x5a
  })
}

test('isa-serial: ports are where their number or their properties put them', async (t) => {
  t.deepEqual(await uarts(), [0x3f8], 'the board has one of its own')
  t.deepEqual(await uarts(serial({ index: '1' })), [0x2f8], 'unless some were plugged in')
  t.deepEqual(await uarts(serial(), serial()), [0x2f8, 0x3f8])
  t.deepEqual(await uarts(serial({ iobase: '0x500', irq: '9' }), serial()), [0x2f8, 0x500])
  const all = [serial(), serial(), serial(), serial()]
  t.deepEqual(await uarts(...all), [0x2e8, 0x2f8, 0x3e8, 0x3f8])
  for (const [plug, message] of [
    [[...all, serial()], /Max. supported number of ISA serial ports is 4/],
    [[serial({ index: '4' })], /doesn't take value '4': it is a number from 0 to 3/],
    [[serial({ irq: '16' })], /doesn't take value '16': it is a number from 0 to 15/],
    [[serial({ iobase: '0x10000' })], /doesn't take value '0x10000'/],
    [[serial({ index: '0' }), serial({ index: '0' })], /another serial port is at 0x3f8/],
    [[serial({ chardev: 'none' })], /character device/],
    [[serial({ wakeup: 'on' })], /Property 'isa-serial.wakeup' not found/],
  ] as const) {
    await t.throwsAsync(plugBoard('i440fx', plug), { message })
  }
})

test('isa-serial: interrupts arrive at its line, a reset and a state reach it', async (t) => {
  const { board, lines } = await plugBoard('i440fx', [serial({ index: '2', irq: '7' })])
  const { pio } = board.bus
  pio.write(0x3ec, 1, 8)
  pio.write(0x3e9, 1, 2)
  t.deepEqual([...lines], [7])
  const state = board.save()
  board.reset()
  t.deepEqual([pio.read(0x3e9, 1), [...lines]], [0, []])
  board.load(structuredClone(state))
  t.is(pio.read(0x3e9, 1), 2)
})

compare('isa-serial: what answers is what answers in QEMU 7.2', async (t) => {
  const plug = [serial({ index: '3' }), serial({ iobase: '0x500', irq: '7' })]
  const { board } = await plugBoard('i440fx', plug)
  const names = ['isa-serial,index=3', 'isa-serial,iobase=0x500,irq=7']
  const peer = startPeer('-M', 'pc', ...names.flatMap((name) => ['-device', name]))
  try {
    for (const start of [0x2e0, 0x2f0, 0x3e0, 0x3f8, 0x500]) {
      for (let port = start; port < start + 16; port++) {
        const theirs = Number(await peer.ask(`inb ${port}`))
        t.is(board.bus.pio.read(port, 1), theirs, `port ${port.toString(16)}`)
      }
    }
  } finally {
    peer.close()
  }
})

compare('registers are those of QEMU 7.2', async (t) => {
  const peer = startPeer('-M', 'pc', '-parallel', 'null', '-device', 'pvpanic,events=1')
  const { port } = parallel()
  try {
    t.is(Number(await peer.ask('inb 0x505')), pvpanicRegister(1, listener()).read(0, 1))
    const random = words(7)
    for (let i = 0; i < 400; i++) {
      const offset = random() & 7
      if (random() % 2 === 0) {
        const value = random() & 0xff
        port.write(offset, 1, value)
        await peer.ask(`outb ${BASE + offset} ${value}`)
      }
      const at = random() & 7
      t.is(port.read(at), Number(await peer.ask(`inb ${BASE + at}`)), `step ${i}, register ${at}`)
    }
  } finally {
    peer.close()
  }
})
