import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import { factsOf } from '../driver/model.ts'
import { residentKib } from '../driver/process.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT, IMPACT_FLAGS, impactOf } from './impact.ts'

/** Flag of `virDomainSetMemoryFlags`: the most that the guest can have. */
const MAXIMUM = 4
/** Numbers of `virDomainMemoryStatTags`, and what the balloon calls them; both in the order of libvirt. */
const GUEST_STATS = [
  [0, 'stat-swap-in', true],
  [1, 'stat-swap-out', true],
  [2, 'stat-major-faults', false],
  [3, 'stat-minor-faults', false],
  [4, 'stat-free-memory', true],
  [5, 'stat-total-memory', true],
  [8, 'stat-available-memory', true],
  [10, 'stat-disk-caches', true],
  [11, 'stat-htlb-pgalloc', false],
  [12, 'stat-htlb-pgfail', false],
] as const
const ACTUAL = 6
const RSS = 7
const LAST_UPDATE = 9

/** The memory of guests. */
export function memoryHandlers({ domains }: ServerContext): Handlers {
  const set = async (dom: DomainRef, memory: bigint, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const impact = impactOf(domain, flags)
      const kib = Number(memory)
      if (!Number.isSafeInteger(kib) || kib === 0) {
        const text = `memory ${memory} KiB: it is 1 to 2^53 - 1 KiB`
        throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
      }
      const isMaximum = (flags & MAXIMUM) !== 0
      if (isMaximum && impact.isLive) {
        throw invalid('cannot resize the maximum memory on an active domain')
      }
      for (const definition of [
        ...(impact.isLive ? [domain.live!] : []),
        ...(impact.isConfig ? [domain.definition!] : []),
      ]) {
        if (!isMaximum && kib > factsOf(definition).memoryKib) {
          const text = 'cannot set memory higher than max memory'
          throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
        }
        if (isMaximum && (definition.cpu?.numa?.cells ?? []).length > 0) {
          throw invalid('the memory of a domain with NUMA nodes is the sum of theirs: change those')
        }
      }
      if (impact.isLive) await setBalloon(domain, kib)
      if (!impact.isConfig) return
      const definition = structuredClone(domain.definition!)
      const unit = 'KiB'
      if (isMaximum) definition.memory = { ...definition.memory, unit, value: kib }
      const current = isMaximum ? Math.min(definition.currentMemory?.value ?? kib, kib) : kib
      definition.currentMemory = { ...definition.currentMemory, unit, value: current }
      domains.change(domain, definition)
    })
  }
  return {
    DOMAIN_SET_MEMORY: ({ dom, memory }) => set(dom, memory, IMPACT.LIVE),
    DOMAIN_SET_MAX_MEMORY: ({ dom, memory }) => set(dom, memory, MAXIMUM),
    DOMAIN_SET_MEMORY_FLAGS({ dom, memory, flags }) {
      checkFlags(flags, IMPACT_FLAGS | MAXIMUM, 'virDomainSetMemoryFlags')
      return set(dom, memory, flags)
    },
    async DOMAIN_MEMORY_STATS({ dom, max, flags }) {
      checkFlags(flags, 0, 'virDomainMemoryStats')
      const domain = domains.of(dom)
      const pid = domain.machine.process.pid
      const stats = [...(await balloonStats(domain)), { tag: RSS, value: residentKib(pid) }]
      return { stats: stats.slice(0, max) }
    },
    async DOMAIN_SET_MEMORY_STATS_PERIOD({ dom, period, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainSetMemoryStatsPeriod')
      const domain = domains.of(dom)
      if (period < 0) {
        const text = `invalid value for collection period '${period}': it is 0 or more seconds`
        throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
      }
      await domain.exclusively(async () => {
        const { isLive, isConfig } = impactOf(domain, flags)
        const withPeriod = <T extends { devices?: { memballoon?: object } }>(definition: T): T => {
          const changed = structuredClone(definition)
          const balloon = changed.devices?.memballoon as
            | { model: string; stats?: { period: number } }
            | undefined
          if (balloon === undefined || balloon.model === 'none') {
            throw invalid('Memory balloon model must be virtio to set the collection period')
          }
          if (period === 0) delete balloon.stats
          else balloon.stats = { period }
          return changed
        }
        const config = isConfig ? withPeriod(domain.definition!) : undefined
        if (isLive) {
          const live = withPeriod(domain.live!)
          await domain.machine.execute('qom-set', {
            path: balloonPath(domain),
            property: 'guest-stats-polling-interval',
            value: period,
          })
          domain.running(live)
        }
        if (config !== undefined) domains.change(domain, config)
      })
    },
  }
}

/** The guest changes what it has when it wants to; without anything to ask it with, that is said. */
async function setBalloon(domain: Domain, kib: number): Promise<void> {
  if (domain.balloonKib === undefined) {
    throw invalid(
      'Unable to change memory of active domain without the balloon device and guest OS balloon driver',
    )
  }
  await domain.machine.execute('balloon', { value: kib * 1024 })
}

const balloonPath = ({ live }: Domain): string =>
  `/machine/peripheral/${live?.devices?.memballoon?.alias?.name ?? ''}`

/** What a guest says of its memory, by libvirt's tags. */
export async function balloonStats(domain: Domain): Promise<{ tag: number; value: bigint }[]> {
  if (domain.balloonKib === undefined) return []
  const found = [{ tag: ACTUAL, value: BigInt(domain.balloonKib) }]
  const answer = (await domain.machine
    .execute('qom-get', { path: balloonPath(domain), property: 'guest-stats' })
    .catch(() => undefined)) as
    | { stats?: Readonly<Record<string, number>>; 'last-update'?: number }
    | undefined
  if (answer?.stats === undefined) return found
  for (const [tag, name, isBytes] of GUEST_STATS) {
    const value = answer.stats[name]
    // All ones are what a guest has not told.
    if (value === undefined || !Number.isSafeInteger(value) || value < 0) continue
    found.push({ tag, value: BigInt(isBytes ? Math.floor(value / 1024) : value) })
  }
  const update = answer['last-update']
  if (Number.isSafeInteger(update)) found.push({ tag: LAST_UPDATE, value: BigInt(update!) })
  return found
}
