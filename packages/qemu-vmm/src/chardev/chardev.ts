import type { SerialBackend } from '../chipset/serial-port.ts'

/**
 * A character device: a byte pipe to a terminal, a file, a socket or nowhere. Whoever uses it (a UART, the
 * monitor, a multiplexer) sets the `on…` callbacks and `canRead`.
 */
export interface Chardev extends SerialBackend {
  /** The other end sends a break. */
  onBreak?: () => void
  /** The multiplexer gives the keyboard to this user, or takes it away. */
  onFocus?: (focused: boolean) => void
  /** Somebody has connected to the other end, or has left it; for devices that can tell. */
  onOpen?: () => void
  onHangup?: () => void
  /** False while nobody is at the other end: what is written is lost. */
  readonly connected?: boolean
  /** What it is connected to, as `info chardev` shows it. */
  readonly filename?: string
  /** Resolves when output is out, or when nobody has taken any for `stallMs`. */
  drained?(stallMs: number): Promise<void>
  /** False while a multiplexer gives the keyboard to another user. */
  readonly focused?: boolean
}
