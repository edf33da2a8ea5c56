// The Q35 board: configuration space in memory, interrupt routes, power management, root ports.
import test from 'ava'

import { PcBoard } from '../src/machine/pc.ts'
import { RootPort } from '../src/chipset/pci/root-port.ts'
import { PciFunction } from '../src/chipset/pci/function.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { IrqLines } from '../src/machine/irq.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { recorder } from './support/recorder.ts'
import { FlatRam } from './support/ram.ts'

const ECAM = 0xb000_0000
const LPC = 0x1f << 15
const SECOND_NS = 1_000_000_000

interface Fixture {
  board: PcBoard
  clock: ManualClock
  lines: Set<number>
  messages: [number, number][]
  removed: { count: number }
  port: RootPort
  card: PciFunction
  /** Configuration space in memory. */
  get(at: number, size?: number): number
  set(at: number, size: number, value: number): void
}

/** A board with a root port in slot 3 and a card behind it, after firmware. */
function create(options: { occupied?: boolean } = {}): Fixture {
  const clock = new ManualClock()
  const lines = new Set<number>()
  const messages: [number, number][] = []
  const irqs = new IrqLines((gsi, level) => void (level ? lines.add(gsi) : lines.delete(gsi)))
  const board = new PcBoard({
    kind: 'q35',
    irqs,
    clock,
    map: createMemoryMap(64 << 20, 'q35'),
    places: cpuPlaces(1),
    memory: new FlatRam(1 << 20),
    serial: [],
    actions: { reset() {}, powerOff() {}, suspend() {}, wake() {}, clockSet() {} },
  })
  const removed = { count: 0 }
  const port = new RootPort('port', board.bus, {
    slot: 7,
    port: 2,
    sendMessage: (address, data) => messages.push([address, data]) > 0,
    removed: () => removed.count++,
  })
  board.pci.add(port.fn, 3)
  board.addPlugged('port', port)
  const card = new PciFunction('card', board.bus, {
    vendor: 0x1af4,
    device: 0x1041,
    classCode: 0x020000,
    interruptPin: 1,
    express: true,
  })
  card.addBar(0, { space: 'mmio', size: 0x1000, handler: recorder(0x1000) })
  card.removable = true
  if (options.occupied !== false) port.bus.add(card)
  board.reset()
  board.applyFirmwareSetup()
  return {
    board,
    clock,
    lines,
    messages,
    removed,
    port,
    card,
    get: (at, size = 4) => board.bus.mmio.read(ECAM + at, size),
    set: (at, size, value) => board.bus.mmio.write(ECAM + at, size, value),
  }
}

test('configuration space is in memory, where its register says, as large as it says', (t) => {
  const { board, get, set } = create()
  t.is(get(0), 0x29c0_8086)
  t.is(get(LPC), 0x2918_8086)
  t.is(get(LPC + 0x2000), 0x2922_8086)
  t.is(get(0x40000), 0xffff_ffff, 'an empty slot')
  t.is(get(LPC + 0x100), 0xffff_ffff, 'conventional functions have 256 bytes')
  t.is(get((1 << 20) + 0x8000), 0xffff_ffff, 'a port has one slot behind it')
  t.is(get(1 << 20), 0x1041_1af4, 'the bus behind the port')
  set(0x60, 4, 0xe000_0005)
  t.is(board.bus.mmio.read(ECAM, 4), 0xffff_ffff)
  t.is(board.bus.mmio.read(0xe000_0000, 4), 0x29c0_8086)
  t.deepEqual(board.chipset.configWindow(), { base: 0xe000_0000, size: 64 << 20 })
  board.bus.mmio.write(0xe000_0060, 4, 0xe000_0004)
  t.is(board.chipset.configWindow(), undefined)
  t.is(board.bus.mmio.read(0xe000_0000, 4), 0xffff_ffff)
  board.reset()
  t.is(board.chipset.configWindow(), undefined, 'only firmware switches it on')
})

test('pins go to the inputs that the chip configuration names, and to both controllers', (t) => {
  const { board, lines, port, card, get, set } = create()
  t.is(get(0x60 + LPC), 0x0b0b_0a0a)
  card.setInterrupt(true)
  // Slot 3 behind the port's slot 0: INTA of slot 3 is input H, routed to 11.
  t.deepEqual([...lines].toSorted(), [11, 23])
  set(LPC + 0x68, 4, 0x8080_8080)
  t.deepEqual([...lines], [23])
  card.setInterrupt(false)
  t.is(lines.size, 0)
  t.is(port.fn.configRead(0x3c, 1), 11)
  // The SATA controller in slot 31 follows its route register.
  const sata = board.pci.function(31, 2)!
  sata.setInterrupt(true)
  t.deepEqual([...lines].toSorted(), [10, 16])
  board.bus.mmio.write(0xfed1_c000 + 0x3140, 2, 0x3217)
  t.deepEqual([...lines].toSorted(), [10, 16], 'a line that is high stays where it is')
  sata.setInterrupt(false)
  t.is(lines.size, 0)
  sata.setInterrupt(true)
  t.deepEqual([...lines], [23])
})

