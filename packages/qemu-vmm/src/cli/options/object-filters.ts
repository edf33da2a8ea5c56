import type { ObjectConfig } from '../../objects/config.ts'
import { CliError } from '../cli-error.ts'
import { choice } from '../option.ts'
import type { KeySpec } from '../option.ts'
import { parseSize } from '../size.ts'

/** Objects that see the frames of a network, or stand in their way. */
export const FILTERS = ['filter-buffer', 'filter-dump', 'filter-throttle'] as const
type Filter = (typeof FILTERS)[number]

export function isFilter(type: string): type is Filter {
  return (FILTERS as readonly string[]).includes(type)
}

const NETDEV: KeySpec = {
  name: 'netdev',
  value: 'string',
  help: 'The network whose frames they are',
}
const QUEUE: KeySpec = {
  name: 'queue',
  value: 'all|rx|tx',
  help: 'Frames from the card, to it, or all',
}

/** Keys as `-object TYPE,help` shows them. */
export const FILTER_KEYS: Readonly<Record<Filter, readonly KeySpec[]>> = {
  'filter-buffer': [
    { name: 'interval', value: 'uint32', help: 'Microseconds after which frames go on' },
    NETDEV,
    QUEUE,
    { name: 'status', value: 'on|off', help: 'Off: frames go on at once' },
  ],
  'filter-dump': [
    { name: 'file', value: 'string', help: 'Where frames are written, in the format of libpcap' },
    { name: 'maxlen', value: 'uint32', help: 'Bytes of a frame that are written' },
    NETDEV,
    QUEUE,
  ],
  'filter-throttle': [
    { name: 'average', value: 'size', help: 'Bytes per second in the long run' },
    { name: 'burst', value: 'size', help: 'Bytes that may go at once' },
    NETDEV,
    { name: 'peak', value: 'size', help: 'Bytes per second at most while the burst lasts' },
    QUEUE,
  ],
}

/** The same for the reference of `-object`. */
export const FILTER_HELP: readonly KeySpec[] = [
  { name: 'netdev', value: 'id', help: 'filter-*: the network, required' },
  { name: 'queue', value: 'all|rx|tx', help: 'filter-*: frames from the card, to it, or all' },
  { name: 'maxlen', value: 'bytes', help: 'filter-dump: of each frame (default: 65536)' },
  {
    name: 'interval',
    value: 'us',
    help: 'filter-buffer: frames are kept, and go on together after so many microseconds; required',
  },
  { name: 'status', value: 'on|off', help: 'filter-buffer: off lets frames through (default: on)' },
  {
    name: 'average',
    value: 'size',
    help: 'filter-throttle, which QEMU has not: bytes per second in each direction, required',
  },
  {
    name: 'peak',
    value: 'size',
    help: 'filter-throttle: bytes per second at most while the burst lasts (default: any)',
  },
  {
    name: 'burst',
    value: 'size',
    help: 'filter-throttle: bytes that may go at once (default: those of 10 ms, at least 65550)',
  },
]

/** A filter as it is described; networks and files are looked at when the machine is made. */
export function filterOf(
  type: Filter,
  id: string,
  values: ReadonlyMap<string, string>,
): ObjectConfig {
  const netdev = required(values, 'netdev')
  const queue = choice(values.get('queue') ?? 'all', ['all', 'rx', 'tx'], 'invalid value of queue')
  const common = { id, netdev, ...(queue === 'all' ? {} : { queue }) }
  if (type === 'filter-dump') return filterDump(common, values)
  if (type === 'filter-throttle') return filterThrottle(common, values)
  const interval = Number(required(values, 'interval'))
  if (!Number.isInteger(interval) || interval < 1 || interval > 0xffff_ffff) {
    throw new CliError("Property 'filter-buffer.interval' requires a positive value")
  }
  const status = choice(values.get('status') ?? 'on', ['on', 'off'], 'invalid value of status')
  return { type, ...common, interval, ...(status === 'on' ? {} : { status }) }
}

type Common = { id: string; netdev: string; queue?: 'rx' | 'tx' }

/** A capture; the file is made when the machine is. */
function filterDump(common: Common, values: ReadonlyMap<string, string>): ObjectConfig {
  const [file, maxlen] = [values.get('file'), values.get('maxlen')]
  if (file === undefined || file === '') throw new CliError("Parameter 'file' is missing")
  if (maxlen !== undefined && !(/^\d{1,10}$/.test(maxlen) && Number(maxlen) > 0)) {
    throw new CliError(`Parameter 'maxlen' expects a number of bytes, not '${maxlen}'`)
  }
  const { id, netdev, ...rest } = common
  const most = maxlen === undefined ? {} : { maxlen: Number(maxlen) }
  return { type: 'filter-dump', id, netdev, file, ...most, ...rest }
}

function filterThrottle(common: Common, values: ReadonlyMap<string, string>): ObjectConfig {
  const average = parseSize(required(values, 'average'), 'B', 'average')
  const rate = (key: 'peak' | 'burst'): Record<string, number> => {
    const text = values.get(key)
    return text === undefined ? {} : { [key]: parseSize(text, 'B', key) }
  }
  return { type: 'filter-throttle', ...common, average, ...rate('peak'), ...rate('burst') }
}

function required(values: ReadonlyMap<string, string>, key: string): string {
  const value = values.get(key)
  if (value === undefined) throw new CliError(`Parameter '${key}' is missing`)
  return value
}
