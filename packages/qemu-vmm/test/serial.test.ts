import test from 'ava'

import { SerialPort } from '../src/chipset/serial-port.ts'
import type { SerialBackend } from '../src/chipset/serial-port.ts'
import { Uart16550 } from '../src/chipset/uart16550.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { FakeIrq } from './support/fakes.ts'

const SECOND_NS = 1e9

function createUart(): {
  uart: Uart16550
  irq: FakeIrq
  clock: ManualClock
  out: number[]
  link: { isReady: boolean; readable: number }
} {
  const irq = new FakeIrq()
  const clock = new ManualClock()
  const out: number[] = []
  const link = { isReady: true, readable: 0 }
  const uart = new Uart16550(irq, clock, {
    transmit(byte) {
      if (link.isReady) out.push(byte)
      return link.isReady
    },
    readable() {
      link.readable++
    },
  })
  return { uart, irq, clock, out, link }
}

test('uart: a driver that probes finds a 16550A', (t) => {
  const { uart } = createUart()
  uart.write(1, 1, 0xff)
  t.is(uart.read(1), 0x0f, 'only four interrupts exist')
  uart.write(1, 1, 0)
  uart.write(7, 1, 0x5a)
  t.is(uart.read(7), 0x5a)
  uart.write(2, 1, 0x01)
  t.is(uart.read(2), 0xc1, 'both FIFO bits, no interrupt')
  uart.write(2, 1, 0x00)
  t.is(uart.read(2), 0x01)
  t.is(uart.read(5), 0x60, 'transmitter empty')
  t.is(uart.read(6), 0xb0, 'carrier, data set ready, clear to send')
})

test('uart: the divisor latch hides data and interrupt enable', (t) => {
  const { uart, out } = createUart()
  uart.write(3, 1, 0x83)
  uart.write(0, 1, 0x01)
  uart.write(1, 1, 0x02)
  t.is(uart.read(0), 0x01)
  t.is(uart.read(1), 0x02)
  uart.write(3, 1, 0x03)
  t.is(uart.read(1), 0)
  uart.write(0, 1, 0x41)
  t.deepEqual(out, [0x41])
})

test('uart: transmit-empty interrupts on enabling, and again after each burst', (t) => {
  const { uart, irq } = createUart()
  uart.write(1, 1, 0x02)
  t.true(irq.level, 'enabling with an empty holding register raises it')
  t.is(uart.read(2), 0x02)
  t.false(irq.level, 'reading the cause acknowledges it')
  t.is(uart.read(2), 0x01)
  uart.write(0, 1, 0x41)
  t.true(irq.level)
  uart.write(1, 1, 0x00)
  t.false(irq.level)
  uart.write(1, 1, 0x02)
  t.true(irq.level, 'switching it off and on raises it again')
})

test('uart: receives with and without FIFO, reports overruns once', (t) => {
  const { uart, irq } = createUart()
  uart.write(1, 1, 0x05)
  t.is(uart.room, 1)
  uart.receive(Uint8Array.of(1))
  t.is(uart.room, 0)
  t.is(uart.read(2), 0x04)
  uart.receive(Uint8Array.of(2))
  t.is(uart.read(2), 0x06, 'line status comes first')
  t.is(uart.read(5) & 0x03, 0x03)
  t.is(uart.read(5) & 0x02, 0, 'reading cleared the overrun')
  t.is(uart.read(0), 2)
  t.false(irq.level)

  uart.write(2, 1, 0x41)
  t.is(uart.room, 4, 'up to the trigger level at once')
  uart.receive(Uint8Array.from({ length: 17 }, (_, i) => i))
  t.is(uart.read(5) & 0x02, 0x02, 'the seventeenth byte is an overrun')
  const got: number[] = []
  while (uart.read(5) & 1) got.push(uart.read(0))
  t.deepEqual(
    got,
    Array.from({ length: 16 }, (_, i) => i),
  )
})

test('uart: a part-filled FIFO interrupts by trigger level, then by time-out', (t) => {
  const { uart, irq, clock } = createUart()
  uart.write(2, 1, 0x81)
  uart.write(1, 1, 0x01)
  uart.write(3, 1, 0x03)
  uart.receive(new Uint8Array(7))
  t.false(irq.level)
  clock.advance(4 * 10 * (SECOND_NS / 9600) - 1000)
  t.false(irq.level)
  clock.advance(2000)
  t.true(irq.level)
  t.is(uart.read(2), 0xcc)
  uart.read(0)
  t.false(irq.level)
  uart.receive(new Uint8Array(2))
  t.is(uart.read(2), 0xc4, 'eight bytes reach the trigger level')
})

