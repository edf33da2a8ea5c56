import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { IdeDriver } from './support/ide-driver.ts'
import { words } from './support/random.ts'

const ACCESSES = process.env['LONG'] === undefined ? 60_000 : 5_000_000
const PORTS = [
  ...Array.from({ length: 8 }, (_, i) => 0x1f0 + i),
  ...Array.from({ length: 8 }, (_, i) => 0x170 + i),
  0x3f6,
  0x376,
  ...Array.from({ length: 16 }, (_, i) => 0xc000 + i),
]
/** Commands that random bytes would seldom name. */
const COMMANDS = [0x20, 0x24, 0x25, 0x30, 0x34, 0x35, 0xc4, 0xc5, 0xc8, 0xca, 0xa0, 0xec, 0xa1]

/** One access of a hostile guest, or a while in which the host works. */
function step(driver: IdeDriver, random: () => number): number {
  const kind = random() % 16
  const port = PORTS[random() % PORTS.length]!
  if (kind < 2) driver.bus.pio.write(kind === 0 ? 0x1f7 : 0x177, 1, COMMANDS[random() % 13]!)
  else if (kind === 2) driver.bus.pio.write(0xc004 + (random() & 8), 4, random() & 0x1f_fffc)
  else if (kind === 3) driver.ram.bytes[random() & 0xf_ffff] = random()
  else if (kind < 10) return driver.bus.pio.read(port, 1 << (random() % 3))
  // Resets are rare, so that something happens between them.
  else if ((port & 0xfbf) !== 0x336 || random() % 64 === 0) {
    driver.bus.pio.write(port, 1 << (random() % 3), random() & (random() % 2 ? 0x1f : 0xffff_ffff))
  }
  return 0
}

test('no sequence of accesses makes the controller throw, or leave its disk and memory', async (t) => {
  const driver = new IdeDriver()
  const random = words(0x1de)
  for (let i = 0; i < ACCESSES; i++) {
    const value = step(driver, random)
    if (!Number.isInteger(value) || value < 0) return t.fail(`access ${i} gave ${value}`)
    if (random() % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
    if (driver.ram.written.length > 1000) driver.ram.written.length = 0
  }
  t.pass()
})

test('a string is what its elements are one by one', async (t) => {
  for (let seed = 1; seed <= 12; seed++) {
    const drivers = [new IdeDriver(), new IdeDriver()] as const
    const random = words(seed * 31)
    for (let i = 0; i < 200; i++) {
      const command = random()
      const again = [words(command), words(command)] as const
      const port = random() % 4 === 0 ? 0x170 : 0x1f0
      const size = 1 << (random() % 3)
      const end = 5 + size * (random() % 700)
      const filler = random()
      const isOut = random() % 2 === 0
      const strings = [0, 1].map(() => new Uint8Array(end).fill(filler))
      for (const [k, driver] of drivers.entries()) {
        for (let n = 0; n < 4; n++) step(driver, again[k]!)
        const { pio } = driver.bus
        const bytes = strings[k]!
        if (k === 0 && isOut) pio.writeString(port, size, bytes, 5, end)
        else if (k === 0) pio.readString(port, size, bytes, 5, end)
        for (let at = k === 0 ? end : 5; at < end; at += size) {
          if (isOut) pio.write(port, size, (filler & 0xff) * (0x0101_0101 >>> (32 - 8 * size)))
          else bytes.set(new Uint8Array(Uint32Array.of(pio.read(port, size)).buffer, 0, size), at)
        }
        for (const bus of driver.ide.buses) await bus.quiesce()
      }
      if (Buffer.compare(strings[0]!, strings[1]!) !== 0) return t.fail(`seed ${seed} step ${i}`)
    }
    t.deepEqual(drivers[0].ide.save(), drivers[1].ide.save())
    t.is(Buffer.compare(drivers[0].disk.bytes, drivers[1].disk.bytes), 0)
  }
})

test('a controller loaded from any state goes on exactly like the one that was saved', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const first = new IdeDriver()
    const random = words(seed * 7919)
    for (let i = 0; i < 500; i++) {
      step(first, random)
      if (random() % 8 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    for (const bus of first.ide.buses) await bus.quiesce()
    const second = new IdeDriver()
    second.disk.bytes.set(first.disk.bytes)
    second.ram.bytes.set(first.ram.bytes)
    second.ide.load(structuredClone(first.ide.save()))
    second.ide.fn.load(structuredClone(first.ide.fn.save()))
    for (const unit of [0, 2])
      second.ide.unit(unit)!.load(structuredClone(first.ide.unit(unit)!.save()))
    t.deepEqual(second.ide.save(), first.ide.save())
    const again = [words(~seed), words(~seed)] as const
    for (let i = 0; i < 300; i++) {
      if (step(first, again[0]) !== step(second, again[1])) return t.fail(`seed ${seed} step ${i}`)
      for (const driver of [first, second]) {
        for (const bus of driver.ide.buses) await bus.quiesce()
      }
    }
    t.deepEqual(second.ide.save(), first.ide.save())
  }
  t.pass()
})

test('damaged states are refused by name', (t) => {
  const { ide } = new IdeDriver()
  type Channel = Record<string, unknown> & { port: object }
  const good = structuredClone(ide.save()) as { channels: Channel[] }
  const damaged = (port: object): unknown => {
    const [first, second] = good.channels
    return { ...good, channels: [{ ...first, port: { ...first!.port, ...port } }, second] }
  }
  const ports = [
    { transfer: null },
    { transfer: {} },
    { transfer: { source: 'medium' } },
    { transfer: 7 },
    { cursor: 5 },
    { filled: 1 },
  ]
  for (const port of ports) {
    const error = t.throws(() => ide.load(damaged(port)))
    t.true(error instanceof VmmError && error.code === 'E_STATE')
  }
})
