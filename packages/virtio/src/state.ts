import { VirtioError } from './errors.ts'

/** Returns the value when it could have been saved, `undefined` when not. */
export type Field<T> = (value: unknown) => T | undefined

/** A whole number in a range. */
export function int(from: number, to: number): Field<number> {
  return (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to
      ? value
      : undefined
}

export const flag: Field<boolean> = (value) => (typeof value === 'boolean' ? value : undefined)

/** A 64-bit word. */
export const word64: Field<bigint> = (value) =>
  typeof value === 'bigint' && value >= 0n && value < 1n << 64n ? value : undefined

/** An array of at least `least` and at most `most` elements. */
export function list<T>(field: Field<T>, least: number, most: number): Field<T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length < least || value.length > most) return undefined
    const items = value.map((item) => field(item))
    return items.some((item) => item === undefined) ? undefined : (items as T[])
  }
}

/** A Uint8Array of at most `most` bytes, copied. */
export function bytes(most: number): Field<Uint8Array> {
  return (value) =>
    value instanceof Uint8Array && value.length <= most ? value.slice() : undefined
}

/** State of a part, which checks it itself. */
export const opaque: Field<object> = (value) =>
  typeof value === 'object' && value !== null ? value : undefined

/** Checks a saved state field by field; throws `E_STATE` for one that was not saved by `owner`. */
export function parseState<T extends object>(
  owner: string,
  value: unknown,
  fields: { readonly [K in keyof T]-?: Field<T[K]> },
): T {
  if (typeof value !== 'object' || value === null) {
    throw new VirtioError('E_STATE', `the saved state of ${owner} is no object`, {
      fields: { device: owner },
    })
  }
  const source = value as Record<string, unknown>
  const result: Partial<T> = {}
  for (const key of Object.keys(fields) as (keyof T & string)[]) {
    const checked = fields[key](source[key])
    if (checked === undefined) {
      throw new VirtioError('E_STATE', `the saved state of ${owner} has a bad value in ${key}`, {
        fields: { device: owner, field: key },
      })
    }
    result[key] = checked
  }
  return result as T
}
