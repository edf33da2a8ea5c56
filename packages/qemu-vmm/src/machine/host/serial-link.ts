import type { SerialBackend } from '../../chipset/serial-port.ts'
import { INPUT_WINDOW_BYTES, OUTPUT_WINDOW_BYTES } from './protocol.ts'

/** How long output is collected. A message costs far more than a byte, and no eye sees the wait. */
const COLLECT_MS = 1
/** Collected output that is sent without waiting. */
const FULL_BYTES = 4096

/** The worker's end: a backend for the UART that sends within the credit it has. */
export class WorkerSerial implements SerialBackend {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  readonly #send: (data: Uint8Array) => void
  readonly #taken: (bytes: number) => void
  #credit = OUTPUT_WINDOW_BYTES
  #isWaiting = false
  #input: Uint8Array[] = []
  readonly #later: (work: () => void) => void
  readonly #output: Uint8Array[] = []
  #outputBytes = 0

  /**
   * `send` posts output; `taken` tells how much input the guest has taken; `later` runs what is
   * due after the time in which output is collected.
   */
  constructor(
    send: (data: Uint8Array) => void,
    taken: (bytes: number) => void,
    later: (work: () => void) => void = (work) => setTimeout(work, COLLECT_MS),
  ) {
    this.#send = send
    this.#taken = taken
    this.#later = later
  }

  write(data: Uint8Array): boolean {
    if (data.length > this.#credit) {
      this.#isWaiting = true
      return false
    }
    this.#credit -= data.length
    this.#output.push(data)
    this.#outputBytes += data.length
    if (this.#outputBytes >= FULL_BYTES) this.#flush()
    else if (this.#output.length === 1) this.#later(() => this.#flush())
    return true
  }

  /** The other side has taken `bytes`. */
  addCredit(bytes: number): void {
    this.#credit += bytes
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.onWritable?.()
  }

  /** Input from the other side, within the window. */
  input(data: Uint8Array): void {
    this.#input.push(data)
    this.notifyReadable()
  }

  notifyReadable(): void {
    let taken = 0
    for (let next = this.#input[0]; next !== undefined; next = this.#input[0]) {
      const room = this.canRead?.() ?? 0
      if (room === 0) break
      // Handing bytes over may make the UART ask for more: the queue must be right before that.
      if (next.length > room) this.#input[0] = next.subarray(room)
      else this.#input.shift()
      taken += Math.min(room, next.length)
      this.onData?.(next.subarray(0, room))
    }
    if (taken > 0) this.#taken(taken)
  }

  close(): void {
    this.#flush()
  }

  #flush(): void {
    if (this.#outputBytes === 0) return
    const joined = new Uint8Array(this.#outputBytes)
    let at = 0
    for (const part of this.#output.splice(0)) {
      joined.set(part, at)
      at += part.length
    }
    this.#outputBytes = 0
    this.#send(joined)
  }
}

/** The other end: drives the real backend. */
export class MainSerial {
  readonly #backend: SerialBackend
  readonly #credit: (bytes: number) => void
  #room = INPUT_WINDOW_BYTES
  readonly #pending: Uint8Array[] = []
  #isClosing = false

  /** `send` posts input; `credit` tells how much output the backend has taken. */
  constructor(
    backend: SerialBackend,
    send: (data: Uint8Array) => void,
    credit: (bytes: number) => void,
    sendBreak: () => void,
  ) {
    this.#backend = backend
    this.#credit = credit
    backend.canRead = () => this.#room
    backend.onData = (data) => {
      this.#room -= data.length
      // The bytes may be a part of the backend's own buffer, which must not move away; the `slice`
      // of a Buffer would share it.
      send(new Uint8Array(data))
    }
    backend.onWritable = () => this.#drain()
    backend.onBreak = sendBreak
  }

  /** Output of the guest. */
  output(data: Uint8Array): void {
    this.#pending.push(data)
    this.#drain()
  }

  /** The guest has taken `bytes`. */
  addRoom(bytes: number): void {
    this.#room += bytes
    this.#backend.notifyReadable?.()
  }

  /** Closes the backend once it has taken everything: a pipe may be full at the guest's end. */
  close(): void {
    this.#isClosing = true
    this.#drain()
  }

  #drain(): void {
    let taken = 0
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      if (!this.#backend.write(next)) break
      this.#pending.shift()
      taken += next.length
    }
    if (taken > 0) this.#credit(taken)
    if (this.#isClosing && this.#pending.length === 0) this.#backend.close()
  }
}
