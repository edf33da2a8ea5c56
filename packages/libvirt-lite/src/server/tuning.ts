import { changeLimits } from '../driver/control-groups/domain-limits.ts'
import {
  DEFAULT_PERIOD,
  DEFAULT_SHARES,
  KINDS,
  checkLimits,
  limitsOf,
  withLimits,
  wrong,
} from '../driver/control-groups/limits.ts'
import type { Controller, Limits } from '../driver/control-groups/limits.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers, TypedParam } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'

/** Flag that says that the client takes parameters that are strings. */
const STRINGS_OK = 4
/** KiB that stand for no limit of memory. */
const UNLIMITED = 9_007_199_254_740_991n
/** As the kernel has it for a group that nobody changed. */
const DEFAULT_WEIGHT = 100

interface Parameter {
  field: string
  limit: keyof Limits
  type: 'ullong' | 'llong' | 'uint'
  /** What is told where nothing is said. */
  none: number | bigint
}

const PARAMETERS: Record<Controller, readonly Parameter[]> = {
  cpu: [
    { field: 'cpu_shares', limit: 'shares', type: 'ullong', none: DEFAULT_SHARES },
    { field: 'vcpu_period', limit: 'period', type: 'ullong', none: DEFAULT_PERIOD },
    { field: 'vcpu_quota', limit: 'quota', type: 'llong', none: -1 },
    { field: 'global_period', limit: 'globalPeriod', type: 'ullong', none: DEFAULT_PERIOD },
    { field: 'global_quota', limit: 'globalQuota', type: 'llong', none: -1 },
  ],
  memory: [
    { field: 'hard_limit', limit: 'hardLimit', type: 'ullong', none: UNLIMITED },
    { field: 'soft_limit', limit: 'softLimit', type: 'ullong', none: UNLIMITED },
    { field: 'swap_hard_limit', limit: 'swapHardLimit', type: 'ullong', none: UNLIMITED },
  ],
  io: [{ field: 'weight', limit: 'weight', type: 'uint', none: DEFAULT_WEIGHT }],
}

/** What domains may take of their host: `virsh schedinfo`, `memtune`, `blkiotune`. */
export function tuningHandlers({ domains, groups }: ServerContext): Handlers {
  const check = (kind: Controller): void => {
    const lack = groups.lacks(kind)
    if (lack === undefined) return
    // As libvirt refuses this in a session.
    const [code, prefix] =
      kind === 'io'
        ? [ErrorCode.CONFIG_UNSUPPORTED, 'unsupported configuration']
        : [ErrorCode.OPERATION_UNSUPPORTED, 'Operation not supported']
    const text = `${KINDS[kind].name} is not available: ${lack.reason}: ${lack.remedy}`
    throw new VirtError(code, `${prefix}: ${text}`)
  }
  const get = (kind: Controller, dom: DomainRef, flags: number): TypedParam[] => {
    checkFlags(flags, IMPACT_FLAGS | STRINGS_OK, 'virDomainGetParameters')
    const domain = domains.of(dom)
    check(kind)
    const limits = limitsOf(definitionFor(domain, flags & IMPACT_FLAGS))
    return PARAMETERS[kind].map(({ field, limit, type, none }) => {
      const value = limits[limit] ?? none
      return (
        type === 'uint'
          ? { field, type, value: Number(value) }
          : { field, type, value: BigInt(value) }
      ) as TypedParam
    })
  }
  /** A client asks with no room first, to learn how much there is. */
  const list = (kind: Controller, dom: DomainRef, max: number, flags: number) => {
    const params = get(kind, dom, flags)
    return { params: max <= 0 ? [] : params.slice(0, max), count: params.length }
  }
  const set = async (
    kind: Controller,
    dom: DomainRef,
    params: readonly TypedParam[],
    flags: number,
  ): Promise<void> => {
    checkFlags(flags, IMPACT_FLAGS, 'virDomainSetParameters')
    const domain = domains.of(dom)
    check(kind)
    const changes = changesOf(kind, params)
    await domain.exclusively(async () => {
      const { isLive, isConfig } = impactOf(domain, flags)
      const config = isConfig ? { ...limitsOf(domain.definition!), ...changes } : undefined
      // Before anything is changed: it is both or none.
      if (config !== undefined) checkLimits(config)
      if (isLive) await changeLimits(groups, domain, { ...limitsOf(domain.live!), ...changes })
      if (config !== undefined) domains.change(domain, withLimits(domain.definition!, config))
    })
  }
  return {
    DOMAIN_GET_SCHEDULER_TYPE({ dom }) {
      domains.of(dom)
      check('cpu')
      return { type: 'posix', count: PARAMETERS.cpu.length }
    },
    DOMAIN_GET_SCHEDULER_PARAMETERS: ({ dom, max }) => ({
      params: get('cpu', dom, 0).slice(0, Math.max(0, max)),
    }),
    DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS: ({ dom, max, flags }) => ({
      params: get('cpu', dom, flags).slice(0, Math.max(0, max)),
    }),
    DOMAIN_SET_SCHEDULER_PARAMETERS: ({ dom, params }) => set('cpu', dom, params, 0),
    DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS: ({ dom, params, flags }) =>
      set('cpu', dom, params, flags),
    DOMAIN_GET_MEMORY_PARAMETERS: ({ dom, max, flags }) => list('memory', dom, max, flags),
    DOMAIN_SET_MEMORY_PARAMETERS: ({ dom, params, flags }) => set('memory', dom, params, flags),
    DOMAIN_GET_BLKIO_PARAMETERS: ({ dom, max, flags }) => list('io', dom, max, flags),
    DOMAIN_SET_BLKIO_PARAMETERS: ({ dom, params, flags }) => set('io', dom, params, flags),
  }
}

/** @throws VirtError for parameters that there are not, or not of this type */
function changesOf(kind: Controller, params: readonly TypedParam[]): Limits {
  const changes: Limits = {}
  for (const { field, type, value } of params) {
    const known = PARAMETERS[kind].find((parameter) => parameter.field === field)
    if (known === undefined) {
      const names = PARAMETERS[kind].map((parameter) => parameter.field)
      throw wrong(`parameter '${field}' not supported: expected one of ${names.join(', ')}`)
    }
    if (type !== known.type) {
      throw wrong(`invalid type '${type}' for parameter '${field}', expected '${known.type}'`)
    }
    const number = Number(value)
    const isNone = kind === 'memory' ? BigInt(value) >= UNLIMITED : known.none === -1 && number < 0
    if (!isNone && !Number.isSafeInteger(number)) throw wrong(`${field} ${value}: at most 2^53 - 1`)
    // That something has no limit is said by a quota, as libvirt does, and not said of memory.
    changes[known.limit] = isNone ? (kind === 'memory' ? undefined : -1) : number
  }
  return changes
}
