// A hostile driver of the e1000e: any register, any descriptor, any message table, and frames in between.
import test from 'ava'
import { batchOf } from 'virtio/testing'
import { VmmError } from '../src/errors.ts'
import { BASE, frameOf } from './support/e1000-driver.ts'
import { E1000eDriver, MSIX, tcpFrame } from './support/e1000e-driver.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 20_000 : 400_000
/** Registers that random offsets would seldom be. */
const REGISTERS = [
  0x0000, 0x0008, 0x0010, 0x0014, 0x0018, 0x0020, 0x0038, 0x00c0, 0x00c8, 0x00d0, 0x00d8, 0x00dc,
  0x00e0, 0x00e4, 0x0100, 0x0400, 0x102c, 0x2170, 0x2800, 0x2808, 0x2810, 0x2818, 0x2900, 0x2908,
  0x2910, 0x2918, 0x2c00, 0x3800, 0x3808, 0x3810, 0x3818, 0x3840, 0x3908, 0x3918, 0x3940, 0x5000,
  0x5008, 0x5818, 0x5b68, 0x5c00, 0x5c80,
]

/** One access, or a frame. */
function step(driver: E1000eDriver, random: () => number): number {
  const { bus, card } = driver
  const register =
    random() % 4 === 0 ? random() % 0x2_0000 : REGISTERS[random() % REGISTERS.length]!
  const small = random() % 3 === 0 ? random() : random() % 0x400
  switch (random() % 9) {
    case 0:
      return bus.mmio.read(BASE + register, 1 << (random() % 3))
    case 1:
      // The rings and the context of segments, so that something happens.
      driver.ram.bytes[0x1000 + (random() % 0x2000)] = random()
      return 0
    case 2: {
      const size = 14 + (random() % 3000)
      driver.link.a.send(batchOf(random() % 2 === 0 ? frameOf(size) : tcpFrame(54 + size)))
      return 0
    }
    case 3:
      if (random() % 64 === 0) driver.start(random(), random() & 0xffff)
      driver.end.room = random() % 8 === 0 ? 0 : Infinity
      driver.link.a.ready()
      return 0
    case 4:
      if (random() % 64 === 0) driver.link.setUp(random() % 2 === 0)
      driver.clock.advance(random() % 1e8)
      return 0
    case 5:
      driver.set(0x400, 2)
      driver.set(0x3818 + (random() % 2) * 0x100, random() % 40)
      return 0
    case 6:
      if (random() % 16 === 0) driver.useVectors()
      else bus.mmio.write(MSIX + ((random() % 0x4000) & ~3), 4, random())
      if (random() % 16 === 0) card.fn.configWrite(0xa0 + (random() % 0x40), 1, random())
      return bus.mmio.read(MSIX + ((random() % 0x4000) & ~3), 4)
    default:
      bus.mmio.write(BASE + register, 1 << (random() % 3), small)
      return 0
  }
}

test('no sequence of accesses makes the card throw, or leave memory', (t) => {
  for (const seed of [1, 2, 3]) {
    const driver = new E1000eDriver()
    const random = words(seed * 0xe1000e)
    driver.start()
    for (let i = 0; i < STEPS / 3; i++) {
      const before = performance.now()
      const value = step(driver, random)
      if (!Number.isInteger(value) || value < 0) return t.fail(`step ${i} gave ${value}`)
      if (performance.now() - before > 2000) return t.fail(`step ${i} took too long`)
      if (driver.end.got.length > 1000) driver.end.got.length = 0
      if (driver.messages.length > 1000) driver.messages.length = 0
    }
    driver.card.close()
  }
  t.pass()
})

test('a card that is loaded goes on exactly like the one that was saved', (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const first = new E1000eDriver()
    const random = words(seed * 7919)
    first.start()
    for (let i = 0; i < 300; i++) step(first, random)
    first.link.setUp(true)
    const second = new E1000eDriver()
    second.ram.bytes.set(first.ram.bytes)
    second.clock.set(first.clock.nowNs())
    second.card.fn.load(structuredClone(first.card.fn.save()))
    second.card.load(structuredClone(first.card.save()))
    t.deepEqual(second.card.save(), first.card.save(), `seed ${seed}`)
    first.end.got.length = first.messages.length = second.messages.length = 0
    for (const { end } of [first, second]) end.room = Infinity
    const after = random()
    const again = [words(after), words(after)] as const
    for (let i = 0; i < 100; i++) {
      if (step(first, again[0]) !== step(second, again[1])) return t.fail(`seed ${seed} step ${i}`)
    }
    t.deepEqual(second.sent, first.sent)
    t.deepEqual(second.messages, first.messages)
    t.is(Buffer.compare(second.ram.bytes, first.ram.bytes), 0)
    for (const { card } of [first, second]) card.close()
  }
})

test('a state that no card has is refused, and nothing else is thrown', (t) => {
  const driver = new E1000eDriver()
  driver.start()
  const good = driver.card.save() as unknown as Record<string, unknown>
  const bad: unknown[] = [undefined, 7, {}]
  for (const key of Object.keys(good)) {
    for (const value of [undefined, -2, Number.NaN, 'x', [3], {}])
      bad.push({ ...good, [key]: value })
  }
  const interrupts = good['interrupts'] as Record<string, unknown>
  for (const key of Object.keys(interrupts)) {
    bad.push({ ...good, interrupts: { ...interrupts, [key]: 'x' } })
  }
  bad.push({ ...good, registers: [0x2808, 0x1f] }, { ...good, registers: [0x4444, 1] })
  for (const state of bad) {
    try {
      driver.card.load(state)
      t.fail(`taken: ${JSON.stringify(state).slice(0, 200)}`)
    } catch (error) {
      t.true(error instanceof VmmError, String(error))
    }
  }
  driver.card.load(good)
  driver.card.close()
})
