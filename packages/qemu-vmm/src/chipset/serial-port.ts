import type { Clock, IrqLine, Latch, PostGate } from '../device.ts'
import { Uart16550 } from './uart16550.ts'

/**
 * A byte pipe between a UART and the outside.
 *
 * `write` hands bytes out; a `false` answer means that nothing of them was taken and that
 * `onWritable` will say when to try again. Bytes for the guest come by `onData`, never more than
 * `canRead()` at once; `notifyReadable` says that there is room again.
 */
export interface SerialBackend {
  write(data: Uint8Array): boolean
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  /** The outside sends a break condition. */
  onBreak?: () => void
  notifyReadable?: () => void
  close(): void
}

const BUFFER_BYTES = 4096
/** Room in the buffer for what may be on its way when the guest is told to wait: as much as can be posted, and as much again. */
const POSTED_BYTES = 512

/** ISA resources of COM1..COM4. */
export const COM_PORTS: readonly { base: number; irq: number }[] = [
  { base: 0x3f8, irq: 4 },
  { base: 0x2f8, irq: 3 },
  { base: 0x3e8, irq: 4 },
  { base: 0x2e8, irq: 3 },
]

/** Offset of the transmitter holding register. */
export const TRANSMITTER = 0
/** Offset of the line status register from a port's base. */
export const LINE_STATUS = 5

/** A UART and the backend behind it. Bytes of one burst of exits leave in one write. */
export class SerialPort {
  readonly uart: Uart16550
  #backend: SerialBackend | undefined
  readonly #buffer: Uint8Array = new Uint8Array(BUFFER_BYTES)
  #length = 0
  #flushQueued = false
  #isLooped = false
  #isPosted = false
  #transmitter: PostGate | undefined

  /** Without an exit, where they are given: `lineStatus` is read, and `transmitter` written. */
  constructor(
    irq: IrqLine,
    clock: Clock,
    backend: SerialBackend | undefined,
    lineStatus?: Latch,
    transmitter?: PostGate,
  ) {
    const link = {
      transmit: (byte: number) => this.#transmit(byte),
      readable: () => this.#backend?.notifyReadable?.(),
      looped: (isLooped: boolean) => {
        this.#isLooped = isLooped
        this.#steer()
      },
    }
    this.uart = new Uart16550(irq, clock, link, lineStatus)
    this.#backend = backend
    this.#transmitter = transmitter
    this.#steer()
    if (backend === undefined) return
    backend.canRead = () => this.uart.room
    backend.onData = (data) => this.uart.receive(data)
    backend.onBreak = () => this.uart.receiveBreak()
    backend.onWritable = () => {
      this.flush()
      this.uart.resumeTransmit()
    }
  }

  /** Hands out what is buffered, as far as the backend takes it. */
  flush(): void {
    this.#flushQueued = false
    if (this.#length === 0 || this.#backend === undefined) return
    if (!this.#backend.write(this.#buffer.slice(0, this.#length))) return
    this.#length = 0
    this.#steer()
  }

  close(): void {
    this.#transmitter = undefined
    this.flush()
    this.#backend?.close()
    this.#backend = undefined
  }

  /**
   * The guest need not wait for the transmitter, which is empty at once, as long as there is certainly room for what it sends.
   * In a loop it reads what it wrote, without an exit, in the line's status.
   */
  #steer(): void {
    const isFree = this.#isPosted ? BUFFER_BYTES - this.#length >= POSTED_BYTES : this.#length === 0
    const isPosted = isFree && !this.#isLooped
    if (isPosted === this.#isPosted) return
    this.#isPosted = isPosted
    this.#transmitter?.(isPosted)
  }

  #transmit(byte: number): boolean {
    if (this.#backend === undefined) return true
    if (this.#length === BUFFER_BYTES) this.flush()
    if (this.#length === BUFFER_BYTES) return false
    this.#buffer[this.#length++] = byte
    this.#steer()
    if (!this.#flushQueued) {
      this.#flushQueued = true
      queueMicrotask(() => this.flush())
    }
    return true
  }
}
