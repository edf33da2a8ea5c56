import test from 'ava'
import { ExitReason, KVM_RUN, type ServeHandlers } from 'kvm-core'

import type { IrqLine } from '../src/device.ts'
import { VmmError } from '../src/errors.ts'
import { AddressSpace } from '../src/machine/address-space.ts'
import { Bus } from '../src/machine/bus.ts'
import { IrqLines } from '../src/machine/irq.ts'
import { RunLoop } from '../src/machine/run-loop.ts'
import { recorder } from './support/recorder.ts'

test('address space: unclaimed reads are all-ones, writes are dropped', (t) => {
  const space = new AddressSpace('port')
  t.is(space.read(0x10, 1), 0xff)
  t.is(space.read(0x10, 2), 0xffff)
  t.is(space.read(0x10, 4), 0xffffffff)
  t.notThrows(() => space.write(0x10, 4, 1))
})

test('address space: finds the range among many, before and after unmapping', (t) => {
  const space = new AddressSpace('memory')
  const handlers = Array.from({ length: 50 }, (_, i) => recorder(i))
  const mappings = handlers.map((handler, i) =>
    space.map({ name: `d${i}`, base: 0x1000 + i * 0x20, len: 0x10, handler }),
  )
  for (let i = 0; i < 50; i++) {
    t.is(space.read(0x1000 + i * 0x20 + 5, 1), i + 5)
    t.is(space.read(0x1000 + i * 0x20 + 0x10, 1), 0xff)
  }
  mappings[7]!.unmap()
  t.is(space.read(0x1000 + 7 * 0x20, 1), 0xff)
  t.is(space.read(0x1000 + 8 * 0x20, 1), 8)
})

test('address space: equal priorities must not overlap; a higher one cuts through', (t) => {
  const space = new AddressSpace('port')
  const low = recorder()
  const high = recorder(0x80)
  space.map({ name: 'config', base: 0xcf8, len: 4, handler: low })
  const error = t.throws(() => space.map({ name: 'other', base: 0xcfb, len: 2, handler: high }), {
    instanceOf: VmmError,
  })
  t.is(error.code, 'E_RANGE_TAKEN')
  t.regex(error.message, /other.*config/s)
  space.map({ name: 'reset', base: 0xcf9, len: 1, priority: 1, handler: high })
  t.is(space.read(0xcf9, 1), 0x80)
  t.is(space.read(0xcfa, 1), 0x13)
  space.write(0xcf8, 4, 0x12345678)
  t.deepEqual(low.log.at(-1), ['w', 0, 4, 0x12345678], 'a wide access stays in one piece')
})

test('address space: splits and widens accesses to what the handler implements', (t) => {
  const space = new AddressSpace('memory')
  const byte = recorder(0)
  const word = recorder(0x1000)
  space.map({ name: 'byte', base: 0, len: 8, handler: byte, access: { max: 1 } })
  space.map({ name: 'word', base: 16, len: 8, handler: word, access: { min: 4 } })
  t.is(space.read(1, 4), 0x04030201)
  space.write(0, 2, 0xabcd)
  t.deepEqual(byte.log.slice(-2), [
    ['w', 0, 1, 0xcd],
    ['w', 1, 1, 0xab],
  ])
  t.is(space.read(16, 1), 0x00)
  space.write(17, 1, 0x5a)
  t.deepEqual(word.log, [
    ['r', 0, 4],
    ['w', 1, 4, 0x5a],
  ])
})

function page(): { run: ArrayBuffer; view: DataView } {
  const run = new ArrayBuffer(KVM_RUN.bytes)
  return { run, view: new DataView(run) }
}

function mmio(view: DataView, address: number, length: number, isWrite: boolean): void {
  view.setUint32(KVM_RUN.exitReason, ExitReason.Mmio, true)
  view.setBigUint64(KVM_RUN.mmioPhysAddr, BigInt(address), true)
  view.setUint32(KVM_RUN.mmioLen, length, true)
  view.setUint8(KVM_RUN.mmioIsWrite, isWrite ? 1 : 0)
}

