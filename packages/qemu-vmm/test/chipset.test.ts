import test from 'ava'

import { AcpiPm, PM_TIMER_HZ } from '../src/chipset/acpi-pm.ts'
import { I8042 } from '../src/chipset/i8042.ts'
import { DmaControllers } from '../src/chipset/i8237.ts'
import { Rtc } from '../src/chipset/rtc.ts'
import { Port92, ResetControl } from '../src/chipset/small-ports.ts'
import { HostClock, ManualClock } from '../src/machine/clock.ts'
import { cmosRead, cmosWrite } from './support/cmos.ts'
import { FakeIrq } from './support/fakes.ts'

const SECOND_NS = 1e9

function createRtc(iso: string): { rtc: Rtc; irq: FakeIrq; clock: ManualClock } {
  const irq = new FakeIrq()
  const clock = new ManualClock(Date.parse(iso))
  const rtc = new Rtc(irq, clock)
  return { rtc, irq, clock }
}

test('rtc: shows the date in BCD, and in binary and 12 hours when asked', (t) => {
  const { rtc, clock } = createRtc('2024-12-31T23:59:58Z')
  const registers = [0, 2, 4, 6, 7, 8, 9, 0x32]
  t.deepEqual(
    registers.map((r) => cmosRead(rtc, r)),
    [0x58, 0x59, 0x23, 0x03, 0x31, 0x12, 0x24, 0x20],
  )
  clock.advance(2 * SECOND_NS)
  t.deepEqual(
    registers.map((r) => cmosRead(rtc, r)),
    [0x00, 0x00, 0x00, 0x04, 0x01, 0x01, 0x25, 0x20],
  )
  cmosWrite(rtc, 0x0b, 0x04)
  t.is(cmosRead(rtc, 4), 12, 'midnight')
  clock.advance(13 * 3600 * SECOND_NS)
  t.is(cmosRead(rtc, 4), 0x81, 'one in the afternoon')
  t.is(cmosRead(rtc, 9), 25)
})

test('rtc: shows another time when told so, and goes on from there', (t) => {
  const { rtc, clock } = createRtc('2024-01-01T00:00:00Z')
  rtc.setNow(Date.parse('2006-06-17T16:01:21Z'))
  clock.advance(2 * SECOND_NS)
  const registers = [9, 8, 7, 4, 2, 0]
  t.deepEqual(
    registers.map((r) => cmosRead(rtc, r)),
    [0x06, 0x06, 0x17, 0x16, 0x01, 0x23],
  )
  // No update cycle is told of for the years between.
  t.is(cmosRead(rtc, 0x0c) & 0x10, 0x10)
  t.is(cmosRead(rtc, 0x0c), 0)
})

test('rtc: update in progress shows for the last 244 us of a second', (t) => {
  const { rtc, clock } = createRtc('2024-01-01T00:00:00Z')
  t.is(cmosRead(rtc, 0x0a) & 0x80, 0)
  clock.advance(SECOND_NS - 200_000)
  t.is(cmosRead(rtc, 0x0a) & 0x80, 0x80)
  clock.advance(300_000)
  t.is(cmosRead(rtc, 0x0a) & 0x80, 0)
})

test('rtc: time can be set while updates are stopped', (t) => {
  const { rtc, clock } = createRtc('2024-01-01T00:00:00Z')
  cmosWrite(rtc, 0x0b, 0x82)
  for (const [index, value] of [
    [0, 0x30],
    [2, 0x15],
    [4, 0x12],
    [7, 0x29],
    [8, 0x02],
    [9, 0x28],
  ] as const) {
    cmosWrite(rtc, index, value)
  }
  clock.advance(5 * SECOND_NS)
  t.is(cmosRead(rtc, 0), 0x30, 'stopped')
  cmosWrite(rtc, 0x0b, 0x02)
  clock.advance(40 * SECOND_NS)
  t.deepEqual(
    [0, 2, 4, 7, 8, 9].map((r) => cmosRead(rtc, r)),
    [0x10, 0x16, 0x12, 0x29, 0x02, 0x28],
  )
})