test('uart: loopback connects transmitter to receiver and outputs to inputs', (t) => {
  const { uart, out } = createUart()
  uart.write(4, 1, 0x10)
  uart.write(0, 1, 0x77)
  t.is(uart.read(5) & 1, 1)
  t.is(uart.read(0), 0x77)
  t.deepEqual(out, [])
  for (const [mcr, msr] of [
    [0x11, 0x20],
    [0x12, 0x10],
    [0x14, 0x40],
    [0x18, 0x80],
  ] as const) {
    uart.write(4, 1, mcr)
    t.is(uart.read(6), msr)
  }
  t.is(uart.room, 0, 'the line is cut off')
})

test('uart: keeps bytes while the far end is busy, and goes on later', (t) => {
  const { uart, irq, out, link } = createUart()
  uart.write(2, 1, 0x01)
  uart.write(1, 1, 0x02)
  uart.read(2)
  link.isReady = false
  for (const byte of [1, 2, 3]) uart.write(0, 1, byte)
  t.is(uart.read(5) & 0x60, 0, 'holding register and transmitter are busy')
  t.false(irq.level)
  link.isReady = true
  uart.resumeTransmit()
  t.deepEqual(out, [1, 2, 3])
  t.is(uart.read(5) & 0x60, 0x60)
  t.true(irq.level)
})

test('uart: a break is a zero byte with its own status', (t) => {
  const { uart, irq } = createUart()
  uart.write(1, 1, 0x04)
  uart.receiveBreak()
  t.true(irq.level)
  t.is(uart.read(5) & 0x11, 0x11)
  t.is(uart.read(5) & 0x10, 0)
  t.is(uart.read(0), 0)
})

test('serial port: collects a burst into one write and respects a full backend', async (t) => {
  const writes: string[] = []
  let accepts = true
  const backend: SerialBackend = {
    write(data) {
      if (accepts) writes.push(Buffer.from(data).toString())
      return accepts
    },
    close() {},
  }
  const { uart } = new SerialPort(new FakeIrq(), new ManualClock(), backend)
  for (const char of 'hello') uart.write(0, 1, char.charCodeAt(0))
  await Promise.resolve()
  t.deepEqual(writes, ['hello'])
  accepts = false
  for (let i = 0; i < 4096 + 1; i++) uart.write(0, 1, 0x78)
  t.is(uart.read(5) & 0x20, 0, 'the driver sees a busy transmitter')
  accepts = true
  backend.onWritable?.()
  await Promise.resolve()
  t.is(writes.join('').length, 5 + 4096 + 1)
  t.is(uart.read(5) & 0x20, 0x20)
})

test('serial port: the guest runs on behind its bytes while there is room for all that it may post', async (t) => {
  const gate: boolean[] = []
  let accepts = true
  let taken = 0
  const backend: SerialBackend = {
    write(data) {
      if (accepts) taken += data.length
      return accepts
    },
    close() {},
  }
  const posted = (isOpen: boolean): void => void gate.push(isOpen)
  const port = new SerialPort(new FakeIrq(), new ManualClock(), backend, undefined, posted)
  const { uart } = port
  t.deepEqual(gate, [true])
  accepts = false
  let sent = 0
  while (gate.length === 1) {
    uart.write(0, 1, 0x78)
    t.is(uart.read(5) & 0x60, 0x60, 'a guest that looked is not told to wait for what it may post')
    t.true(++sent <= 4096)
  }
  t.deepEqual(gate, [true, false])
  // As many are on their way still, at most, as a ring of posted writes has.
  for (let i = 0; i < 256; i++) uart.write(0, 1, 0x79)
  t.is(uart.read(5) & 0x60, 0x60, 'none of them was without room')
  accepts = true
  backend.onWritable?.()
  await Promise.resolve()
  t.is(taken, sent + 256)
  t.deepEqual(gate, [true, false, true])
  port.close()
  uart.write(4, 1, 0x10)
  t.is(gate.length, 3, 'nobody asks a machine that is gone')
})

test('serial port: the guest waits for its bytes while they come back to it', (t) => {
  const gate: boolean[] = []
  const posted = (isOpen: boolean): void => void gate.push(isOpen)
  const port = new SerialPort(new FakeIrq(), new ManualClock(), undefined, undefined, posted)
  const { uart } = port
  uart.write(4, 1, 0x10)
  t.deepEqual(gate, [true, false])
  const looped = uart.save()
  uart.write(4, 1, 0x0b)
  t.deepEqual(gate, [true, false, true])
  uart.load(looped)
  t.deepEqual(gate, [true, false, true, false], 'also where a state says so')
  uart.reset()
  t.deepEqual(gate, [true, false, true, false, true])
})
