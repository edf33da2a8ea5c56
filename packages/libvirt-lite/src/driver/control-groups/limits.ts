import { ErrorCode, VirtError } from '../../rpc/index.ts'
import type { DomainDefinition } from '../model.ts'
import type { CONTROLLERS } from './find.ts'

/** What a domain may take of its host; what is undefined is not limited. */
export interface Limits {
  /** Of the processors, in proportion to others: 1 to 10000, where 100 is the usual. */
  shares?: number | undefined
  /** Of all its threads together: microseconds of processor time in each period. */
  globalPeriod?: number | undefined
  /** -1 for all. */
  globalQuota?: number | undefined
  /** The same of each vCPU. */
  period?: number | undefined
  quota?: number | undefined
  /** KiB that it cannot have more than. */
  hardLimit?: number | undefined
  /** KiB from which on it is slowed down. */
  softLimit?: number | undefined
  /** KiB of memory and swap together. */
  swapHardLimit?: number | undefined
  /** Of the disks, in proportion to others: 100 to 1000. */
  weight?: number | undefined
}

export type Controller = (typeof CONTROLLERS)[number]

/** A kind of limits, as definitions and libvirt's messages call it. */
interface Kind {
  controller: Controller
  element: string
  name: string
  limits: readonly (keyof Limits)[]
}

export const KINDS = {
  cpu: {
    controller: 'cpu',
    element: 'cputune',
    name: 'CPU tuning',
    limits: ['shares', 'globalPeriod', 'globalQuota', 'period', 'quota'],
  },
  memory: {
    controller: 'memory',
    element: 'memtune',
    name: 'Memory tuning',
    limits: ['hardLimit', 'softLimit', 'swapHardLimit'],
  },
  io: {
    controller: 'io',
    element: 'blkiotune',
    name: 'Block I/O tuning',
    limits: ['weight'],
  },
} as const satisfies Record<Controller, Kind>

/** What the kernel takes when nothing was said. */
export const DEFAULT_SHARES = 100
export const DEFAULT_PERIOD = 100_000

const PERIOD = [1000, 1_000_000] as const
/** What the kernel takes: 2^44 µs are half a year. */
const QUOTA = [1000, 17_592_186_044_415] as const
const SHARES = [1, 10_000] as const
const WEIGHT = [100, 1000] as const

export function limitsOf({ cputune = {}, memtune = {}, blkiotune = {} }: DomainDefinition): Limits {
  const { shares, period, quota, globalPeriod, globalQuota } = cputune
  return {
    shares,
    period,
    quota,
    globalPeriod,
    globalQuota,
    hardLimit: memtune.hardLimit?.value,
    softLimit: memtune.softLimit?.value,
    swapHardLimit: memtune.swapHardLimit?.value,
    weight: blkiotune.weight,
  }
}

/** A definition with other limits; what is undefined in them is taken out. */
export function withLimits(given: DomainDefinition, limits: Limits): DomainDefinition {
  const definition = structuredClone(given)
  const cputune: Record<string, unknown> = { ...definition.cputune }
  for (const name of KINDS.cpu.limits) put(cputune, name, limits[name])
  const memtune: Record<string, unknown> = { ...definition.memtune }
  for (const name of KINDS.memory.limits) {
    const value = limits[name]
    put(memtune, name, value === undefined ? undefined : { unit: 'KiB', value })
  }
  const blkiotune: Record<string, unknown> = { ...definition.blkiotune }
  put(blkiotune, 'weight', limits.weight)
  for (const [name, value] of Object.entries({ cputune, memtune, blkiotune })) {
    put(
      definition as unknown as Record<string, unknown>,
      name,
      Object.keys(value).length === 0 ? undefined : value,
    )
  }
  return definition
}

function put(holder: Record<string, unknown>, name: string, value: unknown): void {
  if (value === undefined) delete holder[name]
  else holder[name] = value
}

/** @throws VirtError `INVALID_ARG` for what no host can keep */
export function checkLimits(limits: Limits): void {
  within('cputune shares', limits.shares, SHARES)
  within('cputune period', limits.period, PERIOD)
  within('cputune global_period', limits.globalPeriod, PERIOD)
  for (const [name, quota] of [
    ['cputune quota', limits.quota],
    ['cputune global_quota', limits.globalQuota],
  ] as const) {
    // Without a limit it is negative.
    if (quota !== undefined && quota >= 0) within(name, quota, QUOTA)
  }
  within('blkiotune weight', limits.weight, WEIGHT)
  const { hardLimit, softLimit, swapHardLimit } = limits
  if (softLimit !== undefined && hardLimit !== undefined && softLimit > hardLimit) {
    throw wrong(`memory soft_limit ${softLimit} KiB: at most the hard_limit, ${hardLimit} KiB`)
  }
  if (swapHardLimit === undefined) return
  if (hardLimit === undefined || swapHardLimit < hardLimit) {
    const least =
      hardLimit === undefined ? 'that has a hard_limit as well' : `of ${hardLimit} KiB or more`
    throw wrong(
      `memory swap_hard_limit ${swapHardLimit} KiB: it is with memory, so expected one ${least}`,
    )
  }
}

function within(
  name: string,
  value: number | undefined,
  [least, most]: readonly [number, number],
): void {
  if (value === undefined || (value >= least && value <= most)) return
  throw wrong(`Value of ${name} must be in range [${least}, ${most}], not ${value}`)
}

/** `cpu.max`: how long of which time. */
export const timeOf = (quota: number | undefined, period: number | undefined): string =>
  `${quota === undefined || quota < 0 ? 'max' : quota} ${period ?? DEFAULT_PERIOD}`

const bytes = (kib: number | undefined): string => (kib === undefined ? 'max' : `${kib * 1024}`)

/** What files have when nothing is limited. */
const UNLIMITED: Record<Controller, readonly (readonly [file: string, value: string])[]> = {
  cpu: [
    ['cpu.weight', `${DEFAULT_SHARES}`],
    ['cpu.max', timeOf(undefined, undefined)],
  ],
  memory: [
    ['memory.high', 'max'],
    ['memory.max', 'max'],
    ['memory.swap.max', 'max'],
  ],
  io: [['io.weight', 'default 100']],
}

/** Files of a group, and what goes in them, that differ between two sets of limits. */
export function changedFiles(
  controller: Controller,
  before: Limits,
  after: Limits,
): [file: string, value: string][] {
  const old = valuesOf(before)
  const now = valuesOf(after)
  return UNLIMITED[controller].flatMap(([file, none]) => {
    const value = now[file] ?? none
    return value === (old[file] ?? none) ? [] : [[file, value]]
  })
}

function valuesOf(limits: Limits): Record<string, string | undefined> {
  const { hardLimit, swapHardLimit, weight } = limits
  const swap = swapHardLimit === undefined ? undefined : swapHardLimit - (hardLimit ?? 0)
  return {
    'cpu.weight': `${limits.shares ?? DEFAULT_SHARES}`,
    'cpu.max': timeOf(limits.globalQuota, limits.globalPeriod),
    'memory.high': bytes(limits.softLimit),
    'memory.max': bytes(hardLimit),
    'memory.swap.max': bytes(swap),
    'io.weight': weight === undefined ? undefined : `default ${weight}`,
  }
}

export function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}
