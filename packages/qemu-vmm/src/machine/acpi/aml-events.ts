import { path } from './aml.ts'
import type { Aml } from './aml.ts'

// Terms for events and for what they share (ACPI 6.5, 20.2.5).

const FOREVER = [0xff, 0xff] as const
/** Accesses of 32 bits, no lock, zeros for what is not a part of the field. */
const DWORD_ZEROS = 0x43

export function mutex(id: string): Aml {
  return [0x5b, 0x01, ...path(id), 0]
}

/** Waits as long as it takes. */
export function acquire(id: string): Aml {
  return [0x5b, 0x23, ...path(id), ...FOREVER]
}

export function release(id: string): Aml {
  return [0x5b, 0x27, ...path(id)]
}

export function notify(object: Aml, value: Aml): Aml {
  return [0x86, ...object, ...value]
}

export function shiftLeft(value: Aml, count: Aml, target: Aml = [0x00]): Aml {
  return [0x79, ...value, ...count, ...target]
}

/** Calls a method; it has to be defined with as many arguments. */
export function call(method: string, ...args: Aml[]): Aml {
  return [...path(method), ...args.flat()]
}

/** Fields of 32 bits each, one behind the other. At most seven. */
export function dwordFields(region: string, fields: readonly string[]): Aml {
  const content = [...path(region), DWORD_ZEROS, ...fields.flatMap((id) => [...path(id), 32])]
  if (content.length > 62) throw new RangeError(`${fields.length} fields are more than seven`)
  return [0x5b, 0x81, content.length + 1, ...content]
}
