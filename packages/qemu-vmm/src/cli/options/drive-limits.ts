import { checkLimits } from '../../block/throttle/limits.ts'
import type { Limit, LimitName } from '../../block/throttle/limits.ts'
import type { DriveConfig } from '../../machine/drive-config.ts'
import { CliError } from '../cli-error.ts'
import type { KeySpec } from '../option.ts'
import { parseSize } from '../size.ts'

/** Names of limits: of -drive today, and of its older keys, which go on with `_max` and `_max_length`. */
const LIMITS: readonly (readonly [LimitName, string, string])[] = [
  ['bps-total', 'bps', 'bytes per second'],
  ['bps-read', 'bps_rd', 'bytes that are read per second'],
  ['bps-write', 'bps_wr', 'bytes that are written per second'],
  ['iops-total', 'iops', 'requests per second'],
  ['iops-read', 'iops_rd', 'requests to read per second'],
  ['iops-write', 'iops_wr', 'requests to write per second'],
]

/** A key has two names. */
const both = (now: string, old: string, value: string, help: string): KeySpec[] => [
  { name: `throttling.${now}`, value, help },
  { name: old, value, help: `the same as throttling.${now}` },
]

/** Keys of -drive that limit it. */
export const LIMIT_KEYS: readonly KeySpec[] = [
  ...LIMITS.flatMap(([now, old, help]) => [
    ...both(now, old, 'n', help),
    ...both(`${now}-max`, `${old}_max`, 'n', 'the same in a burst'),
    ...both(`${now}-max-length`, `${old}_max_length`, 'seconds', 'how long a burst may last'),
  ]),
  ...both('iops-size', 'iops_size', 'bytes', 'what counts as one request'),
  ...both('group', 'group', 'name', 'drives that have their limits together'),
]

/** What they say. Throws CliError for limits that make no sense. */
export function driveLimits(values: ReadonlyMap<string, string>): Pick<DriveConfig, 'throttle'> {
  const text = (now: string, old: string): string | undefined => {
    const [first, second] = [values.get(`throttling.${now}`), values.get(old)]
    if (first !== undefined && second !== undefined) {
      throw new CliError(
        `'throttling.${now}' and its alias '${old}' can't be used at the same time`,
      )
    }
    return first ?? second
  }
  const number = (now: string, old: string): number | undefined => {
    const value = text(now, old)
    return value === undefined ? undefined : parseSize(value, 'B', `throttling.${now}`)
  }
  const limits: Partial<Record<LimitName, Limit>> = {}
  for (const [now, old] of LIMITS) {
    const average = number(now, old)
    const max = number(`${now}-max`, `${old}_max`)
    const maxLength = number(`${now}-max-length`, `${old}_max_length`)
    if (average === undefined && max === undefined && maxLength === undefined) continue
    limits[now] = {
      average: average ?? 0,
      ...(max === undefined ? {} : { max }),
      ...(maxLength === undefined ? {} : { maxLength }),
    }
  }
  const iopsSize = number('iops-size', 'iops_size')
  const group = text('group', 'group')
  const hasLimits = Object.keys(limits).length > 0 || iopsSize !== undefined
  if (!hasLimits) return group === undefined ? {} : { throttle: { group } }
  const throttle = { limits, ...(iopsSize === undefined ? {} : { iopsSize }) }
  try {
    checkLimits(throttle)
  } catch (error) {
    throw new CliError((error as Error).message)
  }
  return { throttle: { limits: throttle, ...(group === undefined ? {} : { group }) } }
}
