import type { Chardev } from '../chardev/chardev.ts'
import { packageVersion } from '../cli/version.ts'
import type { MonitorContext } from './command.ts'
import { completeMonitorLine, runMonitorLine } from './commands.ts'
import { LineEditor } from './line-editor.ts'

const PROMPT = '(qemu) '
const INPUT_BYTES = 256
/** Whoever lets so much output wait is not listened to until it has been taken. */
const OUTPUT_CHARS = 64 * 1024

/** The human monitor on a character device: reads lines, runs them one after the other. */
export class Monitor {
  readonly #chardev: Chardev
  readonly #context: MonitorContext
  readonly #editor: LineEditor
  #input: number[] = []
  #output = ''
  #busy = false
  #ended = false

  constructor(chardev: Chardev, context: Omit<MonitorContext, 'history'>) {
    this.#chardev = chardev
    this.#context = {
      ...context,
      history: () => this.#editor.history,
      quit: () => {
        this.close()
        context.quit()
      },
    }
    this.#editor = new LineEditor({
      prompt: PROMPT,
      write: (text) => this.#print(text),
      onLine: (line) => void this.#run(line),
      complete: completeMonitorLine,
    })
    chardev.canRead = () =>
      this.#busy || this.#output.length > OUTPUT_CHARS
        ? 0
        : Math.max(0, INPUT_BYTES - this.#input.length)
    chardev.onData = (data) => this.#receive(data)
    chardev.onWritable = () => {
      this.#flush()
      this.#work()
    }
    chardev.onFocus = (focused) => this.#focus(focused)
    chardev.onOpen = () => this.#greet()
    chardev.onHangup = () => {
      this.#input = []
      this.#output = ''
    }
    if (chardev.connected !== false) this.#greet()
    // What came while there was nobody to read it.
    chardev.notifyReadable?.()
  }

  /** Takes no more commands. */
  close(): void {
    this.#ended = true
    this.#input = []
    this.#flush()
  }

  #receive(data: Uint8Array): void {
    this.#input.push(...data)
    this.#work()
  }

  /** Whoever is at the other end now has seen nothing yet. */
  #greet(): void {
    this.#editor.clear()
    this.#print(`qemu-vmm ${packageVersion()} monitor - type 'help' for more information\n`)
    if (!this.#busy) this.#editor.show()
  }

  /** Input behind a line waits until the line has been carried out. */
  #work(): void {
    while (!this.#busy && !this.#ended) {
      const byte = this.#input.shift()
      if (byte === undefined) break
      this.#editor.feed(byte)
    }
    if (!this.#busy && !this.#ended) this.#chardev.notifyReadable?.()
  }

  async #run(line: string): Promise<void> {
    this.#busy = true
    this.#print(await runMonitorLine(this.#context, line))
    this.#busy = false
    if (this.#ended) return
    this.#editor.show()
    this.#work()
  }

  #focus(focused: boolean): void {
    if (!focused) {
      // What comes next on this terminal begins on a line of its own.
      this.#chardev.write(Buffer.from('\r\n'))
      return
    }
    // The first time the greeting with its prompt is still waiting.
    if (this.#output === '' && !this.#busy) this.#editor.show()
    else this.#flush()
  }

  /** Text for another user's turn at the terminal waits. */
  #print(text: string): void {
    this.#output += text.replaceAll('\n', '\r\n')
    this.#flush()
  }

  #flush(): void {
    if (this.#output === '' || this.#chardev.focused === false) return
    if (this.#chardev.write(Buffer.from(this.#output, 'latin1'))) this.#output = ''
  }
}
