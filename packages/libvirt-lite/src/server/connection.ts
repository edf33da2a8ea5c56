import { hostname } from 'node:os'
import { cpuModelsOf, versionOf } from '../driver/emulator.ts'
import {
  cpuStats,
  freeBytes,
  hostInfo,
  memoryStats,
  onlineCpus,
  presentCpus,
} from '../driver/host.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Args, Handlers } from '../rpc/index.ts'
import { baselineCpu, readCpus } from '../driver/baseline-cpu.ts'
import { probe } from '../driver/probe.ts'
import { capabilitiesXml, domainCapabilitiesXml, kindOf } from './capabilities.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'

/** Features of the protocol that a client may ask for, and whether they are here. */
const FEATURES = new Set([
  // Typed parameters may be strings; keepalive; ids of event callbacks; close callbacks; network updates in order.
  9,
  10, 14, 15, 16,
])
/** Flag of CONNECT_OPEN: read only. */
const OPEN_RO = 1
/** Not to ask for credentials, which is never done here. */
const OPEN_NO_ALIASES = 2
/** The version of libvirt whose protocol is spoken: MAJOR * 1000000 + MINOR * 1000. */
const LIBVIRT_VERSION = 9_000_000n
const MAX_VCPUS = 255
/** Flags of `virConnectBaselineCPU`: list all features; leave out what cannot move, which no model here has. */
const BASELINE = { EXPAND: 1, MIGRATABLE: 2 } as const

export function connectionHandlers(context: ServerContext): Handlers {
  const baseline = async (
    name: string,
    { cpus, flags, ...asked }: Args<'CONNECT_BASELINE_HYPERVISOR_CPU'>,
  ): Promise<{ xml: string }> => {
    checkFlags(flags, BASELINE.EXPAND | BASELINE.MIGRATABLE, name)
    const described = readCpus(cpus)
    const { emulator, type } = await kindOf(context, asked)
    const expand = (flags & BASELINE.EXPAND) !== 0
    return {
      xml: await probe(emulator, type, (monitor) => baselineCpu(monitor, described, expand)),
    }
  }
  return {
    AUTH_LIST: () => ({ types: [0] }),
    CONNECT_SUPPORTS_FEATURE: ({ feature }) => ({ supported: FEATURES.has(feature) ? 1 : 0 }),
    CONNECT_OPEN({ uri, flags }) {
      checkFlags(flags, OPEN_RO | OPEN_NO_ALIASES, 'virConnectOpenAuth')
      if (uri === undefined || uri === '' || /^qemu:\/\/\/(system|session)$/.test(uri)) return
      throw new VirtError(
        ErrorCode.NO_CONNECT,
        `no connection driver available for ${uri}: open qemu:///system or qemu:///session`,
      )
    },
    CONNECT_CLOSE: () => undefined,
    CONNECT_REGISTER_CLOSE_CALLBACK: () => undefined,
    CONNECT_UNREGISTER_CLOSE_CALLBACK: () => undefined,
    CONNECT_GET_TYPE: () => ({ type: 'QEMU' }),
    CONNECT_GET_VERSION: async () => ({ version: await versionOf(context.emulator) }),
    CONNECT_GET_LIB_VERSION: () => ({ version: LIBVIRT_VERSION }),
    CONNECT_GET_HOSTNAME: () => ({ hostname: hostname() }),
    CONNECT_GET_URI: () => ({ uri: context.uri }),
    CONNECT_IS_SECURE: (_args, { connection }) => ({ secure: connection.isSecure }),
    CONNECT_GET_MAX_VCPUS: () => ({ count: MAX_VCPUS }),
    CONNECT_GET_CAPABILITIES: async () => ({ xml: await capabilitiesXml(context) }),
    CONNECT_GET_DOMAIN_CAPABILITIES: async ({ flags, ...asked }) => {
      checkFlags(flags, 0, 'virConnectGetDomainCapabilities')
      return { xml: await domainCapabilitiesXml(context, asked) }
    },
    CONNECT_BASELINE_CPU({ cpus, flags }) {
      const any = { emulator: undefined, arch: undefined, machine: undefined, type: undefined }
      return baseline('virConnectBaselineCPU', { ...any, cpus, flags })
    },
    CONNECT_BASELINE_HYPERVISOR_CPU: (args) => baseline('virConnectBaselineHypervisorCPU', args),
    async CONNECT_GET_CPU_MODEL_NAMES({ arch, needResults, flags }) {
      checkFlags(flags, 0, 'virConnectGetCPUModelNames')
      if (arch !== 'x86_64') {
        const text = `cannot find architecture ${arch}: only x86_64 is there`
        throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
      }
      const models = await cpuModelsOf(context.emulator)
      return { models: needResults ? models : [], count: models.length }
    },
    NODE_GET_INFO() {
      const { memoryKib, cpus, mhz, sockets, cores, threads } = hostInfo()
      return { model: 'x86_64', memory: memoryKib, cpus, mhz, nodes: 1, sockets, cores, threads }
    },
    NODE_GET_FREE_MEMORY: () => ({ bytes: freeBytes() }),
    NODE_GET_CPU_STATS({ cpu, max, flags }) {
      checkFlags(flags, 0, 'virNodeGetCPUStats')
      const stats = cpuStats(cpu)
      if (stats === undefined) {
        throw new VirtError(
          ErrorCode.INVALID_ARG,
          `invalid argument: Invalid cpuNum in virNodeGetCPUStats: ${cpu}`,
        )
      }
      return statList(stats, max)
    },
    NODE_GET_MEMORY_STATS({ max, flags }) {
      checkFlags(flags, 0, 'virNodeGetMemoryStats')
      return statList(memoryStats(), max)
    },
    NODE_GET_CPU_MAP({ needMap, flags }) {
      checkFlags(flags, 0, 'virNodeGetCPUMap')
      const count = presentCpus()
      const online = onlineCpus()
      const map = new Uint8Array(Math.ceil(count / 8))
      for (const cpu of online) map[cpu >> 3]! |= 1 << (cpu & 7)
      return { map: needMap ? map : new Uint8Array(0), online: online.length, count }
    },
    NODE_GET_SECURITY_MODEL: () => ({ model: 'none', doi: '0' }),
  }
}

/** A client asks with no room first, to learn how much there is. */
function statList(stats: Record<string, bigint>, max: number) {
  const list = Object.entries(stats).map(([field, value]) => ({ field, value }))
  return { stats: max === 0 ? [] : list.slice(0, max), count: list.length }
}
