import test from 'ava'

import { assignResources } from '../src/chipset/pci/assign.ts'
import { PciHost } from '../src/chipset/pci/host.ts'
import { PciFunction } from '../src/chipset/pci/function.ts'
import { Msix } from '../src/chipset/pci/msix.ts'
import { Bus } from '../src/machine/bus.ts'

const CONTROL = 0x42
const ENABLE = 0x8000
const MASK_ALL = 0x4000

interface Fixture {
  bus: Bus
  pci: PciHost
  fn: PciFunction
  msix: Msix
  sent: string[]
  base: number
  /** Whether messages can be sent now. */
  gate: { open: boolean }
}

function create(vectors: number): Fixture {
  const bus = new Bus()
  const pci = new PciHost({ line: () => 0, drive() {} })
  const fn = new PciFunction('card', bus, { vendor: 0x1af4, device: 0x1042, classCode: 0x010000 })
  const sent: string[] = []
  const gate = { open: true }
  const msix = new Msix(fn, 1, vectors, (address, data) => {
    if (gate.open) sent.push(`${address.toString(16)}:${data.toString(16)}`)
    return gate.open
  })
  fn.onConfigWrite = () => msix.configWritten()
  pci.add(fn)
  assignResources(pci, { start: 0xe000_0000, end: 0xfec0_0000 }, () => 10)
  return { bus, pci, fn, msix, sent, gate, base: (fn.config.get32(0x14) & ~15) >>> 0 }
}

function program({ bus, base }: Fixture, vector: number, address: number, data: number): void {
  bus.mmio.write(base + vector * 16, 4, address)
  bus.mmio.write(base + vector * 16 + 8, 4, data)
  bus.mmio.write(base + vector * 16 + 12, 4, 0)
}

test('the capability says how many vectors there are and where table and pending bits lie', (t) => {
  const { fn } = create(5)
  t.is(fn.config.get16(0x06) & 0x10, 0x10)
  t.is(fn.configRead(0x34, 1), 0x40)
  t.is(fn.configRead(0x40, 2), 0x0011)
  t.is(fn.configRead(CONTROL, 2), 4)
  t.is(fn.configRead(0x44, 4), 0x0000_0001)
  t.is(fn.configRead(0x48, 4), 0x0000_0801)
  fn.configWrite(CONTROL, 2, 0xffff)
  t.is(fn.configRead(CONTROL, 2), 0xc004, 'only enable and mask can be written')
})

test('a vector sends its message; masked ones wait as pending bits', (t) => {
  const fixture = create(3)
  const { bus, fn, msix, sent, base } = fixture
  program(fixture, 1, 0xfee0_1000, 0x41)
  msix.trigger(1)
  t.deepEqual(sent, [], 'not enabled')
  fn.configWrite(CONTROL, 2, ENABLE)
  msix.trigger(1)
  t.deepEqual(sent.splice(0), ['fee01000:41'])
  msix.trigger(0)
  t.deepEqual(sent, [], 'masked after reset')
  t.is(bus.mmio.read(base + 0x800, 4), 1)
  program(fixture, 0, 0xfee0_0000, 0x40)
  t.deepEqual(sent.splice(0), ['fee00000:40'])
  t.is(bus.mmio.read(base + 0x800, 4), 0)
  fn.configWrite(CONTROL, 2, ENABLE | MASK_ALL)
  msix.trigger(1)
  t.deepEqual(sent, [])
  fn.configWrite(CONTROL, 2, ENABLE)
  t.deepEqual(sent.splice(0), ['fee01000:41'])
  msix.trigger(3)
  msix.trigger(-1)
  msix.trigger(0xffff)
  t.deepEqual(sent, [], 'vectors that do not exist')
})

test('what cannot be sent now leaves with a flush, also after a load', (t) => {
  const fixture = create(2)
  const { fn, msix, sent, gate } = fixture
  program(fixture, 0, 0xfee0_0000, 0x40)
  fn.configWrite(CONTROL, 2, ENABLE)
  gate.open = false
  msix.trigger(0)
  msix.trigger(0)
  const state = structuredClone(msix.save())
  gate.open = true
  msix.flush()
  t.deepEqual(sent.splice(0), ['fee00000:40'], 'once')
  const other = create(2)
  other.fn.configWrite(CONTROL, 2, ENABLE)
  other.msix.load(state)
  other.msix.flush()
  t.deepEqual(other.sent, ['fee00000:40'])
  t.throws(() => other.msix.load({ table: new Uint8Array(3), pending: new Uint8Array(8) }), {
    code: 'E_STATE',
  })
})

test('firmware gives every BAR an aligned place of its own, and says when there is none', (t) => {
  const bus = new Bus()
  const pci = new PciHost({ line: () => 0, drive() {} })
  const handler = { read: () => 0, write() {} }
  const bases: number[] = []
  for (const size of [0x4000, 0x10, 0x10_0000, 0x1000]) {
    const fn = new PciFunction(`card${size}`, bus, { vendor: 1, device: 2, classCode: 0 })
    fn.addBar(0, { space: 'mmio', size, handler, onMove: (base) => base && bases.push(base) })
    fn.addBar(1, { space: 'pio', size: 0x20, handler })
    pci.add(fn)
  }
  assignResources(pci, { start: 0xe000_0000, end: 0xfec0_0000 }, () => 10)
  t.is(new Set(bases).size, 4)
  t.deepEqual(
    bases.toSorted((a, b) => a - b),
    [0xe000_0000, 0xe010_0000, 0xe010_4000, 0xe010_5000],
  )
  t.throws(() => assignResources(pci, { start: 0xe000_0000, end: 0xe010_0000 }, () => 10), {
    code: 'E_CONFIG',
    message: /full/,
  })
})
