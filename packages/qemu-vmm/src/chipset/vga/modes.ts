import type { VgaRegisters } from './registers.ts'
import { storeFont } from './text.ts'

/** Registers of mode 3, 80 columns and 25 rows with characters of 9 by 16 (IBM VGA, mode 3+). */
const SEQUENCER = [0x03, 0x00, 0x03, 0x00, 0x02]
const CRTC = [
  0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00,
  0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
]
const GRAPHICS = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff]
const ATTRIBUTE = [
  0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f,
  0x0c, 0x00, 0x0f, 0x08, 0x00,
]
const MISC = 0x67
const COLUMNS = 80
const ROWS = 25
const FONT_HEIGHT = 16
const SPACE = 0x20
const LIGHT_GRAY = 0x07
const CELL_BYTES = 4

/** Sets mode 3 through the registers' own ports, as firmware does, and clears the screen. */
export function setTextMode(
  registers: VgaRegisters,
  memory: Uint8Array,
  font: Uint8Array | undefined,
): void {
  const indexed = (port: number, values: readonly number[]): void => {
    for (const [index, value] of values.entries()) {
      registers.write(port, index)
      registers.write(port + 1, value)
    }
  }
  registers.write(0x3c2, MISC)
  indexed(0x3c4, SEQUENCER)
  // The first eight registers are locked by one that comes later.
  indexed(
    0x3d4,
    Array.from({ length: 0x12 }, () => 0),
  )
  indexed(0x3d4, CRTC)
  indexed(0x3ce, GRAPHICS)
  registers.read(0x3da)
  for (const [index, value] of ATTRIBUTE.entries()) {
    registers.write(0x3c0, index)
    registers.write(0x3c0, value)
  }
  registers.write(0x3c0, 0x20)
  registers.write(0x3c6, 0xff)
  registers.write(0x3c8, 0)
  for (let color = 0; color < 64; color++) {
    for (const part of [2, 1, 0]) registers.write(0x3c9, level(color, part))
  }
  memory.fill(0, 0, COLUMNS * ROWS * CELL_BYTES * 2)
  for (let at = 0; at < COLUMNS * ROWS * CELL_BYTES; at += CELL_BYTES) {
    memory[at] = SPACE
    memory[at + 1] = LIGHT_GRAY
  }
  if (font !== undefined) storeFont(memory, font, FONT_HEIGHT)
}

/** Six bits of blue (0), green or red of an EGA colour, which has two bits of each. */
function level(color: number, part: number): number {
  const low = (color >> (part + 3)) & 1
  const high = (color >> part) & 1
  return high * 0x2a + low * 0x15
}

/** Characters 0 and 1 of the font that PCs have. */
const FONT_MARK = Uint8Array.from([
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99,
  0x81, 0x81, 0x7e, 0, 0, 0, 0,
])

/** The font of characters 16 lines high in a video BIOS, or undefined. */
export function findFont(rom: Uint8Array): Uint8Array | undefined {
  const at = Buffer.from(rom.buffer, rom.byteOffset, rom.length).indexOf(FONT_MARK)
  const end = at + 256 * FONT_HEIGHT
  return at < 0 || end > rom.length ? undefined : rom.slice(at, end)
}
