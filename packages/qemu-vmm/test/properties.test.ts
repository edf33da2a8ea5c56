import test from 'ava'
import * as fc from 'fast-check'

import { RootPort } from '../src/chipset/pci/root-port.ts'
import { PciTestDev } from '../src/chipset/pci/testdev.ts'
import type { SerialBackend } from '../src/chipset/serial-port.ts'
import { VmmError } from '../src/errors.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { IrqLines } from '../src/machine/irq.ts'
import type { BoardKind } from '../src/machine/machine-type.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { PcBoard } from '../src/machine/pc.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { FlatRam } from './support/ram.ts'
import { words } from './support/random.ts'

const LONG = process.env['LONG'] === '1'
const ACCESSES = LONG ? 10_000_000 : 100_000
const TIMEOUT_MS = LONG ? 30 * 60_000 : 60_000
const MIB = 1 << 20
const WALL_MS = Date.parse('2024-02-29T23:59:57.250Z')

/** Ports of the board, from which most of the random accesses are taken. */
const PORTS = [
  ...range(0x00, 0x10),
  ...range(0x60, 0x72),
  ...range(0x80, 0x93),
  ...range(0xb2, 0xb4),
  ...range(0xc0, 0xe0),
  ...range(0x2e8, 0x2f0),
  ...range(0x2f8, 0x300),
  ...range(0x3e8, 0x3f0),
  ...range(0x3f8, 0x400),
  ...range(0x600, 0x680),
  ...range(0xcf8, 0xd00),
  ...range(0xafe0, 0xafe4),
  ...range(0xae00, 0xae18),
]

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}

interface Fixture {
  board: PcBoard
  irqs: IrqLines
  clock: ManualClock
  trace: string[]
}

const BOARDS: readonly BoardKind[] = ['i440fx', 'q35']
/** Where the board has registers in memory: configuration space of few buses, chip configuration. */
const MEMORY = [
  { base: 0xb000_0000, len: 0x9000 },
  { base: 0xb00f_8000, len: 0x8_2000 },
  { base: 0xfed1_c000, len: 0x4000 },
] as const

/** A board on which everything it does to the outside is written down. */
function createBoard(kind: BoardKind = 'i440fx'): Fixture {
  const clock = new ManualClock(WALL_MS)
  const trace: string[] = []
  const sink = (name: string): SerialBackend => ({
    write(data) {
      trace.push(`${name} ${Buffer.from(data).toString('hex')}`)
      return true
    },
    close() {},
  })
  const irqs = new IrqLines((gsi, level) => trace.push(`irq ${gsi} ${level}`))
  const board = new PcBoard({
    kind,
    sendMessage: (address, data) => {
      trace.push(`message ${address} ${data}`)
      return !irqs.isHeld
    },
    irqs,
    clock,
    map: createMemoryMap(64 * MIB, kind),
    places: cpuPlaces(1),
    memory: new FlatRam(1 << 20),
    serial: ['com1', 'com2', 'com3', 'com4'].map(sink),
    actions: {
      reset: () => trace.push('reset'),
      powerOff: () => trace.push('off'),
      suspend: () => trace.push('suspend'),
      wake: () => trace.push('wake'),
      clockSet: () => trace.push('clock'),
    },
  })
  if (kind === 'q35') addPort(board, trace, irqs)
  board.reset()
  board.applyFirmwareSetup()
  return { board, irqs, clock, trace }
}

/** A root port with a function behind it, which the guest may move and switch off. */
function addPort(board: PcBoard, trace: string[], irqs: IrqLines): void {
  const port = new RootPort('port', board.bus, {
    slot: 1,
    port: 0,
    sendMessage: (address, data) => {
      trace.push(`message ${address} ${data}`)
      return !irqs.isHeld
    },
    removed: () => trace.push('removed'),
  })
  board.pci.add(port.fn, 1)
  board.addPlugged('port', port)
  const behind = new PciTestDev('behind', board.bus)
  behind.fn.removable = true
  port.bus.add(behind.fn)
  board.addPlugged('behind', behind)
}

