const B_BINARY = 0x04
const B_24_HOURS = 0x02
const PM = 0x80

const SECONDS = 0
const MINUTES = 2
const HOURS = 4
const WEEKDAY = 6
const DAY = 7
const MONTH = 8
const YEAR = 9

/** The value of one MC146818 time register; `mode` is register B. */
export function encodeTime(timeMs: number, index: number, mode: number): number {
  // The one that is polled needs no calendar.
  if (index === SECONDS) return encode(secondOf(timeMs), mode)
  const date = new Date(timeMs)
  switch (index) {
    case MINUTES:
      return encode(date.getUTCMinutes(), mode)
    case HOURS: {
      const hours = date.getUTCHours()
      if (mode & B_24_HOURS) return encode(hours, mode)
      return encode(hours % 12 || 12, mode) | (hours >= 12 ? PM : 0)
    }
    case WEEKDAY:
      return encode(date.getUTCDay() + 1, mode)
    case DAY:
      return encode(date.getUTCDate(), mode)
    case MONTH:
      return encode(date.getUTCMonth() + 1, mode)
    case YEAR:
      return encode(date.getUTCFullYear() % 100, mode)
    default:
      return encode(Math.floor(date.getUTCFullYear() / 100), mode)
  }
}

/**
 * The time after one register was written. Registers are independent of each other on the chip,
 * so a day that the month does not have carries into the next month, as the next update would do.
 */
export function decodeTime(timeMs: number, index: number, byte: number, mode: number): number {
  const date = new Date(timeMs)
  const value = decode(index === HOURS && !(mode & B_24_HOURS) ? byte & ~PM : byte, mode)
  switch (index) {
    case SECONDS:
      date.setUTCSeconds(value)
      break
    case MINUTES:
      date.setUTCMinutes(value)
      break
    case HOURS:
      date.setUTCHours(mode & B_24_HOURS ? value : (value % 12) + (byte & PM ? 12 : 0))
      break
    case WEEKDAY:
      // The weekday follows from the date.
      break
    case DAY:
      date.setUTCDate(value)
      break
    case MONTH:
      date.setUTCMonth(Math.max(1, value) - 1)
      break
    case YEAR:
      date.setUTCFullYear(Math.floor(date.getUTCFullYear() / 100) * 100 + value)
      break
    default:
      date.setUTCFullYear(value * 100 + (date.getUTCFullYear() % 100))
  }
  // Years below 1970 and far beyond what the registers hold wrap to the epoch.
  return Number.isFinite(date.getTime()) ? Math.max(0, date.getTime()) : 0
}

/** 0 to 59, also before 1970. A remainder of numbers this large would be a call of the C library. */
function secondOf(timeMs: number): number {
  const seconds = Math.floor(timeMs / 1000)
  return seconds - Math.floor(seconds / 60) * 60
}

function encode(value: number, mode: number): number {
  return mode & B_BINARY ? value : (Math.floor(value / 10) << 4) | (value % 10)
}

function decode(byte: number, mode: number): number {
  return mode & B_BINARY ? byte : (byte >> 4) * 10 + (byte & 0x0f)
}
