import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { VgaDriver } from './support/vga-fixture.ts'
import { words } from './support/random.ts'

const ACCESSES = process.env['LONG'] === undefined ? 120_000 : 5_000_000
const PICTURES_EVERY = 4_000
const BAR = 0xfebf_0000
const PORTS = [...Array.from({ length: 0x30 }, (_, i) => 0x3b0 + i), 0x1ce, 0x1cf, 0x1d0]

/** One access of a hostile guest. */
function step(driver: VgaDriver, random: () => number): number {
  const kind = random() % 16
  const size = 1 << (random() % 3)
  const { pio, mmio } = driver.bus
  const value = random() % 4 === 0 ? random() : random() & 0xff
  if (kind < 6) pio.write(PORTS[random() % PORTS.length]!, size, value)
  else if (kind < 8) return pio.read(PORTS[random() % PORTS.length]!, size)
  else if (kind < 10) mmio.write(0xa_0000 + (random() & 0x1_ffff), size, value)
  else if (kind < 12) return mmio.read(0xa_0000 + (random() & 0x1_ffff), size)
  else if (kind === 12) driver.dispi(random() % 12, random() & 0xffff)
  else if (kind === 13) mmio.write(BAR + 0x400 + (random() & 0x2ff), size, value)
  else if (kind === 14) return mmio.read(BAR + (random() & 0xfff), size)
  else if (random() % 256 === 0) driver.vga.fn.configWrite(0x10, 4, random())
  return 0
}

function create(): VgaDriver {
  const driver = new VgaDriver(1)
  driver.vga.fn.configWrite(0x18, 4, BAR)
  driver.vga.fn.configWrite(4, 2, 3)
  return driver
}

test('no sequence of accesses makes the adapter throw, and its screen is bounded', (t) => {
  t.timeout(120_000)
  const driver = create()
  const random = words(0x7ea)
  for (let i = 0; i < ACCESSES; i++) {
    const value = step(driver, random)
    if (!Number.isInteger(value) || value < 0) return t.fail(`access ${i} gave ${value}`)
    if (i % PICTURES_EVERY !== 0) continue
    const text = driver.text() ?? ''
    const { width, height, pixels } = driver.vga.picture()
    const isBounded = text.length < 100_000 && pixels.length <= 2 * 3 * 8 * (1 << 20)
    if (!isBounded || pixels.length !== width * height * 3) return t.fail(`${width}x${height}`)
    driver.memory.shown.length = 0
  }
  t.pass()
})

test('an adapter loaded from any state goes on exactly like the one that was saved', (t) => {
  t.timeout(120_000)
  for (let seed = 1; seed <= 20; seed++) {
    const first = create()
    const random = words(seed * 104_729)
    for (let i = 0; i < 2000; i++) step(first, random)
    const second = new VgaDriver(1)
    second.vga.load(structuredClone(first.vga.save()))
    second.vga.fn.load(structuredClone(first.vga.fn.save()))
    t.deepEqual(second.vga.save(), first.vga.save())
    const again = [words(~seed), words(~seed)] as const
    for (let i = 0; i < 500; i++) {
      if (step(first, again[0]) !== step(second, again[1])) return t.fail(`seed ${seed} step ${i}`)
    }
    t.deepEqual(second.vga.save(), first.vga.save())
    for (const slot of [0, 1]) {
      const last = ({ memory }: VgaDriver): number | undefined =>
        memory.shown.findLast(([place]) => place === slot)?.[1]
      t.is(last(second), last(first))
    }
  }
})

test('damaged states are refused by name', (t) => {
  const { vga } = create()
  const good = structuredClone(vga.save()) as Record<string, Record<string, unknown>>
  const damaged = [
    null,
    {},
    { ...good, memory: [{ page: 256, data: new Uint8Array(4096) }] },
    { ...good, memory: [{ page: 0, data: new Uint8Array(4095) }] },
    { ...good, memory: 'x' },
    { ...good, dispi: { index: 0, registers: [1, 2, 3] } },
    { ...good, dispi: null },
    { ...good, registers: { ...good['registers'], palette: new Uint8Array(3) } },
    { ...good, planes: { latch: -1 } },
  ]
  for (const state of damaged) {
    const error = t.throws(() => vga.load(state))
    t.true(error instanceof VmmError && error.code === 'E_STATE', String(error))
  }
})
