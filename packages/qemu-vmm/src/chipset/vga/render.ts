import type { Dispi, LinearMode } from './dispi.ts'
import type { VgaRegisters } from './registers.ts'
import { cellAt, glyphAt, scanLines, textMode } from './text.ts'
import type { TextMode } from './text.ts'

/** A picture: three bytes of red, green and blue for each pixel, line by line. */
export interface Picture {
  width: number
  height: number
  pixels: Uint8Array
}

/** What an empty screen is as large as. */
const BLANK = { width: 640, height: 480 } as const
const ATTRIBUTE_BLINK = 0x08
const ATTRIBUTE_LINE_GRAPHICS = 0x04
const CHARACTER_DOUBLED = 0x08

/** Whether the registers, or the display interface, have a graphics mode. */
export function isGraphics(registers: VgaRegisters, dispi: Dispi): boolean {
  return dispi.isEnabled || (registers.graphics[6]! & 1) !== 0
}

/** What a monitor would show. */
export function render(memory: Uint8Array, registers: VgaRegisters, dispi: Dispi): Picture {
  if (!registers.isEnabled && !dispi.isEnabled) return empty(BLANK.width, BLANK.height)
  const { mode } = dispi
  if (mode !== undefined && mode.depth > 8) return renderDirect(memory, mode)
  const colors = palette(registers, dispi.hasWideDac)
  if (mode !== undefined && mode.depth === 8) return renderIndexed(memory, mode, colors)
  if (!isGraphics(registers, dispi)) return renderText(memory, registers, colors)
  return renderVga(memory, registers, colors, mode)
}

function empty(width: number, height: number): Picture {
  return { width, height, pixels: new Uint8Array(width * height * 3) }
}

/** 256 colours, three bytes each. */
function palette({ palette: entries, pixelMask }: VgaRegisters, isWide: boolean): Uint8Array {
  const colors = new Uint8Array(768)
  for (let index = 0; index < 256; index++) {
    for (let part = 0; part < 3; part++) {
      const value = entries[(index & pixelMask) * 3 + part]!
      colors[index * 3 + part] = isWide ? value : (value << 2) | (value >> 4)
    }
  }
  return colors
}

/** Colours of the 16 values that text and planes have, through the attribute controller. */
function sixteen({ attribute }: VgaRegisters, colors: Uint8Array): Uint8Array {
  const result = new Uint8Array(48)
  for (let value = 0; value < 16; value++) {
    const inner = attribute[value]!
    const select = attribute[0x14]!
    const index =
      (attribute[0x10]! & 0x80) === 0
        ? ((select & 0x0c) << 4) | inner
        : ((select & 0x0f) << 4) | (inner & 0x0f)
    result.set(colors.subarray(index * 3, index * 3 + 3), value * 3)
  }
  return result
}

function renderDirect(memory: Uint8Array, mode: LinearMode): Picture {
  const { width, height, depth } = mode
  const picture = empty(width, height)
  const { pixels } = picture
  const bytes = depth === 15 ? 2 : depth >> 3
  let to = 0
  for (let y = 0; y < height; y++) {
    let from = mode.start + y * mode.pitch
    for (let x = 0; x < width; x++) {
      if (bytes === 2) {
        const value = (memory[from] ?? 0) | ((memory[from + 1] ?? 0) << 8)
        const greenBits = depth === 15 ? 5 : 6
        const red = (value >> (5 + greenBits)) & 31
        const green = (value >> 5) & ((1 << greenBits) - 1)
        const blue = value & 31
        pixels[to] = (red << 3) | (red >> 2)
        pixels[to + 1] = depth === 15 ? (green << 3) | (green >> 2) : (green << 2) | (green >> 4)
        pixels[to + 2] = (blue << 3) | (blue >> 2)
      } else {
        pixels[to] = memory[from + 2] ?? 0
        pixels[to + 1] = memory[from + 1] ?? 0
        pixels[to + 2] = memory[from] ?? 0
      }
      from += bytes
      to += 3
    }
  }
  return picture
}

function renderIndexed(memory: Uint8Array, mode: LinearMode, colors: Uint8Array): Picture {
  const picture = empty(mode.width, mode.height)
  for (let y = 0; y < mode.height; y++) {
    const from = mode.start + y * mode.pitch
    for (let x = 0; x < mode.width; x++) {
      put(picture, x, y, colors, memory[from + x] ?? 0)
    }
  }
  return picture
}

function put(
  { width, pixels }: Picture,
  x: number,
  y: number,
  colors: Uint8Array,
  color: number,
): void {
  const to = (y * width + x) * 3
  pixels[to] = colors[color * 3]!
  pixels[to + 1] = colors[color * 3 + 1]!
  pixels[to + 2] = colors[color * 3 + 2]!
}