test('rtc: update, alarm and periodic interrupts', (t) => {
  const { rtc, irq, clock } = createRtc('2024-01-01T10:20:29.500Z')
  cmosWrite(rtc, 0x0b, 0x12)
  clock.advance(SECOND_NS)
  t.is(irq.edges, 1)
  t.is(cmosRead(rtc, 0x0c), 0x90)
  t.is(cmosRead(rtc, 0x0c), 0, 'reading clears')
  t.false(irq.level)

  cmosWrite(rtc, 1, 0x33)
  cmosWrite(rtc, 3, 0xff)
  cmosWrite(rtc, 5, 0x10)
  cmosWrite(rtc, 0x0b, 0x22)
  clock.advance(2 * SECOND_NS)
  t.false(irq.level)
  clock.advance(SECOND_NS)
  t.true(irq.level)
  t.is(cmosRead(rtc, 0x0c) & 0xa0, 0xa0)

  cmosWrite(rtc, 0x0b, 0x42)
  const before = irq.edges
  for (let i = 0; i < 1024; i++) {
    clock.advance(Math.ceil(SECOND_NS / 1024))
    cmosRead(rtc, 0x0c)
  }
  t.true(Math.abs(irq.edges - before - 1024) <= 1, `${irq.edges - before} of 1024`)
})

test('rtc: the pin falls when the guest turns off the interrupt that holds it', (t) => {
  const { rtc, irq, clock } = createRtc('2024-01-01T10:20:29.500Z')
  cmosWrite(rtc, 0x0b, 0x12)
  clock.advance(SECOND_NS)
  t.true(irq.level)
  cmosWrite(rtc, 0x0b, 0x02)
  t.false(irq.level)
  t.is(cmosRead(rtc, 0x0c), 0x10, 'the flag stays, without IRQF')
})

test('rtc: flags are right without interrupts, also after a long time', (t) => {
  const { rtc, clock } = createRtc('2024-01-01T00:00:00Z')
  cmosRead(rtc, 0x0c)
  cmosWrite(rtc, 1, 0x00)
  cmosWrite(rtc, 3, 0x30)
  cmosWrite(rtc, 5, 0x06)
  clock.advance(3600 * SECOND_NS)
  t.is(cmosRead(rtc, 0x0c), 0x10, 'updated, not yet half past six')
  clock.advance(23 * 3600 * SECOND_NS)
  t.is(cmosRead(rtc, 0x0c), 0x30)
})

function createI8042(): { i8042: I8042; kbd: FakeIrq; aux: FakeIrq; resets: () => number } {
  const kbd = new FakeIrq()
  const aux = new FakeIrq()
  let resets = 0
  const i8042 = new I8042({
    keyboardIrq: kbd,
    mouseIrq: aux,
    reset() {
      resets++
    },
  })
  return { i8042, kbd, aux, resets: () => resets }
}

function drain(i8042: I8042): number[] {
  const bytes: number[] = []
  while (i8042.read(4) & 1) bytes.push(i8042.read(0))
  return bytes
}

test('i8042: the probe sequence of Linux finds keyboard and mouse ports', (t) => {
  const { i8042, aux } = createI8042()
  const command = (byte: number, ...data: number[]): number[] => {
    i8042.write(4, 1, byte)
    for (const value of data) i8042.write(0, 1, value)
    return drain(i8042)
  }
  t.deepEqual(drain(i8042), [])
  t.deepEqual(command(0xaa), [0x55])
  t.deepEqual(command(0x20), [0x03])
  t.deepEqual(command(0xab), [0x00])
  t.deepEqual(command(0xa9), [0x00])
  command(0xa7)
  t.is(command(0x20)[0]! & 0x20, 0x20)
  command(0xa8)
  t.is(command(0x20)[0]! & 0x20, 0)
  command(0x60, 0x02)
  i8042.write(4, 1, 0xd3)
  i8042.write(0, 1, 0x5a)
  t.is(i8042.read(4) & 0x21, 0x21, 'the looped byte comes from the mouse port')
  t.true(aux.level)
  t.is(i8042.read(0), 0x5a)
  t.false(aux.level)
})

