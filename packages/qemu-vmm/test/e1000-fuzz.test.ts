// A hostile driver of the e1000: any register, any descriptor, and frames in between.
import test from 'ava'
import { batchOf } from 'virtio/testing'
import { VmmError } from '../src/errors.ts'
import { E1000Driver, frameOf } from './support/e1000-driver.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 20_000 : 400_000
/** Registers that random offsets would seldom be. */
const REGISTERS = [
  0x0000, 0x0008, 0x0010, 0x0014, 0x0020, 0x0038, 0x00c0, 0x00c4, 0x00c8, 0x00d0, 0x00d8, 0x0100,
  0x0400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x40c0,
]

/** One access, or a frame. */
function step(driver: E1000Driver, random: () => number): number {
  const { bus } = driver
  const register = random() % 4 === 0 ? random() % 0x2_0000 : REGISTERS[random() % 24]!
  const small = random() % 3 === 0 ? random() : random() % 0x400
  switch (random() % 8) {
    case 0:
      return bus.mmio.read(0xfebc_0000 + register, 1 << (random() % 3))
    case 1:
      // The rings and the context of segments, so that something happens.
      driver.ram.bytes[0x1000 + (random() % 0x2000)] = random()
      return 0
    case 2:
      driver.link.a.send(batchOf(frameOf(14 + (random() % 3000))))
      return 0
    case 3:
      if (random() % 64 === 0) driver.start(random())
      driver.end.room = random() % 8 === 0 ? 0 : Infinity
      driver.link.a.ready()
      return 0
    case 4:
      if (random() % 64 === 0) driver.link.setUp(random() % 2 === 0)
      driver.clock.advance(random() % 1e8)
      return 0
    case 5:
      driver.set(0x400, 2)
      driver.set(0x3818, random() % 16)
      return 0
    default:
      bus.mmio.write(0xfebc_0000 + register, 1 << (random() % 3), small)
      return 0
  }
}

test('no sequence of accesses makes the card throw, or leave memory', (t) => {
  for (const seed of [1, 2, 3]) {
    const driver = new E1000Driver()
    const random = words(seed * 0xe1000)
    driver.start()
    for (let i = 0; i < STEPS / 3; i++) {
      const before = performance.now()
      const value = step(driver, random)
      if (!Number.isInteger(value) || value < 0) return t.fail(`step ${i} gave ${value}`)
      if (performance.now() - before > 2000) return t.fail(`step ${i} took too long`)
      if (driver.end.got.length > 1000) driver.end.got.length = 0
    }
    driver.card.close()
  }
  t.pass()
})

test('a card that is loaded goes on exactly like the one that was saved', (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const first = new E1000Driver()
    const random = words(seed * 7919)
    first.start()
    for (let i = 0; i < 300; i++) step(first, random)
    first.link.setUp(true)
    const second = new E1000Driver()
    second.ram.bytes.set(first.ram.bytes)
    second.clock.set(first.clock.nowNs())
    for (const [at, byte] of first.card.fn.save().config.entries()) {
      second.card.fn.config.data[at] = byte
    }
    second.card.load(structuredClone(first.card.save()))
    t.deepEqual(second.card.save(), first.card.save(), `seed ${seed}`)
    first.end.got.length = 0
    for (const { end } of [first, second]) end.room = Infinity
    const after = random()
    const again = [words(after), words(after)] as const
    for (let i = 0; i < 100; i++) {
      if (step(first, again[0]) !== step(second, again[1])) return t.fail(`seed ${seed} step ${i}`)
    }
    t.deepEqual(second.sent, first.sent)
    t.is(Buffer.compare(second.ram.bytes, first.ram.bytes), 0)
    for (const { card } of [first, second]) card.close()
  }
})

test('a state that no card has is refused, and nothing else is thrown', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.frame(frameOf(100))
  driver.end.room = 0
  driver.send([0x8_0000, 0, 0x0100_0064, 0], [0x8_0000, 0, 50, 0])
  const good = driver.card.save() as unknown as Record<string, unknown>
  const bad: unknown[] = [undefined, 7, {}]
  for (const key of Object.keys(good)) {
    for (const value of [undefined, -2, Number.NaN, 'x', [3], {}])
      bad.push({ ...good, [key]: value })
  }
  const transmit = good['transmit'] as Record<string, unknown>
  for (const key of Object.keys(transmit)) {
    for (const value of [undefined, -2, 'x', new Uint8Array(70_000)]) {
      bad.push({ ...good, transmit: { ...transmit, [key]: value } })
    }
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
