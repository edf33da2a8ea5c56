import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { HpetFixture } from './support/hpet-fixture.ts'
import { words } from './support/random.ts'

const ENABLE = 1
const LEGACY = 2
const TN_LEVEL = 0x02
const TN_ENABLE = 0x04
const TN_PERIODIC = 0x08
const TN_SETVAL = 0x40
const TN_32BIT = 0x100
const TN_FSB = 0x4000
const route = (gsi: number): number => gsi << 9

test('identification: three comparators, 100 MHz, legacy replacement, as QEMU has it', (t) => {
  const { hpet } = new HpetFixture()
  t.is(hpet.read(0x000, 4), 0x8086_a201)
  t.is(hpet.read(0x004, 4), 10_000_000)
  t.is(hpet.read(0x100, 4), 0x30)
  t.is(hpet.read(0x104, 4), 4)
  t.is(hpet.read(0x160, 4), 0, 'there is no fourth')
  const { hpet: more } = new HpetFixture(4, { timers: 8, msi: true })
  t.is(more.read(0x000, 4), 0x8086_a701)
  t.is(more.read(0x100 + 7 * 0x20, 4), 0x8030)
})

test('the counter counts while it is enabled, and can be set while it is not', (t) => {
  const f = new HpetFixture()
  f.clock.advance(1_000)
  t.is(f.counter, 0)
  f.hpet.write(0xf0, 4, 0xffff_fff0)
  f.hpet.write(0xf4, 4, 7)
  f.config(ENABLE)
  f.clock.advance(325)
  t.is(f.counter, 8 * 2 ** 32 + 16)
  f.config(0)
  f.clock.advance(10_000)
  t.is(f.counter, 8 * 2 ** 32 + 16)
  f.config(ENABLE)
  f.clock.advance(10)
  t.is(f.counter, 8 * 2 ** 32 + 17)
})

test('one shot: an edge when the comparator is reached, once', (t) => {
  const f = new HpetFixture(0xff_0104)
  f.timer(0, 0, TN_ENABLE | route(20))
  f.timer(0, 8, 100)
  f.timer(0, 12, 0)
  f.config(ENABLE)
  f.clock.advance(999)
  t.is(f.edges(20), 0)
  f.clock.advance(1)
  t.is(f.edges(20), 1)
  f.clock.advance(1e9)
  t.is(f.edges(20), 1)
})

test('one shot of 32 bits: the wrap of the counter interrupts too', (t) => {
  const f = new HpetFixture()
  f.hpet.write(0xf0, 4, 0xffff_ff00)
  f.timer(1, 0, TN_ENABLE | TN_32BIT | route(2))
  f.timer(1, 8, 0x100)
  f.config(ENABLE)
  f.clock.advance(0xff * 10)
  t.is(f.edges(2), 1)
  f.clock.advance(0x101 * 10)
  t.is(f.edges(2), 2)
})

test('periodic: the comparator moves by periods, and missed ones are one interrupt', (t) => {
  const f = new HpetFixture()
  f.timer(0, 0, TN_ENABLE | TN_PERIODIC | TN_SETVAL | TN_32BIT | route(2))
  f.timer(0, 8, 1000)
  t.is(f.hpet.read(0x100, 4) & TN_SETVAL, 0)
  f.timer(0, 8, 500)
  f.config(ENABLE)
  f.clock.advance(10_000)
  t.is(f.edges(2), 1)
  t.is(f.hpet.read(0x108, 4), 1500)
  f.clock.advance(20_000)
  t.is(f.edges(2), 5)
  t.is(f.counter, 3000)
  // The host was away.
  f.clock.set(f.clock.nowNs() + 1_000_000)
  f.clock.advance(0)
  t.is(f.edges(2), 6)
  t.is(f.hpet.read(0x108, 4), 103_500)
})

test('level: the status holds the line until it is cleared', (t) => {
  const f = new HpetFixture(0xff_0104)
  f.timer(2, 0, TN_ENABLE | TN_LEVEL | route(16))
  f.timer(2, 8, 10)
  f.timer(2, 12, 0)
  f.config(ENABLE)
  f.clock.advance(100)
  t.true(f.level(16))
  t.is(f.hpet.read(0x20, 4), 4)
  f.hpet.write(0x20, 4, 3)
  t.true(f.level(16))
  f.hpet.write(0x20, 4, 4)
  t.false(f.level(16))
  t.is(f.hpet.read(0x20, 4), 0)
})

