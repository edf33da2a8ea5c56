/**
 * Puts the Internet checksum (RFC 1071) of the bytes from `start` to `end`, which counts too, at `at`; 0 for the end of
 * the frame. What lies outside a frame of `size` bytes is left.
 */
export function putChecksum(
  frame: DataView,
  size: number,
  at: number,
  start: number,
  end: number,
): void {
  const stop = end !== 0 && end < size ? end + 1 : size
  if (at + 2 > stop || start > stop) return
  let sum = 0
  let i = start
  for (; i + 1 < stop; i += 2) sum += frame.getUint16(i)
  if (i < stop) sum += frame.getUint8(i) << 8
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  // Zero would say that there is none.
  frame.setUint16(at, sum === 0xffff ? 0xffff : ~sum)
}
