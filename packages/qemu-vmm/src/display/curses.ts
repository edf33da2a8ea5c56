import { CP437 } from '../chipset/vga/text.ts'
import type { Screen, TextScreen } from './screen.ts'

/** Colours of a PC in the order of ANSI's: red and blue change places. */
const ANSI = [0, 4, 2, 6, 1, 5, 3, 7] as const
const RESET = '\u001b[0m'
const ENTER = '\u001b[?1049h\u001b[2J\u001b[?25l'
const LEAVE = `${RESET}\u001b[?25h\u001b[?1049l`

/** Draws a PC's text screen on a terminal, and each time only what has changed. */
export class TerminalPainter {
  readonly #size: () => { columns: number; rows: number }
  #lines: string[] = []
  #shape = ''
  #cursor = ''

  /** `size` is that of the terminal. */
  constructor(size: () => { columns: number; rows: number }) {
    this.#size = size
  }

  /** What to write to the terminal before anything else, and after everything. */
  readonly enter: string = ENTER
  readonly leave: string = LEAVE

  /** What to write to the terminal to show this. */
  paint(screen: Screen): string {
    const { columns, rows } = this.#size()
    const shape = `${screen.kind} ${columns} ${rows} ${describe(screen)}`
    let output = ''
    if (shape !== this.#shape) {
      this.#shape = shape
      this.#lines = []
      output += `${RESET}\u001b[2J`
    }
    if (screen.kind !== 'text') return output + this.#message(describe(screen), columns, rows)
    for (let row = 0; row < Math.min(screen.rows, rows); row++) {
      const line = paintRow(screen, row, Math.min(screen.columns, columns))
      if (line === this.#lines[row]) continue
      this.#lines[row] = line
      output += `\u001b[${row + 1};1H${line}`
    }
    const place = cursor(screen, columns, rows)
    if (output === '' && place === this.#cursor) return ''
    this.#cursor = place
    return output + place
  }

  #message(text: string, columns: number, rows: number): string {
    if (this.#lines[0] === text) return ''
    this.#lines = [text]
    const row = Math.max(1, rows >> 1)
    const column = Math.max(1, (columns - text.length) >> 1)
    return `${RESET}\u001b[?25l\u001b[${row};${column}H${text.slice(0, columns)}`
  }
}

function describe(screen: Screen): string {
  if (screen.kind === 'text') return `${screen.columns}x${screen.rows}`
  return screen.kind === 'off'
    ? 'The screen is off'
    : `${screen.width} x ${screen.height} Graphic mode`
}

function paintRow({ cells, columns }: TextScreen, row: number, shown: number): string {
  let line = ''
  let last = -1
  for (let column = 0; column < shown; column++) {
    const at = (row * columns + column) * 2
    const attribute = cells[at + 1]!
    if (attribute !== last) line += colors(attribute)
    last = attribute
    line += CP437[cells[at]!]!
  }
  return line
}

function colors(attribute: number): string {
  const fore = ANSI[(attribute & 7) as 0]! + ((attribute & 8) === 0 ? 30 : 90)
  return `\u001b[0;${fore};${40 + ANSI[((attribute >> 4) & 7) as 0]!}m`
}

function cursor({ cursor: place }: TextScreen, columns: number, rows: number): string {
  if (place === undefined || place.row >= rows || place.column >= columns) return '\u001b[?25l'
  return `\u001b[${place.row + 1};${place.column + 1}H\u001b[?25h`
}
