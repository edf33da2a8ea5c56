import { GORCL, GPRC, BPRC, MPRC, PRC64, TORL, TPR } from './registers.ts'
import { type RegisterFile, count, countSize, grow } from './register-map.ts'

/** The least that a frame on a cable has, without check sequence. */
export const LEAST_BYTES = 60
export const CHECK_BYTES = 4
/** A frame of 1500 bytes with header and tag, and the most that long ones may have. */
const ORDINARY_BYTES = 1518
const LONG_BYTES = 16_384 - CHECK_BYTES

/** RCTL (Intel 8254x manual, 13.4.22). */
const RCTL_SBP = 0x04
const RCTL_LPE = 0x20
const RCTL_BSEX = 0x0200_0000
const RCTL_SECRC = 0x0400_0000

/** Whether a frame of so many bytes is one that the card drops. */
export function isTooLong(rctl: number, size: number): boolean {
  const most = (rctl & RCTL_LPE) === 0 ? ORDINARY_BYTES : LONG_BYTES
  return size > most && ((rctl & RCTL_SBP) === 0 || size > LONG_BYTES)
}

/** Bytes of the check sequence that the guest gets. */
export function checkBytes(rctl: number): number {
  return (rctl & RCTL_SECRC) === 0 ? CHECK_BYTES : 0
}

/** Counts a frame: its bytes without check sequence, and those that the guest has got. */
export function countFrame(
  registers: RegisterFile,
  frame: Uint8Array,
  start: number,
  size: number,
  total: number,
): void {
  countSize(registers, PRC64, total)
  count(registers, TPR)
  count(registers, GPRC)
  grow(registers, TORL, size + CHECK_BYTES)
  grow(registers, GORCL, size + CHECK_BYTES)
  if ((frame[start]! & 1) === 0) return
  const isBroadcast = frame.subarray(start, start + 6).every((byte) => byte === 0xff)
  count(registers, isBroadcast ? BPRC : MPRC)
}

/** The frame without the four bytes of its tag. */
export function untagged(bytes: Uint8Array, start: number, size: number): Uint8Array {
  const data = new Uint8Array(size - 4)
  data.set(bytes.subarray(start, start + 12))
  data.set(bytes.subarray(start + 16, start + size), 12)
  return data
}

/** Bytes of a receive buffer: BSIZE, 16 times as much with BSEX (13.4.22). */
export function bufferBytes(rctl: number): number {
  const size = (rctl >>> 16) & 3
  if ((rctl & RCTL_BSEX) === 0 || size === 0) return 2048 >> size
  return 32_768 >> size
}
