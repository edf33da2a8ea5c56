import { PCI_COMMAND, PCI_COMMAND_IO, PCI_COMMAND_MEMORY } from './config-space.ts'
import type { ConfigSpace } from './config-space.ts'
import type { PciFunction, PciWindows } from './function.ts'

/** Registers of a bridge (PCI-to-PCI Bridge 1.2, 3.2). */
const IO_BASE = 0x1c
const IO_LIMIT = 0x1d
const MEMORY_BASE = 0x20
const MEMORY_LIMIT = 0x22
const PREFETCHABLE_BASE = 0x24
const PREFETCHABLE_LIMIT = 0x26
const PREFETCHABLE_BASE_HIGH = 0x28
const PREFETCHABLE_LIMIT_HIGH = 0x2c

const GIB4 = 0x1_0000_0000
const MIB = 1 << 20

/** Lets the guest set the windows, which are closed at first, and of a bridge that decodes 64 bits. */
export function addWindows(config: ConfigSpace): void {
  config.set(IO_BASE, 1, 0xf0)
  config.set(MEMORY_BASE, 2, 0xfff0)
  config.allowWrites(IO_BASE, 2, 0xf0f0)
  config.allowWrites(MEMORY_BASE, 4, 0xfff0_fff0)
  config.set(PREFETCHABLE_BASE, 2, 0xfff1)
  config.set(PREFETCHABLE_LIMIT, 2, 1)
  config.allowWrites(PREFETCHABLE_BASE, 4, 0xfff0_fff0)
  config.allowWrites(PREFETCHABLE_BASE_HIGH, 4, 0xffff_ffff)
  config.allowWrites(PREFETCHABLE_LIMIT_HIGH, 4, 0xffff_ffff)
}

/** What a bridge lets through: what lies in its windows, if they are on. */
export function bridgeWindows(fn: PciFunction): PciWindows {
  return {
    passes(space, base, size) {
      const { config } = fn
      const command = config.get16(PCI_COMMAND)
      const enabled = space === 'pio' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY
      if ((command & enabled) === 0) return false
      const last = base + size - 1
      const isInside =
        space === 'pio'
          ? base >= portBase(config) && last <= portLimit(config)
          : (base >= memoryBase(config) && last <= memoryLimit(config)) ||
            (base >= prefetchableBase(config) && last <= prefetchableLimit(config))
      // A bridge behind another passes on what it is passed.
      return isInside && fn.windows?.passes(space, base, size) !== false
    },
  }
}

/** A range of addresses; a window that is closed ends before it begins. */
export interface PciRange {
  base: number
  limit: number
}

export interface BridgeRanges {
  io: PciRange
  memory: PciRange
  prefetchable: PciRange
}

/** The windows as the registers say. */
export function bridgeRanges(config: ConfigSpace): BridgeRanges {
  return {
    io: { base: portBase(config), limit: portLimit(config) },
    memory: { base: memoryBase(config), limit: memoryLimit(config) },
    prefetchable: { base: prefetchableBase(config), limit: prefetchableLimit(config) },
  }
}

/** Windows that let nothing through. */
export function closeWindows(fn: PciFunction): void {
  fn.configWrite(IO_BASE, 2, 0x00f0)
  fn.configWrite(MEMORY_BASE, 4, 0x0000_fff0)
  fn.configWrite(PREFETCHABLE_BASE, 4, 0x0000_fff0)
  fn.configWrite(PREFETCHABLE_BASE_HIGH, 4, 0)
  fn.configWrite(PREFETCHABLE_LIMIT_HIGH, 4, 0)
}

/** `base` and `last` below 4 GiB, whole MiB. */
export function setMemoryWindow(fn: PciFunction, base: number, last: number): void {
  fn.configWrite(MEMORY_BASE, 2, (base >>> 16) & 0xfff0)
  fn.configWrite(MEMORY_LIMIT, 2, (last >>> 16) & 0xfff0)
}

/** Whole 4 KiB. */
export function setPortWindow(fn: PciFunction, base: number, last: number): void {
  fn.configWrite(IO_BASE, 1, (base >> 8) & 0xf0)
  fn.configWrite(IO_LIMIT, 1, (last >> 8) & 0xf0)
}

function portBase(config: ConfigSpace): number {
  return (config.data[IO_BASE]! & 0xf0) << 8
}

function portLimit(config: ConfigSpace): number {
  return ((config.data[IO_LIMIT]! & 0xf0) << 8) | 0xfff
}

function memoryBase(config: ConfigSpace): number {
  return (config.get16(MEMORY_BASE) & 0xfff0) * 0x1_0000
}

function memoryLimit(config: ConfigSpace): number {
  return (config.get16(MEMORY_LIMIT) & 0xfff0) * 0x1_0000 + MIB - 1
}

function prefetchableBase(config: ConfigSpace): number {
  const low = (config.get16(PREFETCHABLE_BASE) & 0xfff0) * 0x1_0000
  return config.get32(PREFETCHABLE_BASE_HIGH) * GIB4 + low
}

function prefetchableLimit(config: ConfigSpace): number {
  const low = (config.get16(PREFETCHABLE_LIMIT) & 0xfff0) * 0x1_0000 + MIB - 1
  return config.get32(PREFETCHABLE_LIMIT_HIGH) * GIB4 + low
}
