import type { ConfigSpace } from './pci/config-space.ts'

/** Where the RAM of system management mode is seen: by processors in that mode, and by all. */
export interface SmramView {
  /** At 640 KiB, in the mode. */
  readonly low: boolean
  /** What is at 640 KiB, below the end of the 4 GiB, in the mode. */
  readonly high: boolean
  /** At 640 KiB, by all. */
  readonly openLow: boolean
  /** Below the end of the 4 GiB, by all. */
  readonly openHigh: boolean
  /** Bytes at the end of the RAM below 4 GiB that only the mode sees. */
  readonly topBytes: number
  /** The RAM around the first SMBASE is seen by the mode alone. */
  readonly atBase: boolean
}

export const NO_SMRAM: SmramView = {
  low: false,
  high: false,
  openLow: false,
  openHigh: false,
  topBytes: 0,
  atBase: false,
}

/** System management mode, of a machine that has it. */
export interface SmmControl {
  /** What the host bridge says about its RAM takes effect. */
  show(view: SmramView): void
  /** Sends a system management interrupt to one processor, or to all. */
  interrupt(vcpu: number | 'all'): void
}

/** Bits of the SMRAM register of both host bridges (82441FX data sheet, 3.2.18; Q35, 5.1.30). */
export const SMRAM_DEFAULT = 0x02
export const SMRAM_WRITABLE = 0x78
const D_OPEN = 0x40
const D_CLS = 0x20
export const D_LCK = 0x10
const G_SMRAME = 0x08

/** Bits of the extended SMRAM register of the Q35 (data sheet, 5.1.31). */
export const ESMRAM_DEFAULT = 0x38
export const ESMRAM_WRITABLE = 0x87
const H_SMRAME = 0x80
const TSEG_SIZE_SHIFT = 1
const T_EN = 0x01
const MIB = 1 << 20
/** By the size field; the last is what QEMU's boards make of the one that is reserved. */
const TSEG_MIB = [1, 2, 8] as const

/**
 * What the lock bit does: what is open is closed, and nothing but the bit that closes SMRAM to data can be written
 * until reset. Returns the register.
 */
export function lockSmram(config: ConfigSpace, at: number): number {
  const isLocked = (config.data[at]! & D_LCK) !== 0
  config.allowWrites(at, 1, isLocked ? D_CLS : SMRAM_WRITABLE)
  if (isLocked) config.set(at, 1, config.data[at]! & ~D_OPEN)
  return config.data[at]!
}

/** What the register of the RAM around the first SMBASE says (QEMU's, in hw/pci-host/q35). */
export const AT_BASE_QUERY = 0xff
export const AT_BASE_THERE = 0x01
export const AT_BASE_LOCKED = 0x02

/** The registers as the board has to show it. `extendedMib` is the size behind the reserved value. */
export function smramView(smram: number, esmram = 0, extendedMib = 0, atBase = 0): SmramView {
  const enabled = (smram & G_SMRAME) !== 0
  const open = (smram & D_OPEN) !== 0
  const high = (esmram & H_SMRAME) !== 0
  const size = TSEG_MIB[((esmram >> TSEG_SIZE_SHIFT) & 3) as 0 | 1 | 2] ?? extendedMib
  return {
    low: enabled && !high,
    high: enabled && high,
    openLow: open && !high,
    openHigh: open && high,
    topBytes: enabled && (esmram & T_EN) !== 0 ? size * MIB : 0,
    atBase: atBase === AT_BASE_LOCKED,
  }
}
