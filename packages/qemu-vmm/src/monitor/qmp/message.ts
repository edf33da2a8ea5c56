import { VmmError } from '../../errors.ts'

/** QEMU's classes of errors. */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'

/** Errors of machines that are of another class than most. */
const CLASSES: Readonly<Record<string, QmpErrorClass>> = {
  E_DEVICE_NOT_FOUND: 'DeviceNotFound',
  E_NO_BALLOON: 'DeviceNotActive',
}

/** What goes back in place of a result. */
export class QmpError extends Error {
  override readonly name: string = 'QmpError'
  readonly class: QmpErrorClass

  constructor(message: string, cls: QmpErrorClass = 'GenericError') {
    super(message)
    this.class = cls
  }
}

/** A command as it was sent. */
export interface QmpRequest {
  id?: unknown
  execute: string
  args: Readonly<Record<string, unknown>>
}

/** Reads the text of a command. Throws `QmpError`, with the `id` as far as there is one. */
export function readRequest(text: string): { id?: unknown; request: QmpRequest | QmpError } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { request: new QmpError(`JSON parse error, ${(error as Error).message}`) }
  }
  if (!isObject(value)) return { request: new QmpError('QMP input must be a JSON object') }
  const id = 'id' in value ? { id: value['id'] } : {}
  return { ...id, request: checked(value) }
}

/** The plain form of what a command threw. */
export function errorOf(error: unknown): { class: QmpErrorClass; desc: string } {
  if (error instanceof QmpError) return { class: error.class, desc: error.message }
  const desc = error instanceof Error ? error.message : String(error)
  const code = error instanceof VmmError ? error.code : ''
  return { class: CLASSES[code] ?? 'GenericError', desc }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function checked(value: Readonly<Record<string, unknown>>): QmpRequest | QmpError {
  const { execute, arguments: args = {} } = value
  if ('exec-oob' in value) {
    return new QmpError(`The command ${String(value['exec-oob'])} does not support OOB`)
  }
  const other = Object.keys(value).find((key) => !['execute', 'arguments', 'id'].includes(key))
  if (other !== undefined) return new QmpError(`QMP input member '${other}' is unexpected`)
  if (execute === undefined) return new QmpError("QMP input lacks member 'execute'")
  if (typeof execute !== 'string') {
    return new QmpError("QMP input member 'execute' must be a string")
  }
  if (!isObject(args)) return new QmpError("QMP input member 'arguments' must be an object")
  return { execute, args }
}
