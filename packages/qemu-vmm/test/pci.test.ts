import test from 'ava'

import { AcpiPm } from '../src/chipset/acpi-pm.ts'
import { PciHost } from '../src/chipset/pci/host.ts'
import { PciFunction } from '../src/chipset/pci/function.ts'
import { HostBridge } from '../src/chipset/pci/i440fx.ts'
import { PIRQ_ROUTE, Piix3, Piix4Pm } from '../src/chipset/pci/piix.ts'
import { SmbusHost } from '../src/chipset/smbus.ts'
import { Bus } from '../src/machine/bus.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { FakeIrq } from './support/fakes.ts'
import { recorder } from './support/recorder.ts'

interface PciFixture {
  bus: Bus
  pci: PciHost
  piix3: Piix3
  irqs: FakeIrq[]
  config(slot: number, fn: number, offset: number, size?: number): number
  set(slot: number, fn: number, offset: number, size: number, value: number): void
}

function createPci(): PciFixture {
  const bus = new Bus()
  const irqs = Array.from({ length: 16 }, () => new FakeIrq())
  const piix3 = new Piix3(bus, irqs)
  const pci = new PciHost({
    line: (slot, pin) => (slot + pin - 2) & 3,
    drive: (pirq, level) => piix3.setPirq(pirq, level),
  })
  pci.add(new HostBridge(bus).fn, 0, 0)
  pci.add(piix3.fn, 1, 0)
  pci.add(
    new Piix4Pm(
      bus,
      new AcpiPm(new FakeIrq(), new ManualClock(), {
        powerOff() {},
        suspend() {},
        wake() {},
      }),
      new SmbusHost(() => {}),
    ).fn,
    1,
    3,
  )
  bus.pio.map({ name: 'address', base: 0xcf8, len: 4, handler: pci.addressPort })
  bus.pio.map({ name: 'data', base: 0xcfc, len: 4, handler: pci.dataPort })
  const select = (slot: number, fn: number, offset: number): void =>
    bus.pio.write(0xcf8, 4, 0x8000_0000 + slot * 0x800 + fn * 0x100 + (offset & 0xfc))
  return {
    bus,
    pci,
    piix3,
    irqs,
    config(slot, fn, offset, size = 4) {
      select(slot, fn, offset)
      return bus.pio.read(0xcfc + (offset & 3), size)
    },
    set(slot, fn, offset, size, value) {
      select(slot, fn, offset)
      bus.pio.write(0xcfc + (offset & 3), size, value)
    },
  }
}

test('pci: configuration mechanism 1 finds the chipset and nothing else', (t) => {
  const { bus, config } = createPci()
  bus.pio.write(0xcf8, 4, 0x8000_0000)
  t.is(bus.pio.read(0xcf8, 4), 0x8000_0000)
  t.is(config(0, 0, 0), 0x1237_8086)
  t.is(config(1, 0, 0), 0x7000_8086)
  t.is(config(1, 3, 0), 0x7113_8086)
  t.is(config(1, 0, 0x0e, 1), 0x80, 'multifunction')
  t.is(config(0, 0, 0x0a, 2), 0x0600)
  t.is(config(1, 3, 0x0a, 2), 0x0680)
  t.is(config(1, 3, 0x90), 0xb101, 'SMBus base, which UEFI firmware does not set')
  t.is(config(1, 3, 0xd2, 1), 0x09)
  t.is(config(2, 0, 0), 0xffffffff)
  bus.pio.write(0xcf8, 4, 0x8001_0000)
  t.is(bus.pio.read(0xcfc, 4), 0xffffffff, 'no other bus')
  bus.pio.write(0xcf8, 1, 0x12)
  t.is(bus.pio.read(0xcf8, 4), 0x8001_0000, 'only whole words reach the register')
})

test('pci: read-only fields stay, BARs are sized, moved and switched', (t) => {
  const { bus, pci, config, set } = createPci()
  const device = recorder(0x20)
  const fn = new PciFunction('card', bus, {
    vendor: 0x1af4,
    device: 0x1000,
    classCode: 0x020000,
    interruptPin: 1,
  })
  fn.addBar(0, { space: 'pio', size: 0x20, handler: device })
  fn.addBar(1, { space: 'mmio', size: 0x1000, handler: device })
  fn.addBar(4, { space: 'mmio', size: 0x4000, is64: true, prefetchable: true, handler: device })
  const { slot } = pci.add(fn)
  t.is(slot, 2)
  set(slot, 0, 0, 4, 0)
  t.is(config(slot, 0, 0), 0x1000_1af4)
  set(slot, 0, 0x10, 4, 0xffffffff)
  t.is(config(slot, 0, 0x10), 0xffff_ffe1)
  set(slot, 0, 0x14, 4, 0xffffffff)
  t.is(config(slot, 0, 0x14), 0xffff_f000)
  set(slot, 0, 0x20, 4, 0xffffffff)
  set(slot, 0, 0x24, 4, 0xffffffff)
  t.is(config(slot, 0, 0x20), 0xffff_c00c)
  t.is(config(slot, 0, 0x24), 0xffff_ffff)
  set(slot, 0, 0x10, 4, 0xc000)
  set(slot, 0, 0x14, 4, 0xfebd_0000)
  set(slot, 0, 0x20, 4, 0)
  set(slot, 0, 0x24, 4, 0x10)
  t.is(bus.pio.read(0xc000, 1), 0xff, 'decoding is off')
  set(slot, 0, 4, 2, 0x3)
  t.is(bus.pio.read(0xc001, 1), 0x21)
  t.is(bus.mmio.read(0xfebd_0004, 1), 0x24)
  t.is(bus.mmio.read(0x10_0000_0008, 1), 0x28)
  set(slot, 0, 0x10, 4, 0xd000)
  t.is(bus.pio.read(0xc001, 1), 0xff)
  t.is(bus.pio.read(0xd001, 1), 0x21)
})

