import { CP437 } from '../chipset/vga/text.ts'

/** What is on a screen. Plain data: it crosses to the isolate that shows it. */
export type Screen =
  | { kind: 'off' }
  | { kind: 'graphics'; width: number; height: number }
  | TextScreen

export interface TextScreen {
  kind: 'text'
  columns: number
  rows: number
  /** For each place a character of code page 437 and its attribute. */
  cells: Uint8Array
  /** Where the cursor is, unless it is hidden. */
  cursor: { row: number; column: number } | undefined
}

/** The text: rows without the spaces at their ends. */
export function screenText({ columns, rows, cells }: TextScreen): string {
  const lines: string[] = []
  for (let row = 0; row < rows; row++) {
    let line = ''
    for (let column = 0; column < columns; column++) {
      line += CP437[cells[(row * columns + column) * 2]!]
    }
    lines.push(line.trimEnd())
  }
  return lines.join('\n')
}
