const MAX_BYTES = 1 << 20
const MAX_DEPTH = 1024
const NEWLINE = 0x0a
const QUOTE = 0x22
const BACKSLASH = 0x5c
const SPACES: ReadonlySet<number> = new Set([0x20, 0x09, 0x0d, NEWLINE])

/** A piece of the stream: what may be a JSON value, or why it is none. */
export type Frame = { text: string } | { error: string }

/**
 * Cuts a stream of bytes into JSON values, which need nothing between them. What is no value ends with its
 * line, so that the next line begins anew.
 */
export class JsonFramer {
  #bytes: number[] = []
  #depth = 0
  #inString = false
  #escaped = false
  #skipping = false

  /** Forgets what has come of a value. */
  reset(): void {
    this.#bytes = []
    this.#depth = 0
    this.#inString = false
    this.#escaped = false
    this.#skipping = false
  }

  /** Takes one byte; returns a piece that is complete with it. */
  feed(byte: number): Frame | undefined {
    if (this.#skipping) {
      if (byte === NEWLINE) this.reset()
      return undefined
    }
    if (this.#bytes.length === 0 && SPACES.has(byte)) return undefined
    if (byte === NEWLINE && (this.#inString || this.#depth === 0)) return this.#cut()
    this.#bytes.push(byte)
    if (this.#bytes.length > MAX_BYTES) return this.#refuse('JSON token size limit exceeded')
    if (this.#inString) {
      this.#string(byte)
      return undefined
    }
    if (byte === QUOTE) this.#inString = true
    else if (byte === 0x7b || byte === 0x5b) this.#depth++
    else if (byte === 0x7d || byte === 0x5d) {
      this.#depth--
      if (this.#depth <= 0) return this.#cut()
    }
    if (this.#depth > MAX_DEPTH) return this.#refuse('JSON nesting depth limit exceeded')
    return undefined
  }

  #string(byte: number): void {
    if (this.#escaped) this.#escaped = false
    else if (byte === BACKSLASH) this.#escaped = true
    else if (byte === QUOTE) this.#inString = false
  }

  #cut(): Frame {
    const text = Buffer.from(this.#bytes).toString('utf8')
    this.reset()
    return { text }
  }

  #refuse(error: string): Frame {
    this.reset()
    this.#skipping = true
    return { error }
  }
}
