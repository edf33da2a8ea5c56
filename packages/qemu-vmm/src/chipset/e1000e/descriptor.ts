import { bufferBytes } from '../e1000/frame.ts'
import type { RegisterFile } from '../e1000/register-map.ts'
import { RCTL } from '../e1000/registers.ts'
import { PSRCTL, RFCTL } from './registers.ts'
import { RFCTL_EXTEN } from './rss.ts'

/** RCTL (Intel 82574 data sheet, 10.2.5.1): the kind of descriptors, and buffers in steps of 1 KiB. */
const RCTL_SPLIT_MASK = 0x0c00
const RCTL_SPLIT = 0x0400
const RCTL_FLXBUF_SHIFT = 27

/** The most buffers of a descriptor. */
export const BUFFERS = 4
export type DescriptorKind = 'legacy' | 'extended' | 'split'

/** How the guest has its descriptors for receiving (7.1.4 and 7.1.5). */
export interface DescriptorLayout {
  kind: DescriptorKind
  /** Bytes of one. */
  bytes: number
  /** Bytes of its buffers, and of all together. */
  sizes: readonly number[]
  capacity: number
}

export function descriptorLayout(registers: RegisterFile): DescriptorLayout {
  const rctl = registers[RCTL >> 2]!
  const sizes = bufferSizes(rctl, registers[PSRCTL >> 2]!)
  const capacity = sizes.reduce((sum, size) => sum + size, 0)
  if ((registers[RFCTL >> 2]! & RFCTL_EXTEN) === 0) {
    return { kind: 'legacy', bytes: 16, sizes: sizes.slice(0, 1), capacity: sizes[0]! }
  }
  return (rctl & RCTL_SPLIT_MASK) === RCTL_SPLIT
    ? { kind: 'split', bytes: 32, sizes, capacity }
    : { kind: 'extended', bytes: 16, sizes: sizes.slice(0, 1), capacity: sizes[0]! }
}

/** A header of 128 bytes to 16 KiB, and up to three parts of 1 KiB to 63 KiB (10.2.5.3). */
function bufferSizes(rctl: number, psrctl: number): number[] {
  if ((rctl & RCTL_SPLIT_MASK) !== 0) {
    return [
      (psrctl & 0x7f) * 128,
      ((psrctl >>> 8) & 0x3f) * 1024,
      ((psrctl >>> 16) & 0x3f) * 1024,
      ((psrctl >>> 24) & 0x3f) * 1024,
    ]
  }
  const flexible = (rctl >>> RCTL_FLXBUF_SHIFT) & 0x0f
  return [flexible === 0 ? bufferBytes(rctl) : flexible * 1024]
}
