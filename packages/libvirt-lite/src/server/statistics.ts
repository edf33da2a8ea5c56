import { blocksOf } from '../driver/blocks.ts'
import type { Domain } from '../driver/domain.ts'
import { cpuTime, residentKib } from '../driver/process.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers, TypedParam } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { balloonStats } from './memory.ts'
import { FILTER_FLAGS, filterDomains, vcpuThreads } from './domain.ts'

/** Groups of `virDomainStatsTypes`. */
const GROUP = { STATE: 1, CPU: 2, BALLOON: 4, VCPU: 8, INTERFACE: 16, BLOCK: 32 } as const
const GROUPS = 63
/** Flags beside the filters of a list: not to wait for busy domains, which is never done; whole chains of images. */
const NOWAIT = 0x2000_0000
const BACKING = 0x4000_0000
/** To refuse groups that there are none of, instead of leaving them out. */
const ENFORCE = 0x8000_0000
/** Domains of one call. */
const MOST = 16_384

const int = (field: string, value: number): TypedParam => ({ field, type: 'int', value })
const uint = (field: string, value: number): TypedParam => ({ field, type: 'uint', value })
const ullong = (field: string, value: bigint | number): TypedParam => ({
  field,
  type: 'ullong',
  value: BigInt(value),
})
const string = (field: string, value: string): TypedParam => ({ field, type: 'string', value })

/** Names of what a guest says of its memory, by virDomainMemoryStatTags; what it has is told already. */
const BALLOON: Readonly<Record<number, string>> = {
  0: 'swap_in',
  1: 'swap_out',
  2: 'major_fault',
  3: 'minor_fault',
  4: 'unused',
  5: 'available',
  8: 'usable',
  9: 'last-update',
  10: 'disk_caches',
  11: 'hugetlb_pgalloc',
  12: 'hugetlb_pgfail',
}

/** Statistics of many domains at once. */
export function statisticsHandlers({ domains }: ServerContext): Handlers {
  return {
    async CONNECT_GET_ALL_DOMAIN_STATS({ domains: named, stats, flags }) {
      // The highest bit makes the number negative for bitwise operators.
      checkFlags(flags, FILTER_FLAGS | NOWAIT | BACKING | ENFORCE, 'virConnectGetAllDomainStats')
      const unknown = (stats & ~GROUPS) >>> 0
      if ((flags & ENFORCE) !== 0 && unknown !== 0) {
        const text = `Stats types bits 0x${unknown.toString(16)} are not supported by this daemon`
        throw new VirtError(ErrorCode.ARGUMENT_UNSUPPORTED, `argument unsupported: ${text}`)
      }
      const all =
        named.length === 0 ? domains.all() : named.map((dom: DomainRef) => domains.of(dom))
      const chosen = filterDomains(all, flags & FILTER_FLAGS).slice(0, MOST)
      const groups = stats === 0 ? GROUPS : stats
      const records = chosen.map(async (domain) => ({
        dom: domain.ref,
        params: await statsOf(domain, groups),
      }))
      return { records: await Promise.all(records) }
    },
  }
}

async function statsOf(domain: Domain, groups: number): Promise<TypedParam[]> {
  const params: TypedParam[] = []
  const has = (group: number): boolean => (groups & group) !== 0
  const { state, reason } = domain.state
  if (has(GROUP.STATE)) params.push(int('state.state', state), int('state.reason', reason))
  const { facts } = domain
  const pid = domain.isActive ? domain.machine.process.pid : undefined
  if (has(GROUP.CPU) && pid !== undefined) {
    const { total, user, system } = cpuTime(pid)
    params.push(ullong('cpu.time', total), ullong('cpu.user', user), ullong('cpu.system', system))
  }
  if (has(GROUP.BALLOON)) {
    params.push(
      ullong('balloon.current', domain.balloonKib ?? facts.currentMemoryKib),
      ullong('balloon.maximum', facts.memoryKib),
    )
    if (pid !== undefined) {
      for (const { tag, value } of await balloonStats(domain)) {
        const name = BALLOON[tag]
        if (name !== undefined) params.push(ullong(`balloon.${name}`, value))
      }
      params.push(ullong('balloon.rss', residentKib(pid)))
    }
  }
  if (has(GROUP.VCPU)) params.push(...(await vcpuStats(domain)))
  if (has(GROUP.INTERFACE)) params.push(uint('net.count', facts.interfaces.length))
  if (has(GROUP.BLOCK)) params.push(...(await blockStats(domain)))
  return params
}

async function vcpuStats(domain: Domain): Promise<TypedParam[]> {
  const { vcpus, maxVcpus } = domain.facts
  const params = [uint('vcpu.current', vcpus), uint('vcpu.maximum', maxVcpus)]
  const threads = domain.isActive ? await vcpuThreads(domain).catch(() => []) : []
  for (const { number, time, wait, delay } of threads) {
    // State 1 is running.
    params.push(int(`vcpu.${number}.state`, 1), ullong(`vcpu.${number}.time`, time))
    params.push(ullong(`vcpu.${number}.wait`, wait), ullong(`vcpu.${number}.delay`, delay))
  }
  return params
}

/** libvirt's names of what is counted, and QEMU's. */
const COUNTERS = [
  ['rd.reqs', 'rd_operations'],
  ['rd.bytes', 'rd_bytes'],
  ['rd.times', 'rd_total_time_ns'],
  ['wr.reqs', 'wr_operations'],
  ['wr.bytes', 'wr_bytes'],
  ['wr.times', 'wr_total_time_ns'],
  ['fl.reqs', 'flush_operations'],
  ['fl.times', 'flush_total_time_ns'],
] as const

async function blockStats(domain: Domain): Promise<TypedParam[]> {
  const blocks = await blocksOf(domain)
  const params = [uint('block.count', blocks.length)]
  for (const [index, block] of blocks.entries()) {
    const name = `block.${index}`
    params.push(string(`${name}.name`, block.target))
    if (block.path !== undefined) params.push(string(`${name}.path`, block.path))
    if (block.index !== undefined) params.push(uint(`${name}.backingIndex`, block.index))
    for (const [field, key] of COUNTERS) {
      const value = block.counters?.[key]
      if (value !== undefined) params.push(ullong(`${name}.${field}`, value))
    }
    if (block.path === undefined) continue
    for (const field of ['allocation', 'capacity', 'physical'] as const) {
      // Of a running domain, how far it has written.
      const written = field === 'allocation' ? block.counters?.['wr_highest_offset'] : undefined
      const value = written ?? block[field]
      if (value !== undefined) params.push(ullong(`${name}.${field}`, value))
    }
  }
  return params
}
