import { VmmError } from '../../errors.ts'
import type { PciBus } from './bus.ts'
import {
  PCI_BASE_ADDRESS_0,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  PCI_INTERRUPT_LINE,
  PCI_PRIMARY_BUS,
  PCI_SECONDARY_BUS,
  PCI_SUBORDINATE_BUS,
} from './config-space.ts'
import { closeWindows, setMemoryWindow, setPortWindow } from './bridge-windows.ts'
import type { PciFunction, SecondaryBus } from './function.ts'

/** Ports that firmware gives to devices, as SeaBIOS does. */
const PORTS_START = 0xc000
const PORTS_END = 0x1_0000
const LEAST_MEMORY = 0x1000
/** Steps of the windows of a bridge. */
const MIB = 1 << 20
const PORT_STEP = 0x1000
/** What a port is given for a device that is plugged in later, as SeaBIOS does. */
const PORT_RESERVE = 2 * MIB

/** The window for PCI memory below 4 GiB. */
export interface PciWindow {
  start: number
  end: number
}

/** The ISA interrupt that the firmware has given to an input of the interrupt router. */
export type InterruptLines = (line: number) => number

interface Wish {
  name: string
  bytes: number
  align: number
  place(base: number): void
}

interface Wishes {
  memory: Wish[]
  ports: Wish[]
}

/**
 * Gives every bus a number, every BAR an address and every pin the interrupt line of its route, as
 * firmware does before it starts a kernel. The largest come first, so that nothing is lost to
 * alignment.
 *
 * Throws `E_CONFIG` when the window is too small.
 */
export function assignResources(bus: PciBus, window: PciWindow, lines: InterruptLines): void {
  const { memory, ports } = collect(bus, 0, lines).wishes
  place(memory, window.start, window.end)
  place(ports, PORTS_START, PORTS_END)
}

/** What a bus and those behind its bridges want. `last` is the highest number of them. */
function collect(
  bus: PciBus,
  number: number,
  lines: InterruptLines,
): { wishes: Wishes; last: number } {
  const wishes: Wishes = { memory: [], ports: [] }
  let last = number
  for (const { slot, fn } of bus.functions()) {
    for (const { register, bar } of fn.bars) {
      const isPort = bar.space === 'pio'
      const bytes = isPort ? bar.size : Math.max(bar.size, LEAST_MEMORY)
      const at = PCI_BASE_ADDRESS_0 + register * 4
      ;(isPort ? wishes.ports : wishes.memory).push({
        name: `BAR ${register} of ${fn.name}`,
        bytes,
        align: bytes,
        place(base) {
          fn.configWrite(at, 4, base)
          if (bar.is64) fn.configWrite(at + 4, 4, 0)
          enable(fn, isPort ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)
        },
      })
    }
    const line = bus.lineOf(slot, fn)
    if (line !== undefined && fn.bars.length > 0) {
      fn.configWrite(PCI_INTERRUPT_LINE, 1, lines(line))
    }
    const { secondary } = fn
    if (secondary === undefined) continue
    const behind = last + 1
    const inner = collect(secondary.bus, behind, (pin) => lines(bus.lineOfPin(slot, pin + 1)))
    last = inner.last
    fn.configWrite(PCI_PRIMARY_BUS, 1, number)
    fn.configWrite(PCI_SECONDARY_BUS, 1, behind)
    fn.configWrite(PCI_SUBORDINATE_BUS, 1, last)
    addBridge(fn, secondary, inner.wishes, wishes)
  }
  return { wishes, last }
}

/** A bridge wants a window around what is behind it, and room for what may come. */
function addBridge(fn: PciFunction, { bus }: SecondaryBus, inner: Wishes, outer: Wishes): void {
  closeWindows(fn)
  const bytes = Math.max(PORT_RESERVE, roundUp(extent(inner.memory), MIB))
  outer.memory.push({
    name: `memory behind ${fn.name}`,
    bytes,
    align: Math.max(MIB, ...inner.memory.map(({ align }) => align)),
    place(base) {
      setMemoryWindow(fn, base, base + bytes - 1)
      enable(fn, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)
      place(inner.memory, base, base + bytes)
    },
  })
  if (inner.ports.length === 0) return
  const portBytes = roundUp(extent(inner.ports), PORT_STEP)
  outer.ports.push({
    name: `ports behind ${fn.name}`,
    bytes: portBytes,
    align: PORT_STEP,
    place(base) {
      setPortWindow(fn, base, base + portBytes - 1)
      enable(fn, PCI_COMMAND_IO)
      place(inner.ports, base, base + portBytes)
    },
  })
  bus.remap()
}

function enable(fn: PciFunction, bits: number): void {
  fn.configWrite(PCI_COMMAND, 2, fn.config.get16(PCI_COMMAND) | bits)
}

function place(wishes: readonly Wish[], start: number, end: number): void {
  let next = start
  for (const { name, bytes, align, place: put } of ordered(wishes)) {
    const base = roundUp(next, align)
    if (base + bytes > end) {
      throw new VmmError(
        'E_CONFIG',
        `${name} wants ${bytes} addresses, but the PCI window from 0x${start.toString(16)} to ` +
          `0x${end.toString(16)} is full; use fewer devices`,
        { fields: { device: name, bytes } },
      )
    }
    put(base)
    next = base + bytes
  }
}

/** As much as wishes take from an address that is aligned for the largest. */
function extent(wishes: readonly Wish[]): number {
  return ordered(wishes).reduce((end, { bytes, align }) => roundUp(end, align) + bytes, 0)
}

function ordered(wishes: readonly Wish[]): readonly Wish[] {
  return wishes.toSorted((a, b) => b.align - a.align || b.bytes - a.bytes)
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step
}