test('legacy replacement: PIT and RTC are cut off, and come back', (t) => {
  const f = new HpetFixture()
  f.hpet.rtcLine.set(true)
  t.true(f.rtc.level)
  f.timer(0, 0, TN_ENABLE | route(2))
  f.timer(0, 8, 10)
  f.timer(0, 12, 0)
  f.timer(1, 0, TN_ENABLE | route(2))
  f.timer(1, 8, 20)
  f.timer(1, 12, 0)
  f.config(ENABLE | LEGACY)
  t.false(f.pitConnected)
  t.false(f.rtc.level)
  f.hpet.rtcLine.pulse()
  f.hpet.rtcLine.set(true)
  t.is(f.rtc.edges, 1)
  f.clock.advance(200)
  t.deepEqual([f.edges(0), f.edges(8), f.edges(2)], [1, 1, 0])
  f.config(ENABLE)
  t.true(f.pitConnected)
  t.true(f.rtc.level, 'as it is now')
  f.config(ENABLE | LEGACY)
  f.hpet.reset()
  t.true(f.pitConnected)
})

test('messages in place of interrupts', (t) => {
  const f = new HpetFixture(4, { msi: true })
  f.timer(0, 0, TN_ENABLE | TN_FSB)
  f.timer(0, 0x10, 0x4041)
  f.timer(0, 0x14, 0xfee0_1000)
  f.timer(0, 8, 10)
  f.timer(0, 12, 0)
  f.config(ENABLE)
  f.clock.advance(100)
  t.deepEqual(f.messages, [[0xfee0_1000, 0x4041]])
  t.is(f.edges(0), 0)
})

function access(f: HpetFixture, random: () => number): number {
  const register = random() % 2 === 0 ? random() & 0x3ff : 0x100 + (random() & 0x7c)
  const kind = random() % 8
  if (kind === 0) f.clock.advance(random() % 1_000_000)
  else if (kind === 1) f.config(random())
  else if (kind < 4) return f.hpet.read(register, 1 << (random() % 3))
  // Fast periods are for another test: here they only take time.
  else f.hpet.write(register, 4, (random() | ((register & 0x1c) === 8 ? 0x1000 : 0)) >>> 0)
  return 0
}

test('no sequence of accesses makes it throw or hang, or read what is no register', (t) => {
  const random = words(0x4937)
  const f = new HpetFixture(0xff_0104, { timers: 4, msi: true })
  for (let i = 0; i < 50_000; i++) {
    const value = access(f, random)
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
      return t.fail(`${i}: ${value}`)
    if (f.messages.length > 1000) f.messages.length = 0
  }
  t.pass()
})

test('a loaded timer block goes on exactly like the one that was saved', (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const [first, second] = [new HpetFixture(0xff_0104), new HpetFixture(0xff_0104)]
    const random = words(seed * 977)
    for (let i = 0; i < 200; i++) access(first, random)
    second.clock.set(first.clock.nowNs())
    second.hpet.load(structuredClone(first.hpet.save()))
    t.deepEqual(second.hpet.save(), first.hpet.save())
    const start = [first, second].map((f) => [...f.lines.values()].map((line) => line.edges))
    const again = [words(~seed), words(~seed)] as const
    for (let i = 0; i < 200; i++) {
      const values = [access(first, again[0]), access(second, again[1])]
      if (values[0] !== values[1]) return t.fail(`seed ${seed}, step ${i}`)
    }
    t.deepEqual(second.hpet.save(), first.hpet.save())
    const [a, b] = [first, second].map((f, k) =>
      [...f.lines.values()].map((line, gsi) => line.edges - start[k]![gsi]!),
    )
    t.deepEqual(a, b)
  }
})

test('damaged states are refused by name', (t) => {
  const { hpet } = new HpetFixture()
  const good = hpet.save()
  const timers = [{ ...good.timers[0]!, config: -1 }]
  for (const bad of [
    null,
    {},
    { ...good, config: 'x' },
    { ...good, timers },
    { ...good, timers: [7] },
  ]) {
    const error = t.throws(() => hpet.load(bad as never), { instanceOf: VmmError })
    t.is(error.code, 'E_STATE')
  }
})