test('i8042: keyboard identifies itself, translated and untranslated', (t) => {
  const { i8042, kbd } = createI8042()
  i8042.write(4, 1, 0x60)
  i8042.write(0, 1, 0x01)
  i8042.write(0, 1, 0xf2)
  t.true(kbd.level)
  t.deepEqual(drain(i8042), [0xfa, 0xab, 0x83])
  t.is(kbd.edges, 3, 'an edge for each byte')
  i8042.write(0, 1, 0xff)
  t.deepEqual(drain(i8042), [0xfa, 0xaa])
  i8042.write(0, 1, 0xee)
  t.deepEqual(drain(i8042), [0xee])
  i8042.write(4, 1, 0x60)
  i8042.write(0, 1, 0x41)
  i8042.write(0, 1, 0xf2)
  t.deepEqual(drain(i8042), [0xfa, 0xab, 0x41])
  t.true(i8042.keyboard.sendScancodes(0x1c, 0xf0, 0x1c))
  t.deepEqual(drain(i8042), [0x1e, 0x9e], 'the A key in set 1')
  t.true(i8042.keyboard.sendScancodes(0xe0, 0x75))
  t.deepEqual(drain(i8042), [0xe0, 0x48], 'cursor up')
})

test('i8042: the mouse becomes an Explorer mouse by its knock', (t) => {
  const { i8042 } = createI8042()
  const mouse = (byte: number): number[] => {
    i8042.write(4, 1, 0xd4)
    i8042.write(0, 1, byte)
    return drain(i8042)
  }
  t.deepEqual(mouse(0xff), [0xfa, 0xaa, 0x00])
  for (const rate of [200, 200, 80]) {
    mouse(0xf3)
    mouse(rate)
  }
  t.deepEqual(mouse(0xf2), [0xfa, 0x04])
  t.false(i8042.mouse.move(1, 1, 0, 0), 'reporting is off')
  mouse(0xf4)
  t.true(i8042.mouse.move(5, -3, 1, 1))
  t.deepEqual(drain(i8042), [0x29, 5, 0xfd, 1])
})

test('i8042: reset pulse, output port and disabled interfaces', (t) => {
  const { i8042, resets } = createI8042()
  i8042.write(4, 1, 0xff)
  t.is(resets(), 0)
  i8042.write(4, 1, 0xfe)
  t.is(resets(), 1)
  i8042.write(4, 1, 0xd1)
  i8042.write(0, 1, 0x02)
  t.is(resets(), 2)
  i8042.write(4, 1, 0xad)
  i8042.keyboard.sendScancodes(0x1c)
  t.deepEqual(drain(i8042), [], 'the interface is off')
  i8042.write(4, 1, 0xae)
  t.is(drain(i8042).length, 1)
})

test('port 92 and 0xcf9 reset on their bit only', (t) => {
  let resets = 0
  const port92 = new Port92(() => resets++)
  port92.write(0, 1, 0x02)
  t.is(resets, 0)
  port92.write(0, 1, 0x03)
  t.is(resets, 1)
  const kinds: boolean[] = []
  const control = new ResetControl((hard) => kinds.push(hard))
  control.write(0, 1, 0x02)
  t.is(control.read(), 0x02)
  control.write(0, 1, 0x06)
  control.write(0, 1, 0x04)
  t.deepEqual(kinds, [true, false])
})

test('acpi: the timer runs at 3.579545 MHz and wraps at 24 bits', (t) => {
  const clock = new ManualClock()
  const pm = new AcpiPm(new FakeIrq(), clock, {
    powerOff() {},
    suspend() {},
    wake() {},
  })
  clock.advance(SECOND_NS)
  t.is(pm.pm1.read(8, 4), PM_TIMER_HZ)
  clock.advance(4 * SECOND_NS)
  t.is(pm.pm1.read(8, 4), (5 * PM_TIMER_HZ) % 2 ** 24)
})

