import test from 'ava'
import type { RouteRange } from 'kvm-core'

import { IrqLines } from '../src/machine/irq.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { PcBoard } from '../src/machine/pc.ts'
import { portLatches } from '../src/machine/port-latch.ts'
import { postGates } from '../src/machine/post-gate.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { FlatRam } from './support/ram.ts'
import { words } from './support/random.ts'

const LATCHED = [0x64, 0x70, 0x92, 0x3fd]

/** Latches as the machine has them, and at each change of an interrupt what they said before it. */
function createBoard(): {
  board: PcBoard
  clock: ManualClock
  latched: Map<number, number | undefined>
  stale: number[]
} {
  const clock = new ManualClock(0)
  const latched = new Map<number, number | undefined>()
  const stale: number[] = []
  const made: { board?: PcBoard } = {}
  const irqs = new IrqLines((gsi, level) => {
    const { board } = made
    if (!level || board === undefined) return
    const port = { 1: 0x64, 12: 0x64, 4: 0x3fd }[gsi]
    if (port === undefined || latched.get(port) === undefined) return
    if (board.bus.pio.read(port, 1) !== latched.get(port)) stale.push(gsi)
  })
  const board = new PcBoard({
    irqs,
    clock,
    map: createMemoryMap(64 << 20),
    places: cpuPlaces(1),
    memory: new FlatRam(1 << 20),
    serial: [{ write: () => true, close() {} }],
    actions: { reset() {}, powerOff() {}, suspend() {}, wake() {}, clockSet() {} },
    latches: (port) => (value) => latched.set(port, value),
  })
  made.board = board
  return { board, clock, latched, stale }
}

test('what is latched is what a read would give, whatever the guest does', (t) => {
  const random = words(0x1a7c)
  let compared = 0
  for (let run = 0; run < 40; run++) {
    const { board, clock, latched, stale } = createBoard()
    const { pio } = board.bus
    const compare = (): void => {
      for (const port of LATCHED) {
        const value = latched.get(port)
        if (value === undefined) continue
        compared++
        if (pio.read(port, 1) !== value)
          t.fail(`run ${run}: port ${port.toString(16)} has not ${value}`)
      }
    }
    compare()
    for (let step = 0; step < 500; step++) {
      const kind = random() % 16
      if (kind === 0) clock.advance(random() % 2_000_000)
      else if (kind === 1) board.serial[0]!.uart.receive(new Uint8Array(1 + (random() % 4)).fill(7))
      else if (kind === 2) board.i8042.keyboard.sendScancodes(random() & 0x7f)
      else if (kind === 3) board.i8042.mouse.move(random() % 60, 3, 0, 0)
      else if (kind === 4 && random() % 16 === 0) board.reset()
      else {
        const base = [0x60, 0x64, 0x70, 0x92, 0x3f8][random() % 5]!
        const port = base === 0x3f8 ? base + (random() & 7) : base
        if (random() & 1) pio.read(port, 1)
        else pio.write(port, 1, random())
      }
      compare()
    }
    const again = createBoard()
    again.board.load(board.save())
    for (const port of LATCHED) {
      if (again.latched.get(port) !== undefined) t.is(again.latched.get(port), pio.read(port, 1))
    }
    t.deepEqual(stale, [], 'an interrupt came before what it tells of')
  }
  t.true(compared > 30_000, `${compared}`)
})

test('the status of the line is asked for again once there was an error in it', (t) => {
  const { board, latched } = createBoard()
  t.is(latched.get(0x3fd), 0x60)
  board.serial[0]!.uart.receive(new Uint8Array(1))
  t.is(latched.get(0x3fd), 0x61)
  board.serial[0]!.uart.receiveBreak()
  t.is(latched.get(0x3fd), undefined)
  t.is(board.bus.pio.read(0x3fd, 1) & 0x12, 0x12)
  t.is(board.bus.pio.read(0x3fd, 1) & 0x12, 0)
})

test('a latch is a route from its first value to its end', (t) => {
  const routes: RouteRange[] = []
  const latch = new Uint8Array(1)
  let closed = 0
  const close = (): void => void closed++
  const latches = portLatches({
    route: (range) => {
      routes.push(range)
      return { latch, close, [Symbol.dispose]: close }
    },
  })
  const set = latches(0x92)
  t.deepEqual(routes, [])
  set(2)
  set(3)
  t.deepEqual(routes, [{ space: 'pio', base: 0x92, len: 1, kind: 'latched' }])
  t.is(latch[0], 3)
  set(undefined)
  set(4)
  t.deepEqual([routes.length, closed, latch[0]], [1, 1, 3])
})

test('a gate is a posted route while it is open', (t) => {
  const routes: RouteRange[] = []
  let closed = 0
  const close = (): void => void closed++
  const gate = postGates({
    route: (range) => {
      routes.push(range)
      return { latch: undefined, close, [Symbol.dispose]: close }
    },
  })(0x3f8)
  gate(false)
  t.deepEqual([routes.length, closed], [0, 0])
  gate(true)
  gate(true)
  t.deepEqual(routes, [{ space: 'pio', base: 0x3f8, len: 1, kind: 'posted' }])
  gate(false)
  gate(false)
  t.is(closed, 1)
  gate(true)
  t.deepEqual([routes.length, closed], [2, 1])
})
