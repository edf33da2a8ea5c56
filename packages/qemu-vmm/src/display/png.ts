import { crc32, deflateSync } from 'node:zlib'
import type { Picture } from '../chipset/vga/render.ts'

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a] as const
const BIT_DEPTH = 8
const TRUE_COLOR = 2

/** A picture as a PNG file (W3C, Portable Network Graphics, third edition). */
export function encodePng({ width, height, pixels }: Picture): Uint8Array {
  const header = new DataView(new ArrayBuffer(13))
  header.setUint32(0, width)
  header.setUint32(4, height)
  header.setUint8(8, BIT_DEPTH)
  header.setUint8(9, TRUE_COLOR)
  const lineBytes = width * 3
  // Each line begins with the number of its filter: none.
  const lines = new Uint8Array(height * (lineBytes + 1))
  for (let y = 0; y < height; y++) {
    const line = pixels.subarray(y * lineBytes, (y + 1) * lineBytes)
    lines.set(line, y * (lineBytes + 1) + 1)
  }
  return new Uint8Array(
    Buffer.concat([
      Uint8Array.from(SIGNATURE),
      chunk('IHDR', new Uint8Array(header.buffer)),
      chunk('IDAT', deflateSync(lines)),
      chunk('IEND', new Uint8Array(0)),
    ]),
  )
}

/** A picture as a PPM file, as `screendump` of QEMU writes it. */
export function encodePpm({ width, height, pixels }: Picture): Uint8Array {
  return new Uint8Array(Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), pixels]))
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(data.length + 12)
  bytes.writeUInt32BE(data.length, 0)
  bytes.write(type, 4, 'latin1')
  bytes.set(data, 8)
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length)
  return bytes
}