test('bus: repeats string I/O for every element of the page', (t) => {
  const bus = new Bus()
  const device = recorder(0x40)
  bus.pio.map({ name: 'dev', base: 0x5a0, len: 4, handler: device })
  const { run, view } = page()
  view.setUint32(KVM_RUN.exitReason, ExitReason.Io, true)
  view.setUint8(KVM_RUN.ioDirection, 1)
  view.setUint8(KVM_RUN.ioSize, 2)
  view.setUint16(KVM_RUN.ioPort, 0x5a1, true)
  view.setUint32(KVM_RUN.ioCount, 3, true)
  view.setBigUint64(KVM_RUN.ioDataOffset, BigInt(KVM_RUN.pioData), true)
  for (let i = 0; i < 3; i++) view.setUint16(KVM_RUN.pioData + i * 2, 0x100 + i, true)
  t.true(bus.dispatch(run, 0))
  t.deepEqual(device.log, [
    ['w', 1, 2, 0x100],
    ['w', 1, 2, 0x101],
    ['w', 1, 2, 0x102],
  ])
  view.setUint8(KVM_RUN.ioDirection, 0)
  bus.dispatch(run, 0)
  t.is(view.getUint16(KVM_RUN.pioData + 4, true), 0x41)
})

test('bus: a handler of strings gets the whole string, if the size is one of its own', (t) => {
  const bus = new Bus()
  const calls: unknown[] = []
  const handler = {
    ...recorder(0x40),
    readString: (offset: number, size: number, target: Uint8Array, start: number, end: number) => {
      calls.push(['r', offset, size, end - start])
      target.fill(0x5a, start, end)
    },
    writeString: (_offset: number, size: number, source: Uint8Array, start: number, end: number) =>
      void calls.push(['w', size, ...source.subarray(start, end)]),
  }
  bus.pio.map({ name: 'dev', base: 0x5a0, len: 4, handler, access: { max: 2 } })
  const { run, view } = page()
  const string = (isOut: boolean, size: number, count: number): boolean => {
    view.setUint32(KVM_RUN.exitReason, ExitReason.Io, true)
    view.setUint8(KVM_RUN.ioDirection, isOut ? 1 : 0)
    view.setUint8(KVM_RUN.ioSize, size)
    view.setUint16(KVM_RUN.ioPort, 0x5a1, true)
    view.setUint32(KVM_RUN.ioCount, count, true)
    view.setBigUint64(KVM_RUN.ioDataOffset, BigInt(KVM_RUN.pioData), true)
    return bus.dispatch(run, 0)
  }
  t.true(string(false, 2, 256))
  t.is(view.getUint16(KVM_RUN.pioData + 510, true), 0x5a5a)
  string(true, 1, 3)
  t.deepEqual(calls, [
    ['r', 1, 2, 512],
    ['w', 1, 0x5a, 0x5a, 0x5a],
  ])
  string(false, 4, 2)
  string(false, 1, 1)
  t.is(calls.length, 2)
  t.is(handler.log.length, 5, 'two halves of two elements, and one access alone')
})

test('bus: memory accesses of 1 to 8 bytes, above 4 GiB too', (t) => {
  const bus = new Bus()
  const device = recorder(0x40)
  const base = 0x12_3456_7000
  bus.mmio.map({ name: 'dev', base, len: 16, handler: device })
  const { run, view } = page()
  mmio(view, base, 8, false)
  t.true(bus.dispatch(run, 0))
  t.is(view.getUint32(KVM_RUN.mmioData, true), 0x40)
  t.is(view.getUint32(KVM_RUN.mmioData + 4, true), 0x44)
  mmio(view, base + 1, 7, true)
  bus.dispatch(run, 0)
  t.deepEqual(
    device.log.slice(-3).map(([, offset, size]) => [offset, size]),
    [
      [1, 4],
      [5, 2],
      [7, 1],
    ],
  )
  mmio(view, 0xfebd_0000, 4, false)
  bus.dispatch(run, 0)
  t.is(view.getUint32(KVM_RUN.mmioData, true), 0xffffffff)
  view.setUint32(KVM_RUN.exitReason, ExitReason.Hlt, true)
  t.false(bus.dispatch(run, 0))
})

test('bus: a handler that throws is a typed error and answers all-ones', (t) => {
  const bus = new Bus()
  bus.mmio.map({
    name: 'broken',
    base: 0x1000,
    len: 16,
    handler: {
      read() {
        throw new TypeError('no such register')
      },
      write() {
        throw new TypeError('no such register')
      },
    },
  })
  const { run, view } = page()
  mmio(view, 0x1008, 4, false)
  const error = t.throws(() => bus.dispatch(run, 0), { instanceOf: VmmError })
  t.is(error.code, 'E_DEVICE_FAULT')
  t.like(error.fields, { device: 'broken', offset: 8, size: 4, operation: 'read' })
  t.true(error.cause instanceof TypeError)
  t.is(view.getUint32(KVM_RUN.mmioData, true), 0xffffffff)
  mmio(view, 0x1008, 4, true)
  t.throws(() => bus.dispatch(run, 0), { code: 'E_DEVICE_FAULT' })
})

