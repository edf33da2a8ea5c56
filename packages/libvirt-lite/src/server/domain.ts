import { affinityOf } from '../driver/affinity.ts'
import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import { cpuTime, lastCpu, waits } from '../driver/process.ts'
import { State } from '../driver/states.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers } from '../rpc/index.ts'
import { denied } from '../rpc/server-connection.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'

/** Flags of `virDomainGetXMLDesc`. */
const XML = { SECURE: 1, INACTIVE: 2, UPDATE_CPU: 4, MIGRATABLE: 8 } as const
const XML_FLAGS = 15

/** Flag of `virDomainGetMessages`. */
const TAINTING = 2

/** Filters of `virConnectListAllDomains`: of each pair that is given, a domain has to be one. */
const FILTERS: readonly (readonly [number, (domain: Domain) => boolean])[][] = [
  [
    [1, (it) => it.isActive],
    [2, (it) => !it.isActive],
  ],
  [
    [4, (it) => it.isPersistent],
    [8, (it) => !it.isPersistent],
  ],
  [
    [16, (it) => it.state.state === State.RUNNING],
    [32, (it) => it.state.state === State.PAUSED],
    [64, (it) => it.state.state === State.SHUTOFF],
    [128, (it) => ![State.RUNNING, State.PAUSED, State.SHUTOFF].includes(it.state.state as 1)],
  ],
  // There are no images of a managed save.
  [
    [256, () => false],
    [512, () => true],
  ],
  [
    [1024, (it) => it.autostart],
    [2048, (it) => !it.autostart],
  ],
  // Nor snapshots, nor checkpoints.
  [
    [4096, () => false],
    [8192, () => true],
  ],
  [
    [16_384, () => false],
    [32_768, () => true],
  ],
]
/** All of them. */
export const FILTER_FLAGS = 0xffff

/** virDomainGetJobStatsFlags: of the last one that was completed, which stays or not. */
const JOB_COMPLETED = 3

