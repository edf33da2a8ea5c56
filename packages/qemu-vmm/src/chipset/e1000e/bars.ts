import { REGISTER_BYTES } from '../e1000/registers.ts'
import type { PciFunction } from '../pci/function.ts'

const REGISTER_BAR = 0
const FLASH_BAR = 1
const INDEX_BAR = 2
const FLASH_BYTES = 0x2_0000
const INDEX_BYTES = 32
/** The two ports by which registers are reached, too (Intel 82574 data sheet, 10.2.1.3). */
const INDEX = 0
const DATA = 4

/** What is behind the base address registers. */
export interface BarLinks {
  /** `offset` is a multiple of 4. */
  read(offset: number): number
  write(offset: number, value: number): void
  index(): number
  setIndex(index: number): void
}

const access = { min: 4, max: 4 } as const

/** Adds registers, the flash, which is empty and cannot be written, and the ports of an index. */
export function addBars(fn: PciFunction, links: BarLinks): void {
  fn.addBar(REGISTER_BAR, {
    space: 'mmio',
    size: REGISTER_BYTES,
    access,
    handler: {
      read: (offset) => links.read(offset & ~3),
      write: (offset, _size, value) => links.write(offset & ~3, value >>> 0),
    },
  })
  fn.addBar(FLASH_BAR, {
    space: 'mmio',
    size: FLASH_BYTES,
    access,
    handler: { read: () => 0, write: () => {} },
  })
  fn.addBar(INDEX_BAR, {
    space: 'pio',
    size: INDEX_BYTES,
    access,
    handler: {
      read(offset) {
        if (offset === INDEX) return links.index()
        return offset === DATA && links.index() < REGISTER_BYTES
          ? links.read(links.index() & ~3)
          : 0
      },
      write(offset, _size, value) {
        if (offset === INDEX) links.setIndex(value >>> 0)
        else if (offset === DATA && links.index() < REGISTER_BYTES) {
          links.write(links.index() & ~3, value >>> 0)
        }
      },
    },
  })
}
