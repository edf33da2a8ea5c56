const POLYNOMIAL = 0xedb8_8320
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ ((value & 1) === 0 ? 0 : POLYNOMIAL)
  return value
})

/** The check sequence of an Ethernet frame (IEEE 802.3, 3.2.9), as a word whose lowest byte goes first. */
export function checkSequence(bytes: Uint8Array, start: number, end: number): number {
  let value = 0xffff_ffff
  for (let at = start; at < end; at++) {
    value = (value >>> 8) ^ TABLE[(value ^ bytes[at]!) & 0xff]!
  }
  return ~value >>> 0
}

/** Which of 64 bits stands for the group that a frame at `at` goes to: the upper end of the sum, bits reversed. */
export function groupHash(frame: Uint8Array, at: number): number {
  const sum = ~checkSequence(frame, at, at + 6)
  let hash = 0
  for (let bit = 0; bit < 6; bit++) hash |= ((sum >>> bit) & 1) << (5 - bit)
  return hash
}
