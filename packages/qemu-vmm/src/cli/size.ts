import { CliError } from './cli-error.ts'

const SUFFIXES = 'BKMGTPE'

/**
 * Parses a size as QEMU does: a decimal number with an optional fraction, or a hexadecimal integer,
 * and one suffix of B, K, M, G, T, P or E in either case (powers of 1024).
 *
 * @param text what the user typed
 * @param defaultSuffix the unit of a number without a suffix
 * @param name the parameter's name, for the message
 * @returns bytes, a whole number; fractions of a byte are cut off
 * @throws CliError for anything else, and for sizes that are not exact in a double
 */
export function parseSize(text: string, defaultSuffix: 'B' | 'M', name: string): number {
  const match = /^(0x[0-9a-f]+|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)([bkmgtpe])?$/i.exec(text.trim())
  if (match === null) {
    throw new CliError(
      `Parameter '${name}' expects a non-negative number, with an optional suffix ` +
        `k, M, G, T, P or E (powers of 1024), not '${text}'`,
    )
  }
  const [, digits = '', suffix = defaultSuffix] = match
  // A hexadecimal number ends in what could be a suffix; B and E are its digits then.
  const hexadecimal = /^0x/i.test(digits)
  const scale = 1024 ** SUFFIXES.indexOf(suffix.toUpperCase())
  const bytes = Math.floor((hexadecimal ? Number.parseInt(digits, 16) : Number(digits)) * scale)
  if (!Number.isSafeInteger(bytes)) {
    throw new CliError(`Parameter '${name}' is out of range: '${text}' is more than 2^53 bytes`)
  }
  return bytes
}

/** A byte count in the largest unit that keeps it whole: `512 MiB`. */
export function formatSize(bytes: number): string {
  let unit = 0
  let value = bytes
  while (value !== 0 && value % 1024 === 0 && unit < SUFFIXES.length - 1) {
    value /= 1024
    unit++
  }
  return unit === 0 ? `${value} bytes` : `${value} ${SUFFIXES[unit]}iB`
}
