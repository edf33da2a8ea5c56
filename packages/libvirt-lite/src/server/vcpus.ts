import { invalid } from '../driver/domain.ts'
import { factsOf } from '../driver/model.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { onlineCpus, presentCpus } from '../driver/host.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { vcpuThreads } from './domain.ts'
import { IMPACT, IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'

/** Flags of `virDomainSetVcpusFlags` and `virDomainGetVcpusFlags`. */
const VCPU = { MAXIMUM: 4, GUEST: 8 } as const
const VCPU_FLAGS = IMPACT_FLAGS | VCPU.MAXIMUM | VCPU.GUEST

/** The processors of guests. */
export function vcpuHandlers({ domains }: ServerContext): Handlers {
  const set = async (dom: DomainRef, count: number, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(() => {
      const { isLive, isConfig } = impactOf(domain, flags)
      refuseGuest(flags)
      if (count === 0) throw wrong('a domain has at least one vcpu')
      const isMaximum = (flags & VCPU.MAXIMUM) !== 0
      if (isLive && isMaximum) {
        throw invalid("maximum vcpu count of a live domain can't be modified")
      }
      if (isLive) {
        const { vcpus, maxVcpus } = factsOf(domain.live!)
        if (count > maxVcpus) throw tooMany('live', count, maxVcpus)
        if (count !== vcpus) {
          throw new VirtError(
            ErrorCode.OPERATION_UNSUPPORTED,
            `Operation not supported: the vcpus of a running domain cannot be changed: use --config, and start it again`,
          )
        }
      }
      if (!isConfig) return
      const definition = structuredClone(domain.definition!)
      const vcpu = (definition.vcpu ??= { value: 1 })
      if (isMaximum) {
        const { topology } = definition.cpu ?? {}
        if (topology !== undefined) {
          const { sockets, dies = 1, cores, threads } = topology
          if (sockets * dies * cores * threads !== count) {
            throw wrong("CPU topology doesn't match the desired vcpu count")
          }
        }
        const current = Math.min(vcpu.current ?? vcpu.value, count)
        vcpu.value = count
        vcpu.current = current
      } else {
        if (count > vcpu.value) throw tooMany('persistent', count, vcpu.value)
        vcpu.current = count
      }
      if (vcpu.current === vcpu.value) delete vcpu.current
      domains.change(domain, definition)
    })
  }
  return {
    DOMAIN_SET_VCPUS: ({ dom, count }) => set(dom, count, IMPACT.LIVE),
    DOMAIN_SET_VCPUS_FLAGS({ dom, count, flags }) {
      checkFlags(flags, VCPU_FLAGS, 'virDomainSetVcpusFlags')
      return set(dom, count, flags)
    },
    DOMAIN_GET_VCPUS_FLAGS({ dom, flags }) {
      checkFlags(flags, VCPU_FLAGS, 'virDomainGetVcpusFlags')
      const definition = definitionFor(domains.of(dom), flags)
      refuseGuest(flags)
      const { vcpus, maxVcpus } = factsOf(definition)
      return { count: (flags & VCPU.MAXIMUM) !== 0 ? maxVcpus : vcpus }
    },
    async DOMAIN_GET_VCPUS({ dom, maxInfo, mapLength }) {
      const domain = domains.of(dom)
      if (!domain.isActive) throw invalid('cannot retrieve vcpu information for inactive domain')
      const threads = await vcpuThreads(domain)
      const info = threads.slice(0, Math.max(0, maxInfo))
      const map = anywhere(mapLength)
      return {
        info: info.map(({ number, time, cpu }) => ({ number, state: 1, cpuTime: time, cpu })),
        maps: Buffer.concat(info.map(() => map)),
      }
    },
    DOMAIN_GET_VCPU_PIN_INFO({ dom, count, mapLength, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetVcpuPinInfo')
      const { maxVcpus } = factsOf(definitionFor(domains.of(dom), flags))
      const pins = Array.from({ length: Math.max(0, Math.min(count, maxVcpus)) }, () =>
        anywhere(mapLength),
      )
      return { maps: Buffer.concat(pins), count: pins.length }
    },
    DOMAIN_GET_EMULATOR_PIN_INFO({ dom, mapLength, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetEmulatorPinInfo')
      definitionFor(domains.of(dom), flags)
      return { maps: anywhere(mapLength), result: 1 }
    },
    DOMAIN_GET_IOTHREAD_INFO({ dom, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetIOThreadInfo')
      // A definition that has any is not started.
      const { isLive } = impactOf(domains.of(dom), flags)
      const { iothreads = 0 } = isLive ? {} : domains.of(dom).definition!
      const info = Array.from({ length: iothreads }, (_, i) => ({ id: i + 1, map: anywhere(2048) }))
      return { info, count: info.length }
    },
  }
}

/** A thread may run on each processor of the host: nothing here is tied to some of them. */
function anywhere(bytes: number): Uint8Array {
  const map = new Uint8Array(Math.max(0, Math.min(bytes, 2048)))
  const most = presentCpus()
  for (const cpu of onlineCpus()) {
    if (cpu < most && cpu >> 3 < map.length) map[cpu >> 3]! |= 1 << (cpu & 7)
  }
  return map
}

function refuseGuest(flags: number): void {
  if ((flags & VCPU.GUEST) === 0) return
  throw new VirtError(
    ErrorCode.ARGUMENT_UNSUPPORTED,
    'argument unsupported: QEMU guest agent is not configured',
  )
}

function tooMany(which: string, count: number, most: number): VirtError {
  return wrong(
    `requested vcpus is greater than max allowable vcpus for the ${which} domain: ${count} > ${most}`,
  )
}

function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}
