import { ByteQueue } from './byte-queue.ts'
import type { Chardev } from './chardev.ts'

/** How much typed input waits for a user that does not read. */
const PORT_BYTES = 64 * 1024
const NEWLINE = 0x0a

export interface MuxOptions {
  /** The control character that begins a command: 1 is Ctrl-A. */
  escapeCode: number
  /** Ctrl-A x. */
  onQuit: () => void
  /** Milliseconds since the machine began, for timestamps. */
  nowMs?: () => number
}

/**
 * Lets several users share one character device, as QEMU's multiplexer does. All of them write;
 * one of them has the keyboard. A control character begins commands.
 */
export class Mux {
  readonly #below: Chardev
  readonly #options: MuxOptions
  readonly #nowMs: () => number
  readonly #ports: MuxPort[] = []
  #focus = 0
  #escaped = false
  #timestamps = false
  #lineStart = true
  #unsaid: Uint8Array[] = []

  constructor(below: Chardev, options: MuxOptions) {
    this.#below = below
    this.#options = options
    const startedMs = performance.now()
    this.#nowMs = options.nowMs ?? (() => performance.now() - startedMs)
    below.canRead = () => Math.max(0, PORT_BYTES - (this.#focused?.queue.length ?? 0))
    below.onData = (data) => this.#receive(data)
    below.onWritable = () => this.#writable()
    below.onOpen = () => {
      for (const port of this.#ports) port.onOpen?.()
    }
    below.onHangup = () => {
      this.#escaped = false
      for (const port of this.#ports) port.onHangup?.()
    }
  }

  /** Adds a user. The first one has the keyboard at the beginning. */
  addPort(): Chardev {
    const port = new MuxPort({
      write: (data) => this.#write(data),
      readable: () => this.#below.notifyReadable?.(),
      isFocused: () => this.#focused === port,
      isConnected: () => this.#below.connected !== false,
    })
    this.#ports.push(port)
    return port
  }

  close(): void {
    this.#below.close()
  }

  get #focused(): MuxPort | undefined {
    return this.#ports[this.#focus]
  }

  #receive(data: Uint8Array): void {
    let start = 0
    for (let i = 0; i < data.length; i++) {
      const byte = data[i] ?? 0
      if (this.#escaped) {
        this.#escaped = false
        // Typed twice, the control character stands for itself and begins the next run of bytes.
        start = byte === this.#options.escapeCode ? i : i + 1
        if (byte !== this.#options.escapeCode) this.#command(byte)
      } else if (byte === this.#options.escapeCode) {
        this.#pass(data.subarray(start, i))
        this.#escaped = true
        start = i + 1
      }
    }
    this.#pass(data.subarray(start))
  }

  #pass(data: Uint8Array): void {
    const port = this.#focused
    if (port === undefined) return
    port.queue.push(data)
    port.queue.deliver(port)
  }

  #command(byte: number): void {
    switch (String.fromCharCode(byte)) {
      case 'h':
      case '?':
        this.#say(this.#help())
        break
      case 'x':
        this.#say('qemu-kvm: terminated from the keyboard\r\n')
        this.#options.onQuit()
        break
      case 's':
        this.#say('there are no disks to save\r\n')
        break
      case 'b':
        if (this.#focused?.onBreak === undefined) this.#say('a break has no effect here\r\n')
        else this.#focused.onBreak()
        break
      case 'c':
        this.#switch()
        break
      case 't':
        this.#timestamps = !this.#timestamps
        this.#lineStart = false
        break
      default:
        break
    }
  }

  #switch(): void {
    if (this.#ports.length < 2) return
    const before = this.#focused
    this.#focus = (this.#focus + 1) % this.#ports.length
    before?.onFocus?.(false)
    this.#focused?.onFocus?.(true)
  }

  #help(): string {
    const key = `Ctrl-${String.fromCharCode(0x40 + this.#options.escapeCode)}`
    const lines = [
      '',
      `${key} h       this help`,
      `${key} x       end qemu-kvm`,
      `${key} c       switch between the serial port and the monitor`,
      `${key} b       send a break`,
      `${key} t       time in front of each line, on or off`,
      `${key} s       save changes to disks`,
      `${key} ${key}  send ${key} itself`,
      '',
    ]
    return lines.join('\r\n')
  }

  #say(text: string): void {
    this.#unsaid.push(Buffer.from(text, 'latin1'))
    this.#lineStart = true
    this.#flushUnsaid()
  }

  #flushUnsaid(): boolean {
    for (;;) {
      const text = this.#unsaid[0]
      if (text === undefined) return true
      if (!this.#below.write(text)) return false
      this.#unsaid.shift()
    }
  }

  #write(data: Uint8Array): boolean {
    if (!this.#flushUnsaid()) return false
    if (!this.#timestamps) return this.#below.write(data)
    const { bytes, lineStart } = this.#stamp(data)
    if (!this.#below.write(bytes)) return false
    this.#lineStart = lineStart
    return true
  }

  #stamp(data: Uint8Array): { bytes: Uint8Array; lineStart: boolean } {
    const parts: Uint8Array[] = []
    const time = Buffer.from(`[${clockText(this.#nowMs())}] `, 'latin1')
    let lineStart = this.#lineStart
    let start = 0
    while (start < data.length) {
      const newline = data.indexOf(NEWLINE, start)
      const end = newline < 0 ? data.length : newline + 1
      if (lineStart) parts.push(time)
      parts.push(data.subarray(start, end))
      lineStart = newline >= 0
      start = end
    }
    return { bytes: Buffer.concat(parts), lineStart }
  }

  #writable(): void {
    if (!this.#flushUnsaid()) return
    for (const port of this.#ports) port.onWritable?.()
  }
}

interface PortLink {
  write(data: Uint8Array): boolean
  readable(): void
  isFocused(): boolean
  isConnected(): boolean
}

class MuxPort implements Chardev {
  onData?: (data: Uint8Array) => void
  canRead?: () => number
  onWritable?: () => void
  onBreak?: () => void
  onFocus?: (focused: boolean) => void
  onOpen?: () => void
  onHangup?: () => void
  readonly queue: ByteQueue = new ByteQueue()
  readonly #link: PortLink

  constructor(link: PortLink) {
    this.#link = link
  }

  get focused(): boolean {
    return this.#link.isFocused()
  }

  get connected(): boolean {
    return this.#link.isConnected()
  }

  write(data: Uint8Array): boolean {
    return this.#link.write(data)
  }

  notifyReadable(): void {
    this.queue.deliver(this)
    if (this.#link.isFocused()) this.#link.readable()
  }

  /** One user leaves; the device belongs to the multiplexer. */
  close(): void {
    this.queue.clear()
    delete this.onData
    delete this.onWritable
    delete this.onOpen
    delete this.onHangup
  }
}

/** `hh:mm:ss.mmm` */
function clockText(ms: number): string {
  return new Date(Math.max(0, Math.floor(ms))).toISOString().slice(11, 23)
}
