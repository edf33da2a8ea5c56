const HISTORY_LINES = 64
/** Longer lines are not commands; what does not fit is not taken. */
const MAX_CHARS = 4096

const CTRL = (letter: string): number => letter.charCodeAt(0) & 0x1f
const ESCAPE = 0x1b
const DELETE = 0x7f

export interface LineEditorOptions {
  prompt: string
  /** Shows text on the terminal. */
  write(text: string): void
  /** A whole line, without its end. */
  onLine(line: string): void
  /** Words that can stand where the last word of the text does. */
  complete(text: string): readonly string[]
}

/**
 * Edits one line on a raw terminal: the keys of readline that fit on one hand, history and
 * completion. Characters are bytes: text in other encodings passes through unchanged.
 */
export class LineEditor {
  readonly #options: LineEditorOptions
  readonly #history: string[] = []
  #historyAt = 0
  #draft = ''
  #text = ''
  #cursor = 0
  /** What has come of an escape sequence, after the escape character. */
  #sequence: string | undefined
  #lastByte = 0

  constructor(options: LineEditorOptions) {
    this.#options = options
  }

  /** Forgets what has been typed of the present line. */
  clear(): void {
    this.#text = ''
    this.#cursor = 0
    this.#sequence = undefined
    this.#historyAt = this.#history.length
  }

  /** Shows the prompt and what has been typed so far. */
  show(): void {
    const behind = this.#text.length - this.#cursor
    this.#options.write(this.#options.prompt + this.#text + left(behind))
  }

  /** Lines that were entered, oldest first. */
  get history(): readonly string[] {
    return this.#history
  }

  feed(byte: number): void {
    const last = this.#lastByte
    this.#lastByte = byte
    if (this.#sequence !== undefined) return this.#escapeByte(byte)
    if (byte >= 0x20 && byte !== DELETE) return this.#insert(String.fromCharCode(byte))
    switch (byte) {
      case 0x0a:
        // The second half of a line end that came as two characters.
        if (last !== 0x0d) this.#enter()
        break
      case 0x0d:
        this.#enter()
        break
      case 0x08:
      case DELETE:
        this.#erase(this.#cursor - 1, this.#cursor)
        break
      case ESCAPE:
        this.#sequence = ''
        break
      case CTRL('A'):
        this.#move(0)
        break
      case CTRL('B'):
        this.#move(this.#cursor - 1)
        break
      case CTRL('D'):
        this.#erase(this.#cursor, this.#cursor + 1)
        break
      case CTRL('E'):
        this.#move(this.#text.length)
        break
      case CTRL('F'):
        this.#move(this.#cursor + 1)
        break
      case CTRL('I'):
        this.#complete()
        break
      case CTRL('K'):
        this.#erase(this.#cursor, this.#text.length)
        break
      case CTRL('L'):
        this.#options.write('\x1b[2J\x1b[H')
        this.show()
        break
      case CTRL('N'):
        this.#recall(this.#historyAt + 1)
        break
      case CTRL('P'):
        this.#recall(this.#historyAt - 1)
        break
      case CTRL('U'):
        this.#erase(0, this.#cursor)
        break
      case CTRL('W'):
        this.#erase(this.#wordStart(), this.#cursor)
        break
      default:
        break
    }
  }

  #escapeByte(byte: number): void {
    const sequence = this.#sequence + String.fromCharCode(byte)
    // `ESC [` and `ESC O` go on until a letter or a tilde ends them.
    if (sequence === '[' || sequence === 'O' || /^\[[0-9;]{1,8}$/.test(sequence)) {
      this.#sequence = sequence
      return
    }
    this.#sequence = undefined
    switch (sequence.replace(/^O/, '[')) {
      case '[A':
        this.#recall(this.#historyAt - 1)
        break
      case '[B':
        this.#recall(this.#historyAt + 1)
        break
      case '[C':
        this.#move(this.#cursor + 1)
        break
      case '[D':
        this.#move(this.#cursor - 1)
        break
      case '[H':
      case '[1~':
        this.#move(0)
        break
      case '[F':
      case '[4~':
        this.#move(this.#text.length)
        break
      case '[3~':
        this.#erase(this.#cursor, this.#cursor + 1)
        break
      default:
        break
    }
  }

  #insert(text: string): void {
    if (this.#text.length + text.length > MAX_CHARS) return
    const behind = this.#text.slice(this.#cursor)
    this.#text = this.#text.slice(0, this.#cursor) + text + behind
    this.#cursor += text.length
    this.#options.write(text + behind + left(behind.length))
  }

  #move(to: number): void {
    const cursor = Math.max(0, Math.min(this.#text.length, to))
    this.#options.write(
      cursor < this.#cursor ? left(this.#cursor - cursor) : this.#text.slice(this.#cursor, cursor),
    )
    this.#cursor = cursor
  }

  #erase(from: number, to: number): void {
    if (from < 0 || to > this.#text.length || from === to) return
    this.#move(from)
    const behind = this.#text.slice(to)
    this.#text = this.#text.slice(0, from) + behind
    this.#options.write(`${behind}\x1b[K${left(behind.length)}`)
  }

  #replace(text: string): void {
    this.#move(0)
    this.#text = text
    this.#cursor = text.length
    this.#options.write(`${text}\x1b[K`)
  }

  #recall(index: number): void {
    if (index < 0 || index > this.#history.length) return
    if (this.#historyAt === this.#history.length) this.#draft = this.#text
    this.#historyAt = index
    this.#replace(this.#history[index] ?? this.#draft)
  }

  #wordStart(): number {
    return this.#text.slice(0, this.#cursor).search(/\S+\s*$/)
  }

  #enter(): void {
    const line = this.#text
    this.#text = ''
    this.#cursor = 0
    this.#options.write('\n')
    if (line.trim() !== '' && line !== this.#history.at(-1)) {
      this.#history.push(line)
      if (this.#history.length > HISTORY_LINES) this.#history.shift()
    }
    this.#historyAt = this.#history.length
    this.#options.onLine(line)
  }

  #complete(): void {
    const before = this.#text.slice(0, this.#cursor)
    const word = /\S*$/.exec(before)?.[0] ?? ''
    const matches = this.#options.complete(before).filter((name) => name.startsWith(word))
    const [first] = matches
    if (first === undefined) return
    const common = matches.reduce(commonPrefix)
    if (common.length > word.length || matches.length === 1) {
      this.#insert(common.slice(word.length) + (matches.length === 1 ? ' ' : ''))
      return
    }
    this.#options.write(`\n${matches.join('  ')}\n`)
    this.show()
  }
}

function left(columns: number): string {
  return columns === 0 ? '' : `\x1b[${columns}D`
}

function commonPrefix(a: string, b: string): string {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return a.slice(0, length)
}
