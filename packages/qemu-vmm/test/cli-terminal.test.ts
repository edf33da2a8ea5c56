import { EventEmitter } from 'node:events'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { ByteQueue } from '../src/chardev/byte-queue.ts'
import type { Chardev } from '../src/chardev/chardev.ts'
import { FileChardev } from '../src/chardev/file.ts'
import { Mux } from '../src/chardev/mux.ts'
import { NullChardev } from '../src/chardev/null.ts'
import { StdioChardev } from '../src/chardev/stdio.ts'
import type { ByteInput, ByteOutput } from '../src/chardev/stdio.ts'
import { Bus } from '../src/machine/bus.ts'
import { logGuestErrors } from '../src/machine/guest-errors.ts'
import { RawMode } from '../src/terminal/raw-mode.ts'
import type { SignalSource } from '../src/terminal/raw-mode.ts'
import { FakeDevice, bytes, text } from './fixtures/fake-device.ts'

function muxed(): {
  below: FakeDevice
  serial: Chardev
  monitor: Chardev
  got: { serial: string; monitor: string; events: string[] }
} {
  const below = new FakeDevice()
  const got = { serial: '', monitor: '', events: new Array<string>() }
  const mux = new Mux(below, {
    escapeCode: 1,
    onQuit: () => got.events.push('quit'),
    nowMs: () => 61_001,
  })
  const serial = mux.addPort()
  const monitor = mux.addPort()
  for (const [name, port] of [
    ['serial', serial],
    ['monitor', monitor],
  ] as const) {
    port.canRead = () => 4
    port.onData = (data) => {
      got[name] += text(data)
    }
    port.onFocus = (focused) => got.events.push(`${name} ${focused ? 'on' : 'off'}`)
  }
  return { below, serial, monitor, got }
}

test('a byte queue gives no more than there is room for, in order', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.integer({ min: 1, max: 9 }),
      (parts, room) => {
        const queue = new ByteQueue()
        const got: number[] = []
        let credit = room
        const user = {
          canRead: () => credit,
          onData: (data: Uint8Array) => {
            t.true(data.length <= credit)
            credit -= data.length
            got.push(...data)
          },
        }
        for (const part of parts) queue.push(part)
        while (queue.length > 0) {
          credit = room
          queue.deliver(user)
        }
        t.deepEqual(
          got,
          parts.flatMap((part) => [...part]),
        )
      },
    ),
  )
})

test('the multiplexer passes bytes to who has the keyboard', (t) => {
  const { below, got } = muxed()
  below.type('abc\x03def')
  t.is(got.serial, 'abc\x03def')
  below.type('\x01')
  below.type('cinfo')
  t.is(got.monitor, 'info')
  below.type('\x01cg\x01\x01h')
  t.is(got.serial, 'abc\x03defg\x01h')
  t.deepEqual(got.events, ['serial off', 'monitor on', 'monitor off', 'serial on'])
})

test('the keys of the multiplexer', (t) => {
  const { below, serial, got } = muxed()
  below.type('\x01h')
  t.regex(below.take(), /Ctrl-A x {7}end qemu-kvm/)
  below.type('\x01s')
  t.is(below.take(), 'there are no disks to save\r\n')
  below.type('\x01b')
  t.is(below.take(), 'a break has no effect here\r\n')
  let breaks = 0
  serial.onBreak = () => breaks++
  below.type('\x01b')
  t.is(breaks, 1)
  below.type('\x01z')
  t.is(got.serial, '')
  below.type('\x01x')
  t.deepEqual(got.events, ['quit'])
})

test('timestamps stand in front of lines', (t) => {
  const { below, serial } = muxed()
  serial.write(bytes('a\r\nb'))
  below.type('\x01t')
  serial.write(bytes('c\r\nd\ne'))
  serial.write(bytes('f\n'))
  serial.write(bytes('g'))
  t.is(below.take(), 'a\r\nbc\r\n[00:01:01.001] d\n[00:01:01.001] ef\n[00:01:01.001] g')
})

test('a terminal that takes nothing stops the writers, and keys still work', (t) => {
  const { below, serial, got } = muxed()
  below.accepts = false
  t.false(serial.write(bytes('x')))
  below.type('\x01h')
  let writable = 0
  serial.onWritable = () => {
    writable++
    serial.write(bytes('x'))
  }
  below.type('\x01x')
  t.deepEqual(got.events, ['quit'])
  below.accepts = true
  below.onWritable?.()
  t.is(writable, 1)
  t.regex(below.take(), /Ctrl-A h.*terminated from the keyboard\r\nx$/s)
})

test('a guest that reads nothing does not lose what is typed, nor block the keys', (t) => {
  const { below, serial, got } = muxed()
  serial.canRead = () => 0
  below.type('y'.repeat(1000))
  below.type('\x01x')
  t.deepEqual(got.events, ['quit'])
  serial.canRead = () => 7
  serial.notifyReadable?.()
  t.is(got.serial, 'y'.repeat(1000))
})

