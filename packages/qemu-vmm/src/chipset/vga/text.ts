import type { VgaRegisters } from './registers.ts'

/** Bytes of video memory for a character: itself, its attribute, and two for fonts. */
const CELL_BYTES = 4
const FONT_BYTES = 0x2000
const GLYPH_LINES = 32
const COLUMNS_MAX = 256
const ROWS_MAX = 256

/** A text mode as the registers have it. */
export interface TextMode {
  columns: number
  rows: number
  /** Lines of a character. */
  cellHeight: number
  /** 8 or 9. */
  cellWidth: number
  /** Byte of the first character, and from one row to the next. */
  start: number
  pitch: number
  /** The cursor's place in rows and columns; undefined when it is hidden or elsewhere. */
  cursor: { row: number; column: number; first: number; last: number } | undefined
  /** Byte of video memory where each of the two fonts begins. */
  fonts: readonly [number, number]
}

/** Lines that are scanned. */
export function scanLines({ crtc }: VgaRegisters): number {
  return (crtc[0x12]! | ((crtc[7]! & 0x02) << 7) | ((crtc[7]! & 0x40) << 3)) + 1
}

/** The present text mode. */
export function textMode(registers: VgaRegisters): TextMode {
  const { crtc, sequencer } = registers
  const cellHeight = (crtc[9]! & 0x1f) + 1
  const columns = Math.min(crtc[1]! + 1, COLUMNS_MAX)
  const rows = Math.min(Math.max(1, Math.floor(scanLines(registers) / cellHeight)), ROWS_MAX)
  const first = (crtc[0x0c]! << 8) | crtc[0x0d]!
  const pitch = (crtc[0x13]! || columns >> 1) * 8
  const at = ((crtc[0x0e]! << 8) | crtc[0x0f]!) - first
  const perRow = pitch / CELL_BYTES
  const row = Math.floor(at / perRow)
  const column = at - row * perRow
  const isShown = (crtc[0x0a]! & 0x20) === 0 && at >= 0 && row < rows && column < columns
  const select = sequencer[3]!
  return {
    columns,
    rows,
    cellHeight,
    cellWidth: (sequencer[1]! & 1) === 0 ? 9 : 8,
    start: first * CELL_BYTES,
    pitch,
    cursor: isShown
      ? { row, column, first: crtc[0x0a]! & 0x1f, last: crtc[0x0b]! & 0x1f }
      : undefined,
    fonts: [fontStart(select >> 4, select), fontStart(select >> 5, select >> 2)],
  }
}

/** The byte where the character at a place is; its attribute follows. */
export function cellAt(mode: TextMode, row: number, column: number, bytes: number): number {
  // Beyond 64 Ki characters the address begins anew.
  return (mode.start + row * mode.pitch + column * CELL_BYTES) % Math.min(bytes, 0x4_0000)
}

/** The byte with line `line` of a character of a font. */
export function glyphAt(font: number, character: number, line: number): number {
  return font + (character * GLYPH_LINES + line) * CELL_BYTES
}

/** What is on the screen: for each place the character and its attribute. */
export function cellsOf(mode: TextMode, memory: Uint8Array): Uint8Array {
  const { rows, columns } = mode
  const cells = new Uint8Array(rows * columns * 2)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = cellAt(mode, row, column, memory.length)
      const to = (row * columns + column) * 2
      cells[to] = memory[from]!
      cells[to + 1] = memory[from + 1]!
    }
  }
  return cells
}

/** Puts a font of 256 characters, `height` bytes each, where the hardware looks for it. */
export function storeFont(memory: Uint8Array, font: Uint8Array, height: number): void {
  for (let character = 0; character < 256; character++) {
    for (let line = 0; line < height; line++) {
      memory[glyphAt(2, character, line)] = font[character * height + line] ?? 0
    }
  }
}

/** Bits 0 and 1 of `low`, and bit 0 of `high`, choose one of eight fonts in plane 2. */
function fontStart(high: number, low: number): number {
  return ((high & 1) | ((low << 1) & 6)) * FONT_BYTES * CELL_BYTES + 2
}

const LOW = ' ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼'
const HIGH =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀' +
  'αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0'
/** The characters of code page 437, which the font of a PC has. */
export const CP437: readonly string[] = [
  ...LOW,
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
  '⌂',
  ...HIGH,
]