test('acpi: enable, power button, timer overflow and soft-off', (t) => {
  const sci = new FakeIrq()
  const clock = new ManualClock()
  let isOff = false
  const pm = new AcpiPm(sci, clock, {
    powerOff() {
      isOff = true
    },
    suspend() {},
    wake() {},
  })
  pm.pressPowerButton()
  t.false(sci.level, 'not in ACPI mode')
  t.is(pm.pm1.read(4, 2) & 1, 0)
  pm.apm.write(0, 1, 0xf1)
  t.is(pm.pm1.read(4, 2) & 1, 1)
  pm.pm1.write(2, 2, 0x0100)
  t.true(sci.level)
  t.is(pm.pm1.read(0, 2) & 0x100, 0x100)
  pm.pm1.write(0, 2, 0x0100)
  t.false(sci.level)
  pm.pm1.write(0, 2, 0xffff)
  pm.pm1.write(2, 2, 0x0001)
  clock.advance(3 * SECOND_NS)
  t.true(sci.level, 'the top bit has changed')
  pm.pm1.write(0, 2, 0x0001)
  t.false(sci.level)
  pm.pm1.write(4, 2, 0x2401)
  t.false(isOff, 'another sleep type')
  pm.pm1.write(4, 2, 0x2001)
  t.true(isOff)
  pm.apm.write(0, 1, 0xf0)
  t.is(pm.pm1.read(4, 2) & 1, 0)
})

test('dma: address, count and page registers hold what drivers write', (t) => {
  const dma = new DmaControllers()
  dma.write(0x0c, 1, 0)
  dma.write(0x04, 1, 0x34)
  dma.write(0x04, 1, 0x12)
  dma.write(0x81, 1, 0x0f)
  dma.write(0x0c, 1, 0)
  t.is(dma.read(0x04) | (dma.read(0x04) << 8), 0x1234)
  t.is(dma.read(0x81), 0x0f)
  dma.write(0xd4, 1, 0x00)
  t.is(dma.read(0xde) & 0x0f, 0x0e)
})

test('acpi: suspend to RAM ends by the button, or an alarm that is enabled', (t) => {
  const clock = new ManualClock(Date.parse('2024-01-01T00:00:00.500Z'))
  const seen: string[] = []
  const pm = new AcpiPm(new FakeIrq(), clock, {
    powerOff: () => seen.push('off'),
    suspend: () => seen.push('suspend'),
    wake: () => seen.push('wake'),
  })
  const rtc = new Rtc(new FakeIrq(), clock)
  rtc.onAlarm = () => pm.rtcAlarm()
  for (const register of [1, 3, 5]) cmosWrite(rtc, register, 0xc0)
  cmosWrite(rtc, 0x0b, 0x22)
  clock.advance(SECOND_NS)
  t.deepEqual(seen, [], 'an alarm while awake')
  const sleep = (): void => pm.pm1.write(4, 2, (1 << 10) | 0x2000)
  sleep()
  clock.advance(2 * SECOND_NS)
  t.deepEqual(seen, ['suspend'], 'the alarm is not enabled')
  t.is(pm.save().sleeping, true)
  pm.pm1.write(2, 2, 0x0400)
  clock.advance(SECOND_NS)
  t.deepEqual(seen, ['suspend', 'wake'])
  const cause = pm.wakeCause
  pm.reset()
  pm.woken(cause)
  t.is(pm.pm1.read(0, 2) & 0x8400, 0x8400)
  pm.pm1.write(0, 2, 0x8400)
  t.is(pm.pm1.read(0, 2) & 0x8400, 0)
  sleep()
  pm.pressPowerButton()
  t.deepEqual(seen, ['suspend', 'wake', 'suspend', 'wake'])
})

test('rtc: a guest that waits for the end of a second sees it coming on the host clock', (t) => {
  const clock = new HostClock()
  const fractions = Array.from({ length: 1000 }, () => clock.wallMs() % 1)
  t.true(new Set(fractions).size > 1)
  t.true(Math.abs(clock.wallMs() - Date.now()) <= 3)
})

test('rtc: tells by how much the guest has set it ahead of what it began with', (t) => {
  const { rtc, clock } = createRtc('2024-01-01T00:00:00Z')
  const told: number[] = []
  rtc.onSet = (seconds) => told.push(seconds)
  rtc.setNow(Date.parse('2030-06-01T12:00:00Z'))
  t.deepEqual(told, [], 'the board is not the guest')
  clock.advance(10 * SECOND_NS)
  cmosWrite(rtc, 4, 0x14)
  t.deepEqual(told, [7200])
  // As drivers do: stopped, several registers, on again.
  cmosWrite(rtc, 0x0b, 0x82)
  cmosWrite(rtc, 4, 0x11)
  cmosWrite(rtc, 2, 0x59)
  t.is(told.length, 1)
  cmosWrite(rtc, 0x0b, 0x02)
  t.deepEqual(told, [7200, -60])
})
