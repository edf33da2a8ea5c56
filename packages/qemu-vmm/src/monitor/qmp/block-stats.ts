import type { BlockOperation, BlockStats } from '../../block/accounting.ts'
import { blockDevices } from './block-devices.ts'
import type { QmpCommand } from './command.ts'
import { bool, int, listOf, oneOf, str, struct } from './types.ts'

/** The kinds of requests, in the words of QEMU. */
const KINDS: readonly (readonly [string, BlockOperation])[] = [
  ['rd', 'read'],
  ['wr', 'write'],
  ['flush', 'flush'],
  ['unmap', 'unmap'],
]

const STATS = struct({
  ...Object.fromEntries(Object.keys(numbers(zero())).map((name) => [name, int])),
  account_invalid: bool,
  account_failed: bool,
  // Statistics over intervals, of which nobody can ask for any.
  timed_stats: listOf(oneOf([])),
  'idle_time_ns?': int,
})

/** `query-blockstats`: what devices have asked of their drives. */
export const BLOCK_STATS: QmpCommand = {
  name: 'query-blockstats',
  args: struct({ 'query-nodes?': bool }),
  returns: listOf(struct({ 'device?': str, 'qdev?': str, 'node-name?': str, stats: STATS })),
  run: async ({ machine }, { 'query-nodes': nodes = false }) => {
    if (nodes === true) {
      const drives = await machine.drives()
      // Requests are counted between a device and its drive; no node is anywhere else here.
      return drives.map(({ id, stats }) => ({ stats: formatStats(stats), 'node-name': id }))
    }
    return (await blockDevices(machine)).map(({ backend: { name, node, qdev, stats } }) => ({
      device: name,
      stats: formatStats(stats),
      ...(node === undefined ? {} : { 'node-name': node }),
      ...(qdev === undefined ? {} : { qdev }),
    }))
  },
}

/** The counters by QEMU's names. */
export function formatStats(stats: BlockStats): Record<string, unknown> {
  return {
    ...numbers(stats),
    account_invalid: true,
    account_failed: true,
    timed_stats: [],
    ...(stats.idleNs === undefined ? {} : { idle_time_ns: Math.round(stats.idleNs) }),
  }
}

function numbers(stats: BlockStats): Record<string, number> {
  const found: Record<string, number> = { wr_highest_offset: stats.highestWrite }
  for (const [name, kind] of KINDS) {
    const { operations, bytes, timeNs, failed, invalid } = stats[kind]
    found[`${name}_operations`] = operations
    found[`${name}_total_time_ns`] = Math.round(timeNs)
    found[`failed_${name}_operations`] = failed
    found[`invalid_${name}_operations`] = invalid
    if (kind === 'flush') continue
    found[`${name}_bytes`] = bytes
    // Requests go to the image as the guest sends them.
    found[`${name}_merged`] = 0
  }
  return found
}

function zero(): BlockStats {
  const none = { operations: 0, bytes: 0, timeNs: 0, failed: 0, invalid: 0 }
  return { read: none, write: none, flush: none, unmap: none, highestWrite: 0 }
}