test('run loop: tells exits apart and logs slow handlers', (t) => {
  const bus = new Bus()
  let nowMs = 0
  bus.pio.map({
    name: 'slow',
    base: 0x10,
    len: 1,
    handler: {
      read() {
        nowMs += 7
        return 0
      },
      write() {
        throw new Error('broken')
      },
    },
  })
  const seen: string[] = []
  const loop = new RunLoop(bus, {
    reset: () => seen.push('reset'),
    powerOff: () => seen.push('off'),
    panic: () => seen.push('panic'),
    fail: (error) => seen.push(error.code),
    log: (message) => seen.push(message.replace(/ took.*/s, '')),
    ioevent: () => {},
    nowMs: () => nowMs,
  })
  const { run, view } = page()
  const exit = (reason: number, detail = 0): void => {
    view.setUint32(KVM_RUN.exitReason, reason, true)
    view.setUint32(KVM_RUN.systemEventType, detail, true)
    loop.exit(0, run)
  }
  exit(ExitReason.Shutdown)
  exit(ExitReason.SystemEvent, 1)
  exit(ExitReason.SystemEvent, 2)
  exit(ExitReason.SystemEvent, 3)
  exit(ExitReason.Intr)
  exit(ExitReason.InternalError, 1)
  exit(ExitReason.FailEntry)
  t.deepEqual(seen.splice(0), ['reset', 'off', 'reset', 'panic', 'E_CPU_FAILED', 'E_CPU_FAILED'])
  view.setUint32(KVM_RUN.exitReason, ExitReason.Io, true)
  view.setUint8(KVM_RUN.ioDirection, 0)
  view.setUint8(KVM_RUN.ioSize, 1)
  view.setUint16(KVM_RUN.ioPort, 0x10, true)
  view.setUint32(KVM_RUN.ioCount, 1, true)
  view.setBigUint64(KVM_RUN.ioDataOffset, BigInt(KVM_RUN.pioData), true)
  const turn = { serve: (handlers: ServeHandlers) => void handlers.exit(0, run) } as never
  loop.serve(turn)
  loop.serve(turn)
  loop.serve(turn)
  t.deepEqual(seen, [], 'twice may be the host, and a first slow turn only makes attentive')
  for (let i = 0; i < 10; i++) loop.serve(turn)
  t.deepEqual(seen.splice(0), ['3 accesses to slow'])
  nowMs += 5000
  for (let i = 0; i < 3; i++) loop.serve(turn)
  t.deepEqual(seen, [], 'it was long ago')
  view.setUint8(KVM_RUN.ioDirection, 1)
  loop.exit(0, run)
  t.deepEqual(seen, ['E_DEVICE_FAULT'])
})

test('interrupt lines are wired-OR', (t) => {
  const calls: [number, number][] = []
  const lines = new IrqLines((gsi, level) => calls.push([gsi, level]))
  const a = lines.source(4)
  const b = lines.source(4)
  a.set(true)
  b.set(true)
  a.set(false)
  b.set(false)
  b.pulse()
  t.deepEqual(calls, [
    [4, 1],
    [4, 0],
    [4, 1],
    [4, 0],
  ])
})

test('interrupt lines keep levels and edges back while they are held', (t) => {
  const calls: string[] = []
  const lines = new IrqLines((gsi, level) => calls.push(`${gsi}${level ? '+' : '-'}`))
  const [rises, falls, stays, pulses, again] = [1, 2, 3, 4, 5].map((gsi) => lines.source(gsi)) as [
    IrqLine,
    IrqLine,
    IrqLine,
    IrqLine,
    IrqLine,
  ]
  falls.set(true)
  stays.set(true)
  again.set(true)
  calls.length = 0
  lines.hold()
  rises.set(true)
  falls.set(false)
  pulses.pulse()
  again.set(false)
  again.set(true)
  t.deepEqual(calls, [])
  lines.release()
  t.deepEqual(calls.splice(0).toSorted(), ['1+', '2-', '4+', '4-', '5+', '5-'])
  lines.hold()
  rises.set(false)
  pulses.set(true)
  lines.settle()
  lines.release()
  t.deepEqual(calls, [], 'a loaded state has seen them')
  pulses.set(false)
  t.deepEqual(calls, ['4-'])
})
