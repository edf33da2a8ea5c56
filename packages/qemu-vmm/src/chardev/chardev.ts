import type { SerialBackend } from '../chipset/serial-port.ts'

/**
 * A character device: a byte pipe to a terminal, a file or nowhere. Whoever uses it (a UART, the
 * monitor, a multiplexer) sets the `on…` callbacks and `canRead`.
 */
export interface Chardev extends SerialBackend {
  /** The other end sends a break. */
  onBreak?: () => void
  /** The multiplexer gives the keyboard to this user, or takes it away. */
  onFocus?: (focused: boolean) => void
  /** False while a multiplexer gives the keyboard to another user. */
  readonly focused?: boolean
}
