import { BlockError } from '../errors.ts'

/** What can be limited: bytes and requests per second, of both directions together or of one. */
export const LIMIT_NAMES = [
  'bps-total',
  'bps-read',
  'bps-write',
  'iops-total',
  'iops-read',
  'iops-write',
] as const
export type LimitName = (typeof LIMIT_NAMES)[number]

/** A limit, per second. */
export interface Limit {
  readonly average: number
  /** What a burst may have per second. Without it a burst has a tenth of a second's average. */
  readonly max?: number
  /** Seconds that a burst may last; 1 by default. */
  readonly maxLength?: number
}

/** Limits of a drive. Plain data. */
export interface ThrottleLimits {
  readonly limits: Readonly<Partial<Record<LimitName, Limit>>>
  /** Bytes that count as one request: longer ones count as several. */
  readonly iopsSize?: number
}

const MOST = 1e15

/**
 * Judges limits as QEMU does, with its words. A limit whose average is 0 is none, and has no burst.
 * @throws BlockError E_BLOCK_OPTION
 */
export function checkLimits({ limits, iopsSize }: ThrottleLimits): void {
  const has = (name: LimitName): boolean => (limits[name]?.average ?? 0) > 0
  const hasMax = (name: LimitName): boolean => (limits[name]?.max ?? 0) > 0
  for (const kind of ['bps', 'iops'] as const) {
    for (const one of [has, hasMax]) {
      if (one(`${kind}-total`) && (one(`${kind}-read`) || one(`${kind}-write`))) {
        throw refused(
          'bps/iops/max total values and read/write values cannot be used at the same time',
        )
      }
    }
  }
  const iops = has('iops-total') || has('iops-read') || has('iops-write')
  if ((iopsSize ?? 0) > 0 && !iops) throw refused('iops size requires an iops value to be set')
  for (const limit of Object.values(limits)) checkLimit(limit)
}

function checkLimit({ average, max = 0, maxLength = 1 }: Limit): void {
  const isRate = (value: number): boolean => value >= 0 && value <= MOST
  if (!isRate(average) || !isRate(max)) {
    throw refused(`bps/iops/max values must be within [0, ${MOST}]`)
  }
  if (!Number.isInteger(maxLength) || maxLength < 1) throw refused('the burst length cannot be 0')
  if (maxLength > 1 && max === 0) throw refused('burst length set without burst rate')
  if (max * maxLength > MOST) throw refused('burst length too high for this burst rate')
  if (max > 0 && average === 0) {
    throw refused('bps_max/iops_max require corresponding bps/iops values')
  }
  if (max > 0 && max < average) throw refused('bps_max/iops_max cannot be lower than bps/iops')
}

function refused(message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno: 'EINVAL' })
}
