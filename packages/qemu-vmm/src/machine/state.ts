import { VmmError } from '../errors.ts'

/** Accepts a value of a saved state or returns undefined. */
export type Field<T> = (value: unknown) => T | undefined

/** A number from `min` to `max`, without fractions. */
export function int(min: number, max: number): Field<number> {
  return (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max
      ? value
      : undefined
}

export const u8: Field<number> = int(0, 0xff)
export const u16: Field<number> = int(0, 0xffff)
export const u32: Field<number> = int(0, 0xffffffff)

/** A count of nanoseconds or milliseconds: finite, and may be negative or a fraction. */
export const time: Field<number> = (value) =>
  typeof value === 'number' && Number.isFinite(value) ? value : undefined

export const flag: Field<boolean> = (value) => (typeof value === 'boolean' ? value : undefined)

export const text: Field<string> = (value) => (typeof value === 'string' ? value : undefined)

/** Exactly `length` bytes; the copy belongs to the reader. */
export function bytes(length: number): Field<Uint8Array> {
  return (value) =>
    value instanceof Uint8Array && value.length === length ? value.slice() : undefined
}

/** A list of at most `max` entries that each pass `entry`. */
export function list<T>(entry: Field<T>, max: number): Field<T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length > max) return undefined
    const result: T[] = []
    for (const item of value) {
      const checked = entry(item)
      if (checked === undefined) return undefined
      result.push(checked)
    }
    return result
  }
}

/** Checks a whole saved state; throws `E_STATE` that names the device and the field. */
export function parseState<T extends object>(
  owner: string,
  value: unknown,
  fields: { readonly [K in keyof T]: Field<T[K]> },
): T {
  if (typeof value !== 'object' || value === null) {
    throw new VmmError('E_STATE', `the saved state of ${owner} is not an object`, {
      fields: { device: owner },
    })
  }
  const source = value as Record<string, unknown>
  const result: Partial<T> = {}
  for (const key of Object.keys(fields) as (keyof T & string)[]) {
    const checked = fields[key](source[key])
    if (checked === undefined) {
      throw new VmmError(
        'E_STATE',
        `the saved state of ${owner} has a bad value in ${key}: ${String(source[key])}`,
        { fields: { device: owner, field: key } },
      )
    }
    result[key] = checked
  }
  return result as T
}