function renderText(memory: Uint8Array, registers: VgaRegisters, all: Uint8Array): Picture {
  const mode = textMode(registers)
  const colors = sixteen(registers, all)
  const { cellWidth, cellHeight, columns, rows } = mode
  const scale = (registers.sequencer[1]! & CHARACTER_DOUBLED) !== 0 ? 2 : 1
  const picture = empty(columns * cellWidth * scale, rows * cellHeight)
  const blinks = (registers.attribute[0x10]! & ATTRIBUTE_BLINK) !== 0
  const joins = (registers.attribute[0x10]! & ATTRIBUTE_LINE_GRAPHICS) !== 0
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = cellAt(mode, row, column, memory.length)
      const character = memory[at]!
      const attribute = memory[at + 1]!
      const font = mode.fonts[(attribute & 0x08) !== 0 ? 1 : 0]
      const fore = attribute & 0x0f
      const back = (attribute >> 4) & (blinks ? 7 : 15)
      for (let line = 0; line < cellHeight; line++) {
        let bits = memory[glyphAt(font, character, line)]! << 1
        // The ninth column of what draws lines is its eighth.
        if (joins && character >= 0xc0 && character <= 0xdf) bits |= (bits >> 1) & 1
        if (isCursor(mode, row, column, line)) bits = 0x1ff
        const y = row * cellHeight + line
        for (let x = 0; x < cellWidth * scale; x++) {
          const color = (bits >> (8 - Math.floor(x / scale))) & 1 ? fore : back
          put(picture, column * cellWidth * scale + x, y, colors, color)
        }
      }
    }
  }
  return picture
}

function isCursor({ cursor }: TextMode, row: number, column: number, line: number): boolean {
  if (cursor === undefined || cursor.row !== row || cursor.column !== column) return false
  return line >= cursor.first && line <= cursor.last
}

/** Modes of 2, 4, 16 and 256 colours as VGA itself has them. */
function renderVga(
  memory: Uint8Array,
  registers: VgaRegisters,
  colors: Uint8Array,
  mode: LinearMode | undefined,
): Picture {
  const { crtc, graphics, sequencer } = registers
  const shift = (graphics[5]! >> 5) & 3
  const few = sixteen(registers, colors)
  const isDoubled = shift >= 2 || (sequencer[1]! & CHARACTER_DOUBLED) !== 0
  const columns =
    mode === undefined ? (crtc[1]! + 1) * 8 * (shift < 2 && isDoubled ? 2 : 1) : mode.width
  const picture = empty(columns, mode?.height ?? scanLines(registers))
  const doubled = crtc[9]! >> 7
  // Modes of the CGA have their lines' height from this bit alone.
  const repeats = mode !== undefined ? 1 : (shift === 1 ? 1 : (crtc[9]! & 0x1f) + 1) << doubled
  const start = mode?.start ?? ((crtc[0x0c]! << 8) | crtc[0x0d]!) * 4
  const pitch = mode?.pitch ?? crtc[0x13]! * 8
  const compare = lineCompare(crtc)
  let first = start
  let line = 0
  for (let y = 0; y < picture.height; y++) {
    const group = Math.floor(line / repeats)
    const from = interleave(first + rowsBefore(group, crtc) * pitch, group, crtc)
    for (let x = 0; x < columns; x++) {
      const pixel = isDoubled ? x >> 1 : x
      const color =
        shift >= 2
          ? (memory[(from + pixel) % memory.length] ?? 0)
          : shift === 1
            ? pairOf(memory, from, pixel) & registers.attribute[0x12]!
            : planesOf(memory, from, pixel) & registers.attribute[0x12]!
      put(picture, x, y, shift >= 2 ? colors : few, color)
    }
    line++
    // From here on the screen shows the beginning of video memory.
    if (y === compare) {
      first = 0
      line = 0
    }
  }
  return picture
}

function lineCompare(crtc: Uint8Array): number {
  return crtc[0x18]! | ((crtc[7]! & 0x10) << 4) | ((crtc[9]! & 0x40) << 3)
}

/** How often the address has advanced before a line: in modes of the CGA lines share one. */
function rowsBefore(line: number, crtc: Uint8Array): number {
  const mask = ~crtc[0x17]! & 3
  if (mask === 2) return (line >> 2) * 2 + Math.max(0, (line & 3) - 2)
  return mask === 0 ? line : Math.floor(line / (mask + 1))
}

/** The lines that share an address are in different parts of memory. */
function interleave(address: number, line: number, crtc: Uint8Array): number {
  let result = address
  const control = crtc[0x17]!
  const shift = (control & 0x40) === 0 ? 14 : 15
  if ((control & 1) === 0) result = (result & ~(1 << shift)) | ((line & 1) << shift)
  if ((control & 2) === 0) result = (result & ~0x8000) | ((line & 2) << 14)
  return result
}

function planesOf(memory: Uint8Array, from: number, x: number): number {
  const at = (from + (x >> 3) * 4) % memory.length
  const bit = 7 - (x & 7)
  let color = 0
  for (let plane = 0; plane < 4; plane++) color |= ((memory[at + plane]! >> bit) & 1) << plane
  return color
}

/** Two bits of one byte: eight pixels are in the first two planes. */
function pairOf(memory: Uint8Array, from: number, x: number): number {
  const at = (from + (x >> 3) * 4 + ((x >> 2) & 1)) % memory.length
  return (memory[at]! >> (6 - 2 * (x & 3))) & 3
}
