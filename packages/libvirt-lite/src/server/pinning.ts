import {
  cpusIn,
  emulatorPin,
  listOfMap,
  vcpuPin,
  withEmulatorPin,
  withVcpuPin,
} from '../domain/index.ts'
import { pinEmulator, pinVcpu } from '../driver/affinity.ts'
import type { Domain } from '../driver/domain.ts'
import { onlineCpus, presentCpus } from '../driver/host.ts'
import { factsOf } from '../driver/model.ts'
import type { DomainDefinition } from '../driver/model.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT, IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'
import { wrong } from './vcpu-counts.ts'

/** Which processors of the host domains run on: `virsh vcpupin`, `emulatorpin`. */
export function pinningHandlers({ domains }: ServerContext): Handlers {
  const listIn = (map: Uint8Array): string => {
    const list = listOfMap(map)
    if (list === '') throw wrong('Empty cpu list for pinning')
    return list
  }
  const change = async (
    domain: Domain,
    { isLive, isConfig }: { isLive: boolean; isConfig: boolean },
    pin: () => Promise<void>,
    {
      field,
      list,
      changed,
    }: { field: string; list: string; changed: (def: DomainDefinition) => unknown },
  ): Promise<void> => {
    if (isLive) {
      await pin()
      domain.running(changed(domain.live!) as DomainDefinition)
      domain.tell({ kind: 'tunable', field: `cputune.${field}`, value: list })
    }
    if (isConfig) domains.change(domain, changed(domain.definition!) as DomainDefinition)
  }
  const pinOne = async (
    dom: DomainRef,
    vcpu: number,
    map: Uint8Array,
    flags: number,
  ): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const impact = impactOf(domain, flags)
      const list = listIn(map)
      for (const kind of ['live', 'persistent'] as const) {
        if (!(kind === 'live' ? impact.isLive : impact.isConfig)) continue
        const { maxVcpus } = factsOf((kind === 'live' ? domain.live : domain.definition)!)
        if (vcpu >= maxVcpus) {
          throw wrong(`vcpu ${vcpu} is out of range of ${kind} cpu count ${maxVcpus}`)
        }
      }
      await change(domain, impact, () => pinVcpu(domain.machine, vcpu, list), {
        field: `vcpupin${vcpu}`,
        list,
        changed: (def) => withVcpuPin(def, vcpu, list),
      })
    })
  }
  return {
    DOMAIN_PIN_VCPU: ({ dom, vcpu, cpumap }) => pinOne(dom, vcpu, cpumap, IMPACT.LIVE),
    DOMAIN_PIN_VCPU_FLAGS({ dom, vcpu, cpumap, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainPinVcpuFlags')
      return pinOne(dom, vcpu, cpumap, flags)
    },
    async DOMAIN_PIN_EMULATOR({ dom, cpumap, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainPinEmulator')
      const domain = domains.of(dom)
      await domain.exclusively(async () => {
        const impact = impactOf(domain, flags)
        const list = listIn(cpumap)
        await change(domain, impact, () => pinEmulator(domain.machine, list), {
          field: 'emulatorpin',
          list,
          changed: (def) => withEmulatorPin(def, list),
        })
      })
    },
    DOMAIN_GET_VCPU_PIN_INFO({ dom, count, mapLength, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetVcpuPinInfo')
      const def = definitionFor(domains.of(dom), flags)
      const { maxVcpus } = factsOf(def)
      const pins = Array.from({ length: Math.max(0, Math.min(count, maxVcpus)) }, (_, id) =>
        mapOfList(vcpuPin(def, id), mapLength),
      )
      return { maps: Buffer.concat(pins), count: pins.length }
    },
    DOMAIN_GET_EMULATOR_PIN_INFO({ dom, mapLength, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetEmulatorPinInfo')
      const def = definitionFor(domains.of(dom), flags)
      return { maps: mapOfList(emulatorPin(def), mapLength), result: 1 }
    },
    DOMAIN_GET_IOTHREAD_INFO({ dom, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetIOThreadInfo')
      // A definition that has any is not started.
      const { isLive } = impactOf(domains.of(dom), flags)
      const { iothreads = 0 } = isLive ? {} : domains.of(dom).definition!
      const map = mapOf(onlineCpus(), 2048)
      const info = Array.from({ length: iothreads }, (_, i) => ({ id: i + 1, map }))
      return { info, count: info.length }
    },
  }
}

/** What a list says; without one it is all processors of the host. */
const mapOfList = (list: string | undefined, bytes: number): Uint8Array =>
  mapOf(list === undefined ? onlineCpus() : cpusIn(list), bytes)

/** Bits of processors that the host has, as far as there is room. */
export function mapOf(cpus: readonly number[], bytes: number): Uint8Array {
  const map = new Uint8Array(Math.max(0, Math.min(bytes, 2048)))
  const most = presentCpus()
  for (const cpu of cpus) {
    if (cpu < most && cpu >> 3 < map.length) map[cpu >> 3]! |= 1 << (cpu & 7)
  }
  return map
}
