import type { Scalar } from './types.ts'

/** Any text. */
export const str: Scalar = {
  ts: 'string',
  expected: 'text',
  parse: (text) => text,
  format: String,
}

/** Text that matches. */
export function pattern(expression: RegExp, expected: string): Scalar {
  return {
    ts: 'string',
    expected,
    parse: (text) => (expression.test(text) ? text : undefined),
    format: String,
  }
}

/** One word of a list. */
export function oneOf(...values: string[]): Scalar {
  return {
    ts: values.map((value) => `'${value}'`).join(' | '),
    expected: values.length === 1 ? `"${values[0]}"` : `one of ${values.join(', ')}`,
    values,
    parse: (text) => (values.includes(text) ? text : undefined),
    format: String,
  }
}

/** One word of a list, or any other that its user has (a model of a device, say). */
export function wordLike(...values: string[]): Scalar {
  return { ...pattern(/^[a-zA-Z0-9_.+-]+$/, `a word such as ${values.join(', ')}`), ts: 'string' }
}

function boolean(yes: string, no: string): Scalar {
  return {
    ts: 'boolean',
    expected: `one of ${yes}, ${no}`,
    values: [yes, no],
    parse: (text) => (text === yes ? true : text === no ? false : undefined),
    format: (value) => (value === true ? yes : no),
  }
}

export const yesNo: Scalar = boolean('yes', 'no')
export const onOff: Scalar = boolean('on', 'off')
export const trueFalse: Scalar = boolean('true', 'false')

/** The number in a text as C's strtol reads it: decimal, `0x` hexadecimal, and with `base` 0 also octal. */
function integer(text: string, base: 0 | 10): number | undefined {
  const trimmed = text.trim()
  if (/^[-+]?\d+$/.test(trimmed)) {
    const octal = base === 0 && /^[-+]?0[0-7]+$/.test(trimmed)
    return octal ? Number.parseInt(trimmed, 8) : Number(trimmed)
  }
  if (base === 0 && /^0x[\da-f]+$/i.test(trimmed)) return Number.parseInt(trimmed.slice(2), 16)
  return undefined
}

function ranged(
  low: number,
  high: number,
  base: 0 | 10,
  format: (value: number) => string,
): Scalar {
  return {
    ts: 'number',
    expected:
      high === Number.MAX_SAFE_INTEGER
        ? `a whole number from ${low} on`
        : `a whole number from ${low} to ${high}`,
    parse: (text) => {
      const value = integer(text, base)
      return value !== undefined && Number.isSafeInteger(value) && value >= low && value <= high
        ? value
        : undefined
    },
    format: (value) => format(Number(value)),
  }
}

/** A whole number from 0 on. */
export function uint(high: number = 0xffff_ffff, low: number = 0): Scalar {
  return ranged(low, high, 10, String)
}

/** A whole number, which may be negative. */
export function int(low: number = -0x8000_0000, high: number = 0x7fff_ffff): Scalar {
  return ranged(low, high, 10, String)
}

/** A number that is written in hexadecimal, with `0x` and so many digits. */
export function hex(digits: number, high: number): Scalar {
  return ranged(0, high, 0, (value) => `0x${value.toString(16).padStart(digits, '0')}`)
}

/** Bytes or KiB, up to what is exact in a double. */
export const big: Scalar = uint(Number.MAX_SAFE_INTEGER)

const hexUuid = /^[\da-f]{8}(-?)[\da-f]{4}\1[\da-f]{4}\1[\da-f]{4}\1[\da-f]{12}$/i

/** A UUID, kept in lower case with dashes. */
export const uuid: Scalar = {
  ts: 'string',
  expected: 'a UUID such as 9c4f4c0e-2b7a-4c29-8d5e-0d1f7f0c6b11',
  parse: (text) => {
    const trimmed = text.trim()
    if (!hexUuid.test(trimmed)) return undefined
    const digits = trimmed.replaceAll('-', '').toLowerCase()
    const parts = [8, 12, 16, 20].map((end, i) => digits.slice([0, 8, 12, 16][i], end))
    return [...parts, digits.slice(20)].join('-')
  },
  format: String,
}

/** An Ethernet address, kept in lower case. */
export const mac: Scalar = {
  ts: 'string',
  expected: 'a MAC address such as 52:54:00:12:34:56',
  parse: (text) => {
    const bytes = text.split(':')
    const valid = bytes.length === 6 && bytes.every((byte) => /^[\da-f]{1,2}$/i.test(byte))
    return valid ? bytes.map((byte) => byte.toLowerCase().padStart(2, '0')).join(':') : undefined
  },
  format: String,
}

/** A path from the root of the file system. */
export const path: Scalar = pattern(/^\/[^\0]*$/, 'an absolute path')

/** An IPv4 or IPv6 address, roughly: whoever uses it looks closer. */
export const address: Scalar = pattern(/^[\da-fA-F.:]+$/, 'an IP address')

/** A port of a driver's interrupts, memory or I/O. */
export const io: Scalar = hex(0, 0xffff_ffff)

const units: Readonly<Record<string, number>> = {
  b: 1,
  bytes: 1,
  KB: 1e3,
  k: 1024,
  KiB: 1024,
  MB: 1e6,
  M: 1024 ** 2,
  MiB: 1024 ** 2,
  GB: 1e9,
  G: 1024 ** 3,
  GiB: 1024 ** 3,
  TB: 1e12,
  T: 1024 ** 4,
  TiB: 1024 ** 4,
  PB: 1e15,
  P: 1024 ** 5,
  PiB: 1024 ** 5,
  EB: 1e18,
  E: 1024 ** 6,
  EiB: 1024 ** 6,
}

/** The units that `unit=` has. */
export const unitNames: readonly string[] = Object.keys(units)

/** KiB of a size, rounded up; undefined for an unknown unit. Letters may be large or small. */
export function toKib(value: number, unit: string): number | undefined {
  const bytes = unitBytes(unit)
  return bytes === undefined ? undefined : Math.ceil((value * bytes) / 1024)
}

/** Bytes of a unit; `k` is KiB, and letters may be large or small. */
export function unitBytes(unit: string): number | undefined {
  const name = Object.keys(units).find((name) => name.toLowerCase() === unit.toLowerCase())
  return name === undefined ? undefined : units[name]
}
