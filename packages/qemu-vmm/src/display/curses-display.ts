import type { ByteInput, ByteOutput } from '../chardev/stdio.ts'
import type { RawMode } from '../terminal/raw-mode.ts'
import { TerminalPainter } from './curses.ts'
import { TYPED_MS } from './key-queue.ts'
import type { Screen } from './screen.ts'
import { keysOfInput } from './terminal-keys.ts'

const REFRESH_MS = 40

/** The machine whose screen is shown. */
export interface ShownMachine {
  screenState(): Promise<Screen>
  sendKeys(names: readonly string[], holdMs: number): Promise<void>
}

export interface CursesOptions {
  machine: ShownMachine
  input: ByteInput
  output: ByteOutput
  raw: RawMode
  size: () => { columns: number; rows: number }
  /** The character after Ctrl that begins a command, as a code 1 to 26. */
  escapeCode: number
  /** The user wants to end the program. */
  onQuit: () => void
}

/**
 * `-display curses`: text modes on the terminal, and its keys on the PC keyboard. The escape
 * character and `x` end the program; twice it is a key like others.
 */
export class CursesDisplay {
  readonly #options: CursesOptions
  readonly #painter: TerminalPainter
  #timer: NodeJS.Timeout | undefined
  #isEscaped = false
  #isFull = false
  #isClosed = false

  constructor(options: CursesOptions) {
    this.#options = options
    this.#painter = new TerminalPainter(options.size)
    const { input, output, raw } = options
    raw.enable()
    input.on('data', (chunk) => this.#type(Buffer.from(chunk).toString('latin1')))
    input.on('error', () => {})
    input.on('end', () => {})
    output.on('drain', () => {
      this.#isFull = false
    })
    output.on('error', () => this.close())
    input.resume()
    this.#write(this.#painter.enter)
    void this.#refresh()
  }

  /** Shows the terminal as it was before. */
  close(): void {
    if (this.#isClosed) return
    this.#write(this.#painter.leave)
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#options.input.pause()
    this.#options.raw.disable()
  }

  async #refresh(): Promise<void> {
    try {
      const screen = await this.#options.machine.screenState()
      // A terminal that is slow gets what is there once it has taken the last.
      if (!this.#isFull) this.#write(this.#painter.paint(screen))
    } catch {
      // The machine has ended; whoever runs it closes this.
    }
    if (!this.#isClosed) this.#timer = setTimeout(() => void this.#refresh(), REFRESH_MS)
  }

  #write(text: string): void {
    if (text === '' || this.#isClosed) return
    this.#isFull = !this.#options.output.write(Buffer.from(text))
  }

  #type(input: string): void {
    const { escapeCode, onQuit, machine } = this.#options
    const escape = String.fromCharCode(escapeCode)
    let typed = ''
    for (const char of input) {
      if (!this.#isEscaped && char === escape) {
        this.#isEscaped = true
        continue
      }
      if (this.#isEscaped && char === 'x') {
        this.#isEscaped = false
        onQuit()
        return
      }
      if (!this.#isEscaped || char === escape) typed += char
      this.#isEscaped = false
    }
    for (const keys of keysOfInput(typed)) machine.sendKeys(keys, TYPED_MS).catch(() => {})
  }
}
