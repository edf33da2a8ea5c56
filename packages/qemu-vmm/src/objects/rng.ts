import { closeSync, constants, fstatSync, openSync, read } from 'node:fs'
import type { Stats } from 'node:fs'

import type { Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { RngRandomConfig } from './config.ts'

/** Random bytes that may take their time; a device asks for more when it has used them up. */
export interface EntropySource {
  /**
   * Fills the whole array. Rejects with E_RNG when no more bytes will come; the array then has
   * unspecified contents. Calls may overlap.
   */
  fill(target: Uint8Array): Promise<void>
  /** Rejects calls that wait. */
  close(): void
}

const DEFAULT_FILE = '/dev/urandom'
const RETRY_MS = 100

/** The machine's own source of randomness. */
export class BuiltinRng implements EntropySource {
  readonly #entropy: Entropy

  constructor(entropy: Entropy) {
    this.#entropy = entropy
  }

  async fill(target: Uint8Array): Promise<void> {
    this.#entropy.fill(target)
  }

  close(): void {}
}

/** Bytes of a file. A device or a FIFO that has none at the moment is asked again. */
export class FileRng implements EntropySource {
  readonly #path: string
  readonly #fd: number
  readonly #stat: Stats
  readonly #waiting = new Set<() => void>()
  #reads = 0
  #closed = false

  /** @throws VmmError E_FILE */
  constructor({ filename = DEFAULT_FILE }: RngRandomConfig) {
    this.#path = filename
    try {
      // Opening a FIFO that nobody writes to must not wait.
      this.#fd = openSync(filename, constants.O_RDONLY | constants.O_NONBLOCK)
    } catch (error) {
      throw cannotOpen(filename, error instanceof Error ? error.message : String(error), error)
    }
    this.#stat = fstatSync(this.#fd)
    if (!this.#stat.isDirectory()) return
    closeSync(this.#fd)
    throw cannotOpen(filename, 'it is a directory')
  }

  async fill(target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length;) {
      if (this.#closed) throw this.#failed('it was closed')
      const count = await this.#read(target, at)
      if (count === 0 && this.#stat.isFile()) throw this.#failed('the file is at its end')
      if (count === 0) await this.#later()
      at += count
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const wake of this.#waiting) wake()
    // A read that is under way must not meet another file under the same number.
    if (this.#reads === 0) closeSync(this.#fd)
  }

  /** Bytes read; 0 where there are none. */
  #read(target: Uint8Array, at: number): Promise<number> {
    this.#reads++
    return new Promise((resolve, reject) => {
      read(this.#fd, target, at, target.length - at, null, (error, count) => {
        this.#reads--
        if (this.#closed && this.#reads === 0) closeSync(this.#fd)
        if (error === null) resolve(count)
        else if (error.code === 'EAGAIN') resolve(0)
        else reject(this.#failed(error.message, error))
      })
    })
  }

  #later(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, RETRY_MS)
      this.#waiting.add(done)
    })
  }

  #failed(reason: string, cause?: unknown): VmmError {
    return new VmmError('E_RNG', `no random bytes come from '${this.#path}': ${reason}`, {
      fields: { path: this.#path },
      cause,
    })
  }
}

function cannotOpen(path: string, reason: string, cause?: unknown): VmmError {
  return new VmmError('E_FILE', `Could not open '${path}': ${reason}`, { fields: { path }, cause })
}
