// Types a script into a shell on a serial console, as a person would: the next line when the prompt is there.

/** What the guest's shell asks its terminal at each prompt: where the cursor is. A pipe has no answer. */
const cursorQuery = '\x1b[6n'
const queryStart = /\x1b(?:\[6?)?$/
const prompt = /(?:^|[\r\n])[^\r\n]*[#>] $/
/** After so long without a word from the guest, the next line is typed ahead: the command may be waiting for it. */
const silence = 5000

/** Feeds lines one by one to a console whose output it is shown. */
export class Typist {
  /** @type {string[]} */
  #lines = []
  #rest = ''
  #held = ''
  #tail = ''
  #started = false
  #ready = false
  #type
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /** @param {(text: string) => void} type sends text to the console */
  constructor(type) {
    this.#type = type
  }

  /** @param {string} text of the script, in any pieces */
  add(text) {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    this.#lines.push(...lines.map((line) => `${line}\n`))
    this.#next()
  }

  /** @param {string} last what to type when the script is over */
  finish(last) {
    this.add(`${this.#rest ? '\n' : ''}${last}`)
  }

  /**
   * Takes what the console printed.
   * @param {string} text
   * @returns {string} the same, without what is meant for a terminal only
   */
  see(text) {
    const plain = (this.#held + text).replaceAll(cursorQuery, '')
    // The console prints byte by byte: what may be the start of a query waits for the rest of it.
    this.#held = queryStart.exec(plain)?.[0] ?? ''
    const shown = plain.slice(0, plain.length - this.#held.length)
    this.#tail = (this.#tail + shown).slice(-200)
    if (prompt.test(this.#tail)) {
      this.#started = true
      this.#ready = true
    }
    this.#next()
    return shown
  }

  /** Types nothing more. */
  stop() {
    clearTimeout(this.#timer)
    this.#lines = []
  }

  #next() {
    clearTimeout(this.#timer)
    if (!this.#started || this.#lines.length === 0) return
    if (this.#ready) {
      this.#ready = false
      this.#tail = ''
      this.#type(this.#lines.shift() ?? '')
    }
    this.#timer = setTimeout(() => {
      this.#ready = true
      this.#next()
    }, silence)
  }
}
