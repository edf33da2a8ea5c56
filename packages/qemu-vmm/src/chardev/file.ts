import { closeSync, openSync, writeSync } from 'node:fs'
import type { Chardev } from './chardev.ts'

const RETRY_MS = 10

/** Writes to a file. What is written is in the file before `write` returns; nothing is read. */
export class FileChardev implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  readonly filename = 'file'
  readonly #path: string
  readonly #report: (message: string) => void
  #fd: number | undefined

  /**
   * @param append keep what the file holds already
   * @param report told once when the file takes no more
   * @throws the error of `open`
   */
  constructor(path: string, append: boolean, report: (message: string) => void) {
    this.#path = path
    this.#report = report
    this.#fd = openSync(path, append ? 'a' : 'w', 0o666)
  }

  write(data: Uint8Array): boolean {
    let rest = data
    while (rest.length > 0 && this.#fd !== undefined) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest))
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code
        // A pipe or a terminal that is full. Nothing of the data may be taken when the answer is
        // false, so a burst that went out in part is finished here.
        if (code === 'EAGAIN' && rest.length === data.length) {
          setTimeout(() => this.onWritable?.(), RETRY_MS).unref()
          return false
        }
        if (code !== 'EAGAIN') this.#fail(error)
      }
    }
    return true
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }

  #fail(error: unknown): void {
    this.close()
    const reason = error instanceof Error ? error.message : String(error)
    this.#report(`cannot write to '${this.#path}', what follows is lost: ${reason}`)
  }
}
