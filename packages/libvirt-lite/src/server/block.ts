import { blocksOf, findBlock } from '../driver/blocks.ts'
import type { Block } from '../driver/blocks.ts'
import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers, TypedParam } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'

/** Flag that says that the client takes typed parameters that are strings. */
const STRING_OKAY = 4
/** Flag of `virDomainBlockResize`: bytes instead of KiB. */
const BYTES = 1

/** virDomainDiskErrorCode. */
const UNSPECIFIED = 1
const NO_SPACE = 2

/** libvirt's names of what is counted, in its order, and QEMU's. */
const COUNTERS = [
  ['wr_bytes', 'wr_bytes'],
  ['wr_operations', 'wr_operations'],
  ['rd_bytes', 'rd_bytes'],
  ['rd_operations', 'rd_operations'],
  ['flush_operations', 'flush_operations'],
  ['wr_total_times', 'wr_total_time_ns'],
  ['rd_total_times', 'rd_total_time_ns'],
  ['flush_total_times', 'flush_total_time_ns'],
] as const

/** Disks and cards of guests: what was done with them, and how large disks are. */
export function blockHandlers({ domains }: ServerContext): Handlers {
  return {
    async DOMAIN_BLOCK_STATS({ dom, path }) {
      const counters = await countersOf(domains.of(dom), path)
      const of = (name: string): bigint => BigInt(counters[name] ?? 0)
      return {
        readRequests: of('rd_operations'),
        readBytes: of('rd_bytes'),
        writeRequests: of('wr_operations'),
        writeBytes: of('wr_bytes'),
        // Not counted.
        errors: -1n,
      }
    },
    async DOMAIN_BLOCK_STATS_FLAGS({ dom, path, max, flags }) {
      checkFlags(flags, STRING_OKAY, 'virDomainBlockStatsFlags')
      const counters = await countersOf(domains.of(dom), path)
      const params = COUNTERS.flatMap(([field, key]): TypedParam[] => {
        const value = counters[key]
        return value === undefined ? [] : [{ field, type: 'llong', value: BigInt(value) }]
      })
      // Without room a client asks how much it needs.
      if (max === 0) return { params: [], count: params.length }
      return { params: params.slice(0, max), count: 0 }
    },
    async DOMAIN_GET_BLOCK_INFO({ dom, path, flags }) {
      checkFlags(flags, 0, 'virDomainGetBlockInfo')
      if (path === '') throw wrong('NULL or empty path')
      const block = findBlock(await blocksOf(domains.of(dom)), path)
      if (block === undefined) throw wrong(`invalid path ${path} not assigned to domain`)
      if (block.path === undefined)
        throw wrong(`disk '${path}' does not currently have a source assigned`)
      if (block.capacity === undefined) {
        const text = `cannot stat file '${block.path}': it is no image that can be read`
        throw new VirtError(ErrorCode.SYSTEM_ERROR, text)
      }
      const { capacity, allocation = 0, physical = capacity } = block
      return {
        allocation: BigInt(allocation),
        capacity: BigInt(capacity),
        physical: BigInt(physical),
      }
    },
    async DOMAIN_BLOCK_RESIZE({ dom, path, size, flags }) {
      checkFlags(flags, BYTES, 'virDomainBlockResize')
      const domain = domains.of(dom)
      await domain.exclusively(async () => {
        if (!domain.isActive) throw invalid('domain is not running')
        const bytes = Number((flags & BYTES) === 0 ? size * 1024n : size)
        if (!Number.isSafeInteger(bytes)) throw wrong(`size ${size}: it is at most 2^53 - 1 bytes`)
        const block = findBlock(await blocksOf(domain), path)
        if (block === undefined) throw wrong(`invalid path '${path}' not assigned to domain`)
        await resize(domain, block, bytes)
      })
    },
    async DOMAIN_GET_DISK_ERRORS({ dom, max, flags }) {
      checkFlags(flags, 0, 'virDomainGetDiskErrors')
      const domain = domains.of(dom)
      if (!domain.isActive) throw invalid('domain is not running')
      const blocks = await blocksOf(domain)
      const errors = blocks.flatMap(({ target, status }) =>
        status === 'failed' || status === 'nospace'
          ? [{ disk: target, error: status === 'nospace' ? NO_SPACE : UNSPECIFIED }]
          : [],
      )
      // Without room a client asks how much it needs.
      if (max === 0) return { errors: [], count: blocks.length }
      return { errors: errors.slice(0, max), count: Math.min(errors.length, max) }
    },
    DOMAIN_INTERFACE_STATS({ dom, device }) {
      const domain = domains.of(dom)
      if (!domain.isActive) throw invalid('domain is not running')
      const card = domain.facts.interfaces.find(
        ({ mac, target }) => mac === device.toLowerCase() || target === device,
      )
      if (card === undefined) throw wrong(`'${device}' is not a known interface`)
      // As in libvirt: who counts is an interface of the host, and a network in user mode has none.
      throw new VirtError(ErrorCode.INTERNAL_ERROR, 'internal error: Interface name not provided')
    },
  }
}

/** The counters of a disk, or the sums of all for an empty name. @throws VirtError */
async function countersOf(domain: Domain, path: string): Promise<Readonly<Record<string, number>>> {
  if (!domain.isActive) throw invalid('domain is not running')
  const blocks = await blocksOf(domain)
  const found = path === '' ? undefined : findBlock(blocks, path)
  if (path !== '' && found === undefined) throw wrong(`invalid path: ${path}`)
  const sums: Record<string, number> = {}
  for (const { counters = {} } of found === undefined ? blocks : [found]) {
    for (const [, key] of COUNTERS) {
      const value = counters[key]
      if (value !== undefined) sums[key] = (sums[key] ?? 0) + value
    }
  }
  return sums
}

/** A drive of the command line is named as a device, one that was plugged in as a node. */
async function resize(domain: Domain, { alias }: Block, size: number): Promise<void> {
  const name = `drive-${alias}`
  try {
    await domain.machine.execute('block_resize', { device: name, size })
  } catch (error) {
    const { message } = error as Error
    if (!message.includes('Cannot find device')) throw error
    await domain.machine.execute('block_resize', { 'node-name': name, size })
  }
}

function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}
