import type { Limit, LimitName, ThrottleLimits } from '../../block/throttle/limits.ts'
import { isDevice } from '../../machine/block-backend.ts'
import type { DriveThrottle } from '../../machine/drive-config.ts'
import { blockDevices } from './block-devices.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { int, str, struct } from './types.ts'
import type { QmpType } from './types.ts'

/** QMP's names of the limits: of averages, of bursts and of their seconds. */
const NAMES: readonly (readonly [LimitName, string])[] = [
  ['bps-total', 'bps'],
  ['bps-read', 'bps_rd'],
  ['bps-write', 'bps_wr'],
  ['iops-total', 'iops'],
  ['iops-read', 'iops_rd'],
  ['iops-write', 'iops_wr'],
]
const maxOf = (name: string): string => `${name}_max`
const lengthOf = (name: string): string => `${name}_max_length`

const MEMBERS: Readonly<Record<string, QmpType>> = Object.fromEntries([
  ...NAMES.map(([, name]) => [name, int]),
  ...NAMES.flatMap(([, name]) => [
    [`${maxOf(name)}?`, int],
    [`${lengthOf(name)}?`, int],
  ]),
  ['iops_size?', int],
  ['group?', str],
])

/** Members of what `query-block` tells of a medium. */
export const LIMIT_MEMBERS: typeof MEMBERS = MEMBERS

/** The limits that a drive has, all of them 0 where there are none. */
export function limitMembers(throttle: DriveThrottle | undefined): object {
  const members: Record<string, number | string> = {}
  for (const [limit, name] of NAMES) {
    const { average, max, maxLength }: Partial<Limit> = throttle?.limits?.limits[limit] ?? {}
    members[name] = average ?? 0
    if (max === undefined) continue
    members[maxOf(name)] = max
    members[lengthOf(name)] = maxLength ?? 1
  }
  const iopsSize = throttle?.limits?.iopsSize
  if (iopsSize !== undefined) members['iops_size'] = iopsSize
  if (throttle?.group !== undefined) members['group'] = throttle.group
  return members
}

/** The command that limits a drive. */
export const BLOCK_LIMITS: QmpCommand = {
  name: 'block_set_io_throttle',
  args: struct({ 'device?': str, 'id?': str, ...MEMBERS }),
  run: async ({ machine }, args) => {
    const { device, id, group } = args as Record<string, string | undefined>
    if ((device === undefined) === (id === undefined)) {
      throw new QmpError("Need exactly one of 'device' and 'id'")
    }
    const found = (await blockDevices(machine)).find(({ backend }) =>
      id === undefined ? backend.name === device : isDevice(backend, id),
    )
    if (found === undefined) {
      throw new QmpError(`Device '${device ?? id}' not found`, 'DeviceNotFound')
    }
    const { medium } = found
    if (medium === undefined) throw new QmpError(`Device '${device ?? id}' has no medium`)
    const limits = limitsOf(args as Record<string, number | undefined>)
    await machine.manage('throttleDrive', medium.id, limits, group ?? device ?? id ?? medium.id)
  },
}

function limitsOf(args: Readonly<Record<string, number | undefined>>): ThrottleLimits {
  const limits: Partial<Record<LimitName, Limit>> = {}
  for (const [limit, name] of NAMES) {
    const max = args[maxOf(name)]
    const maxLength = args[lengthOf(name)]
    limits[limit] = {
      average: args[name] ?? 0,
      ...(max === undefined ? {} : { max }),
      ...(maxLength === undefined ? {} : { maxLength }),
    }
  }
  const iopsSize = args['iops_size']
  return { limits, ...(iopsSize === undefined ? {} : { iopsSize }) }
}
