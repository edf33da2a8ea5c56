/** Bytes that a PS/2 device holds at most; what comes later is dropped, as on the real devices. */
export const PS2_QUEUE_BYTES = 16

/** A PS/2 device as the controller sees it. */
export interface Ps2Device {
  /** A byte from the host. */
  command(byte: number): void
  /** Takes the next byte for the host, or returns undefined. */
  take(): number | undefined
}

/** The output queue of a PS/2 device. */
export class Ps2Queue {
  #bytes: number[] = []
  readonly #notify: () => void

  constructor(notify: () => void) {
    this.#notify = notify
  }

  /**
   * Replies drop what was queued before them: a driver that sent a command waits for its answer.
   */
  reply(...bytes: number[]): void {
    this.#bytes = bytes
    this.#notify()
  }

  /** Appends a whole packet, or nothing when it does not fit. */
  push(...bytes: number[]): boolean {
    if (this.#bytes.length + bytes.length > PS2_QUEUE_BYTES) return false
    this.#bytes.push(...bytes)
    this.#notify()
    return true
  }

  take(): number | undefined {
    return this.#bytes.shift()
  }

  clear(): void {
    this.#bytes = []
  }

  save(): number[] {
    return [...this.#bytes]
  }

  load(bytes: number[]): void {
    this.#bytes = bytes
  }
}
