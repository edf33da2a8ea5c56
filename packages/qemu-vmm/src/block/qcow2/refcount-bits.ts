/** Entries of refcount blocks: big-endian numbers of 1 to 64 bits, small ones from the low bit up. */

import { getU64, setU64 } from './bytes.ts'

export function readRefcount(view: DataView, index: number, order: number): number {
  switch (order) {
    case 3:
      return view.getUint8(index)
    case 4:
      return view.getUint16(index * 2)
    case 5:
      return view.getUint32(index * 4)
    case 6:
      return getU64(view, index * 8)
    default: {
      const bits = 1 << order
      const at = index * bits
      return (view.getUint8(at >> 3) >> (at & 7)) & ((1 << bits) - 1)
    }
  }
}

export function writeRefcount(view: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 3:
      return view.setUint8(index, value)
    case 4:
      return view.setUint16(index * 2, value)
    case 5:
      return view.setUint32(index * 4, value)
    case 6:
      return setU64(view, index * 8, value)
    default: {
      const bits = 1 << order
      const at = index * bits
      const mask = ((1 << bits) - 1) << (at & 7)
      const rest = view.getUint8(at >> 3) & ~mask
      return view.setUint8(at >> 3, rest | (value << (at & 7)))
    }
  }
}

/** The largest value of an entry that is exact here. */
export function maxRefcount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1
}
