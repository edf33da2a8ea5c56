import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import { factsOf } from '../driver/model.ts'
import type { DomainRef, Handlers, VirtError } from '../rpc/index.ts'
import { placeVcpus } from '../driver/affinity.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { vcpuThreads } from './domain.ts'
import { checkChange, cpusetIds, withCount, withMaximum, withStates, wrong } from './vcpu-counts.ts'
import { noAgent } from './guest-agent.ts'
import { mapOf } from './pinning.ts'
import { IMPACT, IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'

/** Flags of `virDomainSetVcpusFlags` and `virDomainGetVcpusFlags`. */
const VCPU = { MAXIMUM: 4, GUEST: 8, HOTPLUGGABLE: 16 } as const
const GET_FLAGS = IMPACT_FLAGS | VCPU.MAXIMUM | VCPU.GUEST
const SET_FLAGS = GET_FLAGS | VCPU.HOTPLUGGABLE

/** The processors of guests. */
export function vcpuHandlers({ domains, groups }: ServerContext): Handlers {
  const set = async (dom: DomainRef, count: number, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const { isLive, isConfig } = impactOf(domain, flags)
      if ((flags & VCPU.GUEST) !== 0) throw noAgent(domain)
      if (count === 0) throw wrong('a domain has at least one vcpu')
      const isMaximum = (flags & VCPU.MAXIMUM) !== 0
      if (isLive && isMaximum) {
        throw invalid("maximum vcpu count of a live domain can't be modified")
      }
      const kinds = [...(isLive ? ['live'] : []), ...(isConfig ? ['persistent'] : [])] as const
      for (const kind of isMaximum ? [] : kinds) {
        const { maxVcpus } = factsOf((kind === 'live' ? domain.live : domain.definition)!)
        if (count > maxVcpus) throw tooMany(kind, count, maxVcpus)
      }
      if (isLive) await changeLive(domain, () => domain.devices.vcpus.setCount(count))
      if (!isConfig) return
      const isHotpluggable = (flags & VCPU.HOTPLUGGABLE) !== 0
      const { definition } = domain
      domains.change(
        domain,
        isMaximum ? withMaximum(definition!, count) : withCount(definition!, count, isHotpluggable),
      )
    })
  }
  /** The threads of processors that came are limited and tied as the others are. */
  const changeLive = async (domain: Domain, change: () => Promise<void>): Promise<void> => {
    await change()
    await placeVcpus(groups, domain.machine, domain.live!)
  }
  return {
    DOMAIN_SET_VCPUS: ({ dom, count }) => set(dom, count, IMPACT.LIVE),
    DOMAIN_SET_VCPUS_FLAGS({ dom, count, flags }) {
      checkFlags(flags, SET_FLAGS, 'virDomainSetVcpusFlags')
      return set(dom, count, flags)
    },
    async DOMAIN_SET_VCPU({ dom, cpumap, state, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainSetVcpu')
      if (state !== 0 && state !== 1) throw wrong(`the state of a vcpu is 0 or 1, not ${state}`)
      const ids = cpusetIds(cpumap)
      const domain = domains.of(dom)
      await domain.exclusively(async () => {
        const { isLive, isConfig } = impactOf(domain, flags)
        const enabled = state === 1
        if (isLive) checkChange(domain.live!, ids, enabled, true)
        if (isConfig) checkChange(domain.definition!, ids, enabled, false)
        if (isLive) await changeLive(domain, () => domain.devices.vcpus.setStates(ids, enabled))
        if (isConfig) domains.change(domain, withStates(domain.definition!, ids, enabled))
      })
    },
    DOMAIN_GET_VCPUS_FLAGS({ dom, flags }) {
      checkFlags(flags, GET_FLAGS, 'virDomainGetVcpusFlags')
      const domain = domains.of(dom)
      const definition = definitionFor(domain, flags)
      if ((flags & VCPU.GUEST) !== 0) throw noAgent(domain)
      const { vcpus, maxVcpus } = factsOf(definition)
      return { count: (flags & VCPU.MAXIMUM) !== 0 ? maxVcpus : vcpus }
    },
    async DOMAIN_GET_VCPUS({ dom, maxInfo, mapLength }) {
      const domain = domains.of(dom)
      if (!domain.isActive) throw invalid('cannot retrieve vcpu information for inactive domain')
      const threads = await vcpuThreads(domain)
      const info = threads.slice(0, Math.max(0, maxInfo))
      return {
        info: info.map(({ number, time, cpu }) => ({ number, state: 1, cpuTime: time, cpu })),
        maps: Buffer.concat(info.map(({ allowed }) => mapOf(allowed, mapLength))),
      }
    },
  }
}

function tooMany(which: string, count: number, most: number): VirtError {
  return wrong(
    `requested vcpus is greater than max allowable vcpus for the ${which} domain: ${count} > ${most}`,
  )
}