test('the power management block has 16 bytes of events, and its interrupt can be moved', (t) => {
  const { board, lines, set } = create()
  const { pio } = board.bus
  t.is(pio.read(0x620, 4), 0)
  pio.write(0xb2, 1, 0x02)
  t.is(pio.read(0x604, 2) & 1, 1, 'ACPI mode')
  board.pm.raiseGpe(13)
  t.is(lines.size, 0)
  pio.write(0x628, 4, 0x2000)
  t.deepEqual([...lines], [9])
  set(LPC + 0x44, 1, 0x84)
  t.deepEqual([...lines], [20])
  pio.write(0x621, 1, 0x20)
  t.is(lines.size, 0)
  t.is(pio.read(0x630, 4) & 0x20, 0x20, 'firmware need not set up system management mode')
  set(LPC + 0x40, 4, 0x0901)
  t.is(pio.read(0x604, 2), 0xffff)
  t.is(pio.read(0x904, 2) & 1, 1)
  set(LPC + 0x44, 1, 0)
  t.is(pio.read(0x904, 2), 0xffff)
})

test('the watchdog counts down, and says that it has expired', (t) => {
  const { board, clock } = create()
  const { pio } = board.bus
  pio.write(0x672, 2, 10)
  pio.write(0x660, 2, 1)
  t.is(pio.read(0x660, 2), 10)
  clock.advance(3 * SECOND_NS)
  t.is(pio.read(0x660, 2), 5)
  t.is(pio.read(0x664, 2), 0)
  clock.advance(4 * SECOND_NS)
  t.is(pio.read(0x664, 2), 8)
  t.is(pio.read(0x666, 2), 0)
  clock.advance(6 * SECOND_NS)
  t.is(pio.read(0x666, 2), 2)
  pio.write(0x664, 2, 8)
  t.is(pio.read(0x664, 2), 0)
  pio.write(0x668, 2, 0x0800)
  clock.advance(60 * SECOND_NS)
  t.is(pio.read(0x664, 2), 0)
})

test('a root port has the registers of QEMU', (t) => {
  const { port } = create({ occupied: false })
  const dword = (at: number): number => port.fn.configRead(at, 4)
  t.is(dword(0), 0x000c_1b36)
  t.is(dword(8), 0x0604_0000)
  t.is(port.fn.configRead(0x0e, 1), 1)
  t.is(dword(0x34) & 0xff, 0x54)
  t.deepEqual(
    [0x54, 0x58, 0x60, 0x64, 0x68, 0x6c, 0x78, 0x80].map(dword),
    [
      0x0142_4810, 0x0000_8000, 0x0230_0604, 0x0204_0000, 0x003a_007b, 0x0000_07c0, 0x0030_0020,
      0x0000_001e,
    ],
  )
  t.is(dword(0x48), 0x0000_4011)
  t.is(dword(0x40), 0x0000_000d)
  t.is(dword(0x100), 0x1482_0001)
  t.is(dword(0x148), 0x0001_000d)
})

test('what is behind a port answers in its window only', (t) => {
  const { board, port, card, set } = create()
  const base = (card.config.get32(0x10) & ~15) >>> 0
  const answers = (): boolean => board.bus.mmio.nameAt(base) === 'card BAR 0'
  t.true(answers())
  const memory = port.fn.configRead(0x20, 4)
  set((3 << 15) + 0x20, 4, 0x0000_fff0)
  t.false(answers())
  set((3 << 15) + 0x20, 4, memory)
  t.true(answers())
  set((3 << 15) + 0x04, 2, 0)
  t.false(answers())
})

test('a slot tells of its button, and lets go of a device that is switched off', (t) => {
  const { lines, messages, removed, port, set, get } = create()
  const slot = (3 << 15) + 0x6c
  t.is(get(slot + 2, 2), 0x40, 'present')
  t.is(get(slot, 2) & 0x0700, 0x0100, 'powered')
  t.is(get((3 << 15) + 0x66, 2), 0x2204, 'the link is up')
  set(slot, 2, 0x0139)
  port.slot.requestRemoval()
  t.deepEqual([...lines].toSorted(), [11, 23])
  t.is(get(slot + 2, 2) & 1, 1)
  set(slot + 2, 2, 0x11)
  t.is(lines.size, 0)
  set(slot, 2, 0x0739)
  t.is(removed.count, 1)
  t.is(get(slot + 2, 2), 0x18, 'the device is gone, and the command has completed')
  t.is(get((3 << 15) + 0x66, 2), 0x0204)
  t.deepEqual(messages, [])
})