/** Finding domains, and asking about them. */
export function domainHandlers({ domains }: ServerContext): Handlers {
  return {
    CONNECT_LIST_ALL_DOMAINS({ needResults, flags }) {
      checkFlags(flags, FILTER_FLAGS, 'virConnectListAllDomains')
      const found = filterDomains(domains.all(), flags)
      return { domains: needResults ? found.map(({ ref }) => ref) : [], count: found.length }
    },
    CONNECT_NUM_OF_DOMAINS: () => ({ count: domains.all().filter((it) => it.isActive).length }),
    CONNECT_LIST_DOMAINS({ max }) {
      const active = domains.all().filter((it) => it.isActive)
      return { ids: active.map(({ id }) => id).slice(0, Math.max(0, max)) }
    },
    CONNECT_NUM_OF_DEFINED_DOMAINS: () => ({
      count: domains.all().filter((it) => !it.isActive).length,
    }),
    CONNECT_LIST_DEFINED_DOMAINS({ max }) {
      const inactive = domains.all().filter((it) => !it.isActive)
      return { names: inactive.map(({ name }) => name).slice(0, Math.max(0, max)) }
    },
    DOMAIN_LOOKUP_BY_ID: ({ id }) => ({ dom: domains.byId(id).ref }),
    DOMAIN_LOOKUP_BY_NAME: ({ name }) => ({ dom: domains.byName(name).ref }),
    DOMAIN_LOOKUP_BY_UUID: ({ uuid }) => ({ dom: domains.byUuid(uuid).ref }),
    DOMAIN_GET_STATE({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainGetState')
      return domains.of(dom).state
    },
    DOMAIN_GET_INFO({ dom }) {
      const domain = domains.of(dom)
      const { memoryKib, currentMemoryKib, vcpus } = domain.facts
      return {
        state: domain.state.state,
        maxMemory: BigInt(memoryKib),
        memory: BigInt(domain.balloonKib ?? currentMemoryKib),
        vcpus,
        cpuTime: domain.isActive ? cpuTime(domain.machine.process.pid).total : 0n,
      }
    },
    DOMAIN_GET_XML_DESC({ dom, flags }, { connection }) {
      checkFlags(flags, XML_FLAGS, 'virDomainGetXMLDesc')
      const secure = (flags & XML.SECURE) !== 0
      if (secure && connection.isReadOnly) throw denied('DOMAIN_GET_XML_DESC')
      const inactive = (flags & XML.INACTIVE) !== 0
      const migratable = (flags & XML.MIGRATABLE) !== 0
      const domain = domains.of(dom)
      // It may be gone by then.
      const show = () => ({ xml: domains.of(dom).xml({ inactive, secure, migratable }) })
      const isWhole = inactive || migratable || !domain.isActive
      return isWhole ? show() : domain.look().then(show)
    },
    DOMAIN_GET_OS_TYPE: ({ dom }) => ({ type: domains.of(dom).facts.osType }),
    DOMAIN_GET_MAX_MEMORY: ({ dom }) => ({ memory: BigInt(domains.of(dom).facts.memoryKib) }),
    DOMAIN_GET_MAX_VCPUS({ dom }) {
      const { isActive, facts } = domains.of(dom)
      if (!isActive) throw invalid('domain is not running')
      return { count: facts.maxVcpus }
    },
    DOMAIN_IS_ACTIVE: ({ dom }) => ({ active: domains.of(dom).isActive }),
    DOMAIN_IS_PERSISTENT: ({ dom }) => ({ persistent: domains.of(dom).isPersistent }),
    DOMAIN_IS_UPDATED({ dom }) {
      const { isActive, isUpdated } = domains.of(dom)
      return { updated: isActive && isUpdated }
    },
    DOMAIN_GET_AUTOSTART: ({ dom }) => ({ autostart: domains.of(dom).autostart }),
    DOMAIN_GET_MESSAGES({ dom, flags }) {
      checkFlags(flags, 3, 'virDomainGetMessages')
      const { isTainted } = domains.of(dom)
      const taints = flags === 0 || (flags & TAINTING) !== 0
      const text = 'tainted: custom monitor control commands issued'
      return { messages: isTainted && taints ? [text] : [] }
    },
    DOMAIN_GET_SECURITY_LABEL({ dom }) {
      domains.of(dom)
      return { label: '', enforcing: 0 }
    },
    DOMAIN_HAS_MANAGED_SAVE_IMAGE({ dom }) {
      domains.of(dom)
      return { result: 0 }
    },
    DOMAIN_SNAPSHOT_NUM({ dom }) {
      domains.of(dom)
      return { count: 0 }
    },
    DOMAIN_LIST_ALL_SNAPSHOTS({ dom }) {
      domains.of(dom)
      return { snapshots: [], count: 0 }
    },
    DOMAIN_SNAPSHOT_LOOKUP_BY_NAME({ dom, name, flags }) {
      checkFlags(flags, 0, 'virDomainSnapshotLookupByName')
      domains.of(dom)
      throw new VirtError(
        ErrorCode.NO_DOMAIN_SNAPSHOT,
        `Domain snapshot not found: no domain snapshot with matching name '${name}'`,
      )
    },
    DOMAIN_HAS_CURRENT_SNAPSHOT({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainHasCurrentSnapshot')
      domains.of(dom)
      return { result: 0 }
    },
    DOMAIN_GET_CONTROL_INFO({ dom, flags }) {
      checkFlags(flags, 0, 'virDomainGetControlInfo')
      if (!domains.of(dom).isActive) throw invalid('domain is not running')
      return { state: 0, details: 0, stateTime: 0n }
    },
    DOMAIN_ABORT_JOB({ dom }) {
      if (!domains.of(dom).isActive) throw invalid('domain is not running')
      throw invalid('no job is active on the domain')
    },
    DOMAIN_GET_JOB_STATS({ dom, flags }) {
      checkFlags(flags, JOB_COMPLETED, 'virDomainGetJobStats')
      if ((flags & 1) === 0 && !domains.of(dom).isActive) throw invalid('domain is not running')
      // What takes long enough to be watched is not there.
      return { type: 0, params: [] }
    },
    DOMAIN_GET_JOB_INFO({ dom }) {
      if (!domains.of(dom).isActive) throw invalid('domain is not running')
      const none = 0n
      return {
        type: 0,
        timeElapsed: none,
        timeRemaining: none,
        dataTotal: none,
        dataProcessed: none,
        dataRemaining: none,
        memTotal: none,
        memProcessed: none,
        memRemaining: none,
        fileTotal: none,
        fileProcessed: none,
        fileRemaining: none,
      }
    },
  }
}

export function filterDomains(all: readonly Domain[], flags: number): Domain[] {
  return all.filter((domain) =>
    FILTERS.every((group) => {
      const asked = group.filter(([bit]) => (flags & bit) !== 0)
      return asked.length === 0 || asked.some(([, matches]) => matches(domain))
    }),
  )
}

export interface VcpuThread {
  number: number
  /** Nanoseconds. */
  time: bigint
  /** Processor that it was on last. */
  cpu: number
  /** Processors that it may be on. */
  allowed: number[]
  /** Nanoseconds that it waited for disks of the host, and for a processor. */
  wait: bigint
  delay: bigint
}

/** The threads of a running domain's vCPUs. */
export async function vcpuThreads(domain: Domain): Promise<VcpuThread[]> {
  const list = (await domain.machine.execute('query-cpus-fast')) as {
    'cpu-index': number
    'thread-id': number
  }[]
  const { pid } = domain.machine.process
  return list.map((cpu) => {
    const thread = cpu['thread-id']
    return {
      number: cpu['cpu-index'],
      time: cpuTime(pid, thread).total,
      cpu: lastCpu(pid, thread),
      allowed: affinityOf(pid, thread),
      ...waits(pid, thread),
    }
  })
}
