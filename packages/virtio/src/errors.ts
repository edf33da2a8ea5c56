/** Codes of the errors that this package throws on purpose. */
export type VirtioErrorCode =
  /** A guest-physical range is not all in RAM, or not writable. */
  | 'E_GUEST_ADDRESS'
  /** The size of a queue is no power of two in 1..maximum. */
  | 'E_QUEUE_SIZE'
  /** A ring is not aligned. */
  | 'E_QUEUE_ALIGNMENT'
  /** The used ring lies over the descriptor table or the available ring. */
  | 'E_QUEUE_OVERLAP'
  /** The driver made more chains available than the queue has descriptors. */
  | 'E_AVAIL_INDEX'
  /** A descriptor index is beyond the table. */
  | 'E_DESCRIPTOR_INDEX'
  /** A chain has a loop, or more descriptors than allowed. */
  | 'E_CHAIN_LOOP'
  /** A chain describes 2^32 bytes or more. */
  | 'E_CHAIN_LENGTH'
  /** A device-readable descriptor follows a device-writable one. */
  | 'E_DESCRIPTOR_ORDER'
  /** An indirect table is empty, torn, nested, chained or was not negotiated. */
  | 'E_INDIRECT'
  /** A request breaks the rules of its device type, for example has no header. */
  | 'E_REQUEST'
  /** A saved state could not have been saved by this device. */
  | 'E_STATE'
  /** An option of a device or transport. */
  | 'E_CONFIG'

/** The bad value and the limit, for programs. */
export type VirtioErrorFields = Readonly<Record<string, string | number | boolean>>

/** An error that a guest, a state file or a configuration caused; the message has the values. */
export class VirtioError extends Error {
  override readonly name: string = 'VirtioError'
  readonly code: VirtioErrorCode
  readonly fields: VirtioErrorFields

  constructor(
    code: VirtioErrorCode,
    message: string,
    options: { fields?: VirtioErrorFields; cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.fields = options.fields ?? {}
  }
}

/** Formats an address for messages. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`
}
