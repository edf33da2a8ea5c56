/** Big-endian numbers of the format, as doubles: 2^53 bytes are more than any file has. */

const HIGH = 2 ** 32

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** A 64-bit number; above 2^53 it is rounded, which is no less impossible as an offset. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at) * HIGH + view.getUint32(at + 4)
}

/** @param value at most 2^53 - 1 */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / HIGH))
  view.setUint32(at + 4, value % HIGH)
}

export const hex = (value: number): string => `0x${value.toString(16)}`