test('pci: what a guest puts on top of each other is apart again when it moves one', (t) => {
  const { bus, pci, config, set } = createPci()
  const cards = [0x10, 0x20].map((answer) => {
    const handler = recorder(answer)
    const fn = new PciFunction(`card ${answer}`, bus, { vendor: 1, device: 2, classCode: 0x020000 })
    fn.addBar(0, { space: 'pio', size: 0x10, handler })
    fn.addBar(1, { space: 'mmio', size: 0x1000, handler })
    return pci.add(fn).slot
  })
  const [one = 0, two = 0] = cards
  for (const slot of cards) {
    set(slot, 0, 0x10, 4, 0xc000)
    set(slot, 0, 0x14, 4, 0xfebd_0000)
    set(slot, 0, 4, 2, 0x3)
  }
  const seen = (): number[] => [bus.pio.read(0xc001, 1), bus.mmio.read(0xfebd_0001, 1)]
  t.true(
    seen().every((value) => value === 0x11 || value === 0x21),
    'one of them answers',
  )
  for (const [moved, left] of [
    [one, 0x21],
    [two, 0x11],
  ] as const) {
    set(moved, 0, 0x10, 4, 0xd000)
    set(moved, 0, 0x14, 4, 0xfebe_0000)
    t.deepEqual(seen(), [left, left])
    set(moved, 0, 0x10, 4, 0xc000)
    set(moved, 0, 0x14, 4, 0xfebd_0000)
  }
  // Over the ports by which configuration space is reached: these stay, or no guest could undo it.
  set(one, 0, 0x10, 4, 0xcf0)
  t.is(config(one, 0, 0x10), 0xcf1)
  t.is(bus.pio.read(0xcf1, 1), 0x11)
  t.is(bus.pio.read(0xcfc, 4), 0xcf1)
  set(one, 0, 0x10, 4, 0xd000)
  t.is(bus.pio.read(0xcf1, 1), 0xff)
  t.is(bus.pio.read(0xd001, 1), 0x11)
})

test('pci: an expansion ROM is sized, moved and switched, and cannot be written', (t) => {
  const { bus, pci, config, set } = createPci()
  const fn = new PciFunction('card', bus, { vendor: 0x1af4, device: 0x1000, classCode: 0x020000 })
  fn.addRom(Uint8Array.from({ length: 2050 }, (_, i) => i & 0xff))
  const { slot } = pci.add(fn)
  set(slot, 0, 0x30, 4, 0xffff_fffe)
  t.is(config(slot, 0, 0x30), 0xffff_f000, '4 KiB, off')
  set(slot, 0, 0x30, 4, 0xfebd_0000)
  set(slot, 0, 4, 2, 2)
  t.is(bus.mmio.read(0xfebd_0000, 4), 0xffff_ffff, 'its own switch is off')
  set(slot, 0, 0x30, 4, 0xfebd_0001)
  t.is(bus.mmio.read(0xfebd_0004, 4), 0x0706_0504)
  bus.mmio.write(0xfebd_0004, 4, 0)
  t.is(bus.mmio.read(0xfebd_0004, 2), 0x0504)
  t.is(bus.mmio.read(0xfebd_0801, 2), 0xff01, 'erased behind the image')
  t.is(bus.mmio.read(0xfebd_0fff, 4), 0xffff_ffff, 'over the end')
  set(slot, 0, 4, 2, 0)
  t.is(bus.mmio.read(0xfebd_0004, 4), 0xffff_ffff, 'decoding is off')
  fn.reset()
  t.is(config(slot, 0, 0x30), 0)
  t.throws(() => fn.addRom(new Uint8Array(0)), { code: 'E_FIRMWARE_SIZE' })
  t.throws(() => fn.addRom(new Uint8Array((2 << 20) + 1)), { code: 'E_FIRMWARE_SIZE' })
})

test('pci: a pin reaches the ISA interrupt that its PIRQ is routed to', (t) => {
  const { bus, pci, set, irqs } = createPci()
  const fn = new PciFunction('card', bus, {
    vendor: 0x1af4,
    device: 0x1000,
    classCode: 0x020000,
    interruptPin: 1,
  })
  const { slot } = pci.add(fn)
  const pirq = (slot + 1 - 2) & 3
  fn.setInterrupt(true)
  t.true(
    irqs.every((irq) => !irq.level),
    'routes are off after reset',
  )
  set(1, 0, PIRQ_ROUTE + pirq, 1, 11)
  t.true(irqs[11]!.level)
  set(1, 0, PIRQ_ROUTE + pirq, 1, 10)
  t.false(irqs[11]!.level)
  t.true(irqs[10]!.level)
  set(slot, 0, 4, 2, 0x400)
  t.false(irqs[10]!.level, 'INTx disabled')
  set(slot, 0, 4, 2, 0)
  t.true(irqs[10]!.level)
  fn.setInterrupt(false)
  t.false(irqs[10]!.level)
})

test('pci: the power management block follows its base register', (t) => {
  const { bus, config, set } = createPci()
  t.is(bus.pio.read(0x604, 2), 0xffff)
  set(1, 3, 0x40, 4, 0x600)
  t.is(config(1, 3, 0x40), 0x601)
  t.is(bus.pio.read(0x604, 2), 0xffff)
  set(1, 3, 0x80, 1, 1)
  t.is(bus.pio.read(0x604, 2), 0)
  set(1, 3, 0x40, 4, 0xb000)
  t.is(bus.pio.read(0x604, 2), 0xffff)
  t.is(bus.pio.read(0xb004, 2), 0)
})