class FakeInput extends EventEmitter implements ByteInput {
  isTTY = true
  modes: boolean[] = []
  paused = false
  setRawMode(mode: boolean): void {
    this.modes.push(mode)
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
  }
}

class FakeOutput extends EventEmitter implements ByteOutput {
  written = ''
  accepts = true
  write(chunk: Uint8Array): boolean {
    this.written += text(chunk)
    return this.accepts
  }
}

class FakeProcess extends EventEmitter implements SignalSource {
  readonly pid = 7
  readonly kills: string[] = []
  kill(_pid: number, signal: NodeJS.Signals): void {
    this.kills.push(signal)
  }
}

test('raw mode is put back at every end, and while the process is suspended', (t) => {
  const input = new FakeInput()
  const source = new FakeProcess()
  const raw = new RawMode(input, source)
  raw.enable()
  raw.enable()
  t.deepEqual(input.modes, [true])
  source.emit('SIGTSTP')
  t.deepEqual([input.modes.at(-1), source.kills], [false, ['SIGSTOP']])
  source.emit('SIGCONT')
  t.deepEqual(input.modes, [true, false, false, true])
  source.emit('exit')
  t.is(input.modes.at(-1), false)
  source.emit('SIGQUIT')
  t.deepEqual(source.kills, ['SIGSTOP', 'SIGQUIT'])
  t.deepEqual(source.eventNames(), [])
  const pipe = new FakeInput()
  pipe.isTTY = false
  new RawMode(pipe, source).enable()
  t.deepEqual(pipe.modes, [])
})

test('standard input waits for the guest, the guest waits for standard output', async (t) => {
  const input = new FakeInput()
  const output = new FakeOutput()
  const raised: string[] = []
  const raw = new RawMode(input, new FakeProcess())
  const stdio = new StdioChardev(input, output, raw, (signal) => raised.push(signal))
  let room = 0
  let got = ''
  stdio.canRead = () => room
  stdio.onData = (data) => {
    room -= data.length
    got += text(data)
  }
  input.emit('data', bytes('ab\x03cd'))
  t.true(input.paused)
  t.deepEqual(raised, ['SIGINT'])
  room = 3
  stdio.notifyReadable()
  t.is(got, 'abc')
  t.true(input.paused)
  room = 3
  stdio.notifyReadable()
  t.is(got, 'abcd')
  t.false(input.paused)

  output.accepts = false
  t.true(stdio.write(bytes('1')))
  await stdio.drained(1)
  t.false(stdio.write(bytes('2')))
  let writable = 0
  stdio.onWritable = () => {
    writable++
  }
  output.emit('drain')
  t.is(writable, 1)
  t.true(stdio.write(bytes('3')))
  output.emit('error', new Error('EPIPE'))
  t.true(stdio.write(bytes('4')), 'nobody reads: the guest must not wait')
  t.is(output.written, '13')
  await stdio.drained(1000)
  input.emit('end')
  stdio.close()
  t.is(input.modes.at(-1), false)
})

test('files and nothing', (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 'qemu-vmm-')), 'serial')
  const never = (message: string): void => t.fail(message)
  writeFileSync(path, 'old')
  const file = new FileChardev(path, false, never)
  t.true(file.write(bytes('one')))
  t.is(readFileSync(path, 'utf8'), 'one')
  file.close()
  t.true(file.write(bytes('lost')))
  const more = new FileChardev(path, true, never)
  more.write(bytes('two'))
  more.close()
  t.is(readFileSync(path, 'utf8'), 'onetwo')
  t.throws(() => new FileChardev('/nonexistent/x', false, never), { code: 'ENOENT' })
  const reports: string[] = []
  const full = new FileChardev('/dev/full', false, (message) => reports.push(message))
  t.true(full.write(bytes('x')))
  t.true(full.write(bytes('x')))
  t.is(reports.length, 1)
  t.true(new NullChardev().write())
})

test('a guest in a loop does not drown the log', (t) => {
  const bus = new Bus()
  const lines: string[] = []
  let now = 0
  logGuestErrors(
    bus,
    ['guest_errors'],
    (message) => lines.push(message),
    () => now,
  )
  t.is(bus.pio.read(0x123, 2), 0xffff)
  bus.mmio.write(0xfeb00000, 4, 1)
  t.deepEqual(lines.splice(0), [
    'guest_errors: read of 2 bytes at 0x123, a port that nothing answers',
    'guest_errors: write of 4 bytes at 0xfeb00000, an address that nothing answers',
  ])
  for (let i = 0; i < 5000; i++) bus.pio.read(0x123, 1)
  t.is(lines.splice(0).length, 998)
  now = 1000
  bus.pio.read(0x123, 1)
  t.is(lines[0], 'guest_errors: 4002 more messages were not logged')
})
