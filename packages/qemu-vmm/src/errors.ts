/** Codes of the errors this package throws on purpose. */
export type VmmErrorCode = `E_${string}`

/**
 * Machine-readable facts that belong to an error: the bad value, the limit, the name of the device.
 */
export type VmmErrorFields = Readonly<Record<string, string | number | boolean>>

/**
 * An error that the user or the guest caused and that a program can tell apart by `code`.
 *
 * The message says the value, the limit and the remedy; `fields` hold the same facts for programs.
 */
export class VmmError extends Error {
  override readonly name: string = 'VmmError'
  readonly code: VmmErrorCode
  readonly fields: VmmErrorFields

  constructor(
    code: VmmErrorCode,
    message: string,
    options: { fields?: VmmErrorFields; cause?: unknown } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.fields = options.fields ?? {}
  }
}

/** The plain form of an error that survives `postMessage` with its code. */
export interface ErrorData {
  code: VmmErrorCode
  message: string
  fields: VmmErrorFields
  stack?: string
}

/** Turns anything thrown into the plain form. Errors without a code become `E_INTERNAL`. */
export function errorToData(error: unknown): ErrorData {
  const message = error instanceof Error ? error.message : String(error)
  const data: ErrorData = {
    code: error instanceof VmmError ? error.code : 'E_INTERNAL',
    message,
    fields: error instanceof VmmError ? error.fields : {},
  }
  if (error instanceof Error && error.stack) data.stack = error.stack
  return data
}

/** The reverse of {@link errorToData}; the stack of the other isolate becomes the cause. */
export function errorFromData(data: ErrorData): VmmError {
  return new VmmError(data.code, data.message, {
    fields: data.fields,
    ...(data.stack === undefined ? {} : { cause: data.stack }),
  })
}

/** Anything thrown as one of these; errors without a code become `E_INTERNAL`. */
export function asVmmError(error: unknown): VmmError {
  if (error instanceof VmmError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new VmmError('E_INTERNAL', message, { cause: error })
}

/** Formats a byte count for messages: exact bytes, and MiB where that reads better. */
export function formatBytes(bytes: number): string {
  if (bytes < 1 << 20) return `${bytes} bytes`
  return `${bytes} bytes (${(bytes / (1 << 20)).toFixed(1)} MiB)`
}
