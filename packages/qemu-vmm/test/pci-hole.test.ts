import test from 'ava'

import { PciFunction } from '../src/chipset/pci/function.ts'
import { PciHost } from '../src/chipset/pci/host.ts'
import { Bus } from '../src/machine/bus.ts'
import { highWindow } from '../src/machine/pci-hole.ts'

const GIB = 2 ** 30

test('the window above 4 GiB covers what firmware has put elsewhere', (t) => {
  const bus = new Bus()
  const pci = new PciHost({ line: () => 0, drive() {} })
  const fn = new PciFunction('card', bus, { vendor: 1, device: 2, classCode: 0 })
  const handler = { read: () => 0, write() {} }
  fn.addBar(0, { space: 'mmio', size: 0x4000, is64: true, prefetchable: true, handler })
  pci.add(fn)
  const usual = { start: 4 * GIB, end: 6 * GIB }
  t.deepEqual(highWindow(pci, usual), usual)
  t.is(highWindow(pci, undefined), undefined)
  const move = (base: number): void => {
    fn.configWrite(0x10, 4, base % 2 ** 32)
    fn.configWrite(0x14, 4, Math.floor(base / 2 ** 32))
  }
  move(3 * GIB)
  t.deepEqual(highWindow(pci, usual), usual, 'below 4 GiB is another window')
  move(896 * GIB)
  t.deepEqual(highWindow(pci, usual), { start: 4 * GIB, end: 896 * GIB + 2 ** 20 })
  t.deepEqual(highWindow(pci, undefined), { start: 896 * GIB, end: 896 * GIB + 2 ** 20 })
  move(2 ** 41)
  t.deepEqual(highWindow(pci, usual), usual, 'beyond what a processor has')
})