/** One random step: an access, input on a line, or time that passes. Returns what a guest saw. */
function step({ board, clock }: Fixture, random: () => number): number {
  const kind = random() % 64
  if (kind === 0) clock.advance(random() % (random() % 64 === 0 ? 2_000_000_000 : 2_000_000))
  else if (kind === 1) {
    const { uart } = board.serial[random() & 3]!
    uart.receive(new Uint8Array(Math.min(uart.room, 5)).fill(random()))
  } else if (kind === 2) board.i8042.keyboard.sendScancodes(random() & 0x7f)
  else if (kind === 3) board.i8042.mouse.move(random() % 600, -(random() % 600), 1, random())
  else if (kind >= 48) {
    const { base, len } = MEMORY[random() % MEMORY.length]!
    const address = base + (random() % len)
    const size = 1 << (random() % 3)
    if (random() & 1) return board.bus.mmio.read(address, size)
    board.bus.mmio.write(address, size, random())
  } else {
    const port = kind < 8 ? random() & 0xffff : PORTS[random() % PORTS.length]!
    const size = 1 << (random() % 3)
    if (random() & 1) return board.bus.pio.read(port, size)
    board.bus.pio.write(port, size, random())
  }
  return 0
}

for (const kind of BOARDS)
  test(`no sequence of accesses makes a device of ${kind} throw`, (t) => {
    t.timeout(TIMEOUT_MS)
    const fixture = createBoard(kind)
    const random = words(0x5eed)
    for (let i = 0; i < ACCESSES; i++) {
      const value = step(fixture, random)
      if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
        t.fail(`access ${i} returned ${value}`)
        return
      }
      if (fixture.trace.length > 10_000) fixture.trace.length = 0
    }
    t.pass()
  })

for (const kind of BOARDS)
  test(`no access to memory-mapped space of ${kind} makes the bus throw`, (t) => {
    const { board } = createBoard(kind)
    const random = words(0xfeed)
    for (let i = 0; i < ACCESSES / 10; i++) {
      const address = (random() % 2 ** 20) * 2 ** 32 + random()
      board.bus.mmio.write(address, 4, random())
      board.bus.mmio.read(address, 4)
    }
    t.pass()
  })

for (const kind of BOARDS)
  test(`a ${kind} loaded from a saved state goes on exactly like the one that was saved`, async (t) => {
    t.timeout(TIMEOUT_MS)
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1 }), fc.nat(3000), async (seed, steps) => {
        const first = createBoard(kind)
        const random = words(seed)
        for (let i = 0; i < steps; i++) step(first, random)
        await Promise.resolve()
        const saved = structuredClone(first.board.save())

        const second = createBoard(kind)
        second.clock.set(first.clock.nowNs())
        second.irqs.hold()
        second.board.load(saved)
        second.irqs.release()
        second.trace.length = 0
        first.trace.length = 0
        t.deepEqual(second.board.save(), saved)
        const again = [words(~seed), words(~seed)] as const
        for (let i = 0; i < 500; i++) {
          t.is(step(first, again[0]), step(second, again[1]), `step ${i}`)
        }
        await Promise.resolve()
        t.deepEqual(second.trace, first.trace)
      }),
      { numRuns: LONG ? 1000 : 60 },
    )
  })

for (const kind of BOARDS)
  test(`a damaged state of ${kind} is refused by name, or loads: nothing else is thrown`, (t) => {
    const { board } = createBoard(kind)
    const good = structuredClone(board.save())
    const values = [undefined, null, -1, 2 ** 40, Number.NaN, 'x', [], {}, new Uint8Array(3), true]
    const paths: string[][] = []
    const walk = (value: unknown, path: string[]): void => {
      if (path.length > 0) paths.push(path)
      if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return
      for (const [key, child] of Object.entries(value)) walk(child, [...path, key])
    }
    walk(good, [])
    t.true(paths.length > 80)
    for (const path of paths) {
      for (const value of values) {
        const damaged = structuredClone(good)
        let parent = damaged
        for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>
        parent[path.at(-1)!] = value
        try {
          board.load(damaged)
        } catch (error) {
          if (error instanceof VmmError && error.code === 'E_STATE') continue
          t.fail(`${path.join('.')} = ${String(value)}: ${String(error)}`)
          return
        }
        board.bus.pio.read(0x3f8, 4)
      }
    }
    t.throws(() => board.load({ ...good, floppy: {} }), { code: 'E_STATE', message: /floppy/ })
  })
