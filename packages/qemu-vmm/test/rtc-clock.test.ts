import test from 'ava'

import { Rtc } from '../src/chipset/rtc.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { rtcOptions, rtcStart } from '../src/machine/rtc-setup.ts'
import { cmosRead, cmosWrite } from './support/cmos.ts'
import { FakeIrq } from './support/fakes.ts'

const SECOND_NS = 1e9

test('rtc: interrupts that the guest was too late for follow, if they are to', (t) => {
  for (const catchesUp of [false, true]) {
    const clock = new ManualClock(Date.parse('2024-01-01T10:20:29.500Z'))
    const irq = new FakeIrq()
    const rtc = new Rtc(irq, clock, { catchesUp })
    cmosWrite(rtc, 0x0b, 0x42)
    clock.advance(50.5 * (SECOND_NS / 1024))
    t.is(irq.edges, 1, 'the guest has seen none of fifty')
    let seen = 0
    while ((cmosRead(rtc, 0x0c) & 0x40) !== 0) seen++
    t.is(seen, catchesUp ? 21 : 1, 'then the guest gets time for something else')
    const saved = rtc.save()
    const other = new Rtc(new FakeIrq(), clock, { catchesUp })
    other.load(saved)
    for (let i = 0; i < 3; i++) {
      clock.advance(SECOND_NS / 1024)
      while ((cmosRead(other, 0x0c) & 0x40) !== 0) seen++
    }
    t.is(seen, catchesUp ? 53 : 4)
    cmosWrite(rtc, 0x0b, 0x02)
    cmosWrite(rtc, 0x0b, 0x42)
    clock.advance(SECOND_NS / 1024)
    t.is(cmosRead(rtc, 0x0c) & 0x40, 0x40)
    t.is(cmosRead(rtc, 0x0c) & 0x40, 0, 'turned off, nothing is owed')
  }
})

test('rtc: it follows the clock that it is told', (t) => {
  const clock = new ManualClock(Date.parse('2024-01-01T10:20:29.500Z'))
  const seconds = (rtcClock: 'host' | 'rt' | 'vm'): (() => number) => {
    const machine = { machine: { type: 'pc', options: { rtcClock } } } as const
    const rtc = new Rtc(new FakeIrq(), clock, rtcOptions(machine, clock))
    const base = rtcStart(machine, clock)
    if (base !== undefined) rtc.setNow(base)
    return () => cmosRead(rtc, 0)
  }
  const [host, rt, vm] = [seconds('host'), seconds('rt'), seconds('vm')]
  t.deepEqual([host(), rt(), vm()], [0x29, 0x29, 0x29], 'all begin with the time of day')
  clock.advance(5 * SECOND_NS)
  t.deepEqual([host(), rt(), vm()], [0x34, 0x29, 0x34], 'the test does not move the steady clock')
})
