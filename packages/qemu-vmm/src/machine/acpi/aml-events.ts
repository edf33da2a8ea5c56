import { path, sized } from './aml.ts'
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

/** Runs terms for as long as a predicate holds. */
export function whileTrue(predicate: Aml, ...terms: Aml[]): Aml {
  return [0xa2, ...sized([...predicate, ...terms.flat()])]
}

/** How the bits of a field are accessed, and what becomes of those beside it. */
export interface FieldAccess {
  width: 8 | 32
  rest: 'preserved' | 'zeros'
}

/**
 * Fields one behind the other, without a lock.
 *
 * @param fields names, absent for bits that have none, and widths in bits, below 64
 */
export function field(
  region: string,
  { width, rest }: FieldAccess,
  fields: readonly (readonly [string | undefined, number])[],
): Aml {
  const units = fields.flatMap(([id, bits]) => {
    if (bits >= 0x40)
      throw new RangeError(`the field ${id ?? 'without a name'} is wider than 63 bits`)
    return id === undefined ? [0x00, bits] : [...path(id), bits]
  })
  const flags = (width === 8 ? 0x01 : 0x03) | (rest === 'zeros' ? 0x40 : 0)
  return [0x5b, 0x81, ...sized([...path(region), flags, ...units])]
}
