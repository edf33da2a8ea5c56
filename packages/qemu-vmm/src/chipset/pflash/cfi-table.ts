/**
 * What a flash chip says of itself when asked (JEDEC JEP137, JESD68.01): Intel's extended command set,
 * eight data lines, blocks of one size.
 */
export function cfiTable(bytes: number, sectorBytes: number): Uint8Array {
  const table = new Uint8Array(0x52)
  const text = (at: number, value: string): void => table.set(Buffer.from(value, 'latin1'), at)
  text(0x10, 'QRY')
  // Command set 1, its table at 0x31, no alternative.
  table.set([0x01, 0x00, 0x31, 0x00], 0x13)
  // 4.5 to 5.5 V, no programming voltage; times as powers of two.
  table.set([0x45, 0x55, 0x00, 0x00, 0x07, 0x07, 0x0a, 0x00, 0x04, 0x04, 0x04, 0x00], 0x1b)
  table[0x27] = 31 - Math.clz32(bytes & -bytes)
  table.set([0x02, 0x00, WRITE_BUFFER_SHIFT, 0x00, 0x01], 0x28)
  const blocks = bytes / sectorBytes - 1
  table.set([blocks & 0xff, blocks >> 8, (sectorBytes >> 8) & 0xff, sectorBytes >> 16], 0x2d)
  text(0x31, 'PRI10')
  table[0x3f] = 0x01
  return table
}

/** Bytes of the write buffer, as a power of two. */
const WRITE_BUFFER_SHIFT = 8
