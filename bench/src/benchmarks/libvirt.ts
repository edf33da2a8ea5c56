// The daemon of libvirt-lite beside libvirt's own: many definitions, the start of a domain, statistics of many guests.
import type { Effort, Results } from '../lib/benchmark.ts'
import { hasPeerDaemon, hasVirsh } from '../lib/libvirt-daemon.ts'
import { measureDefinitions } from '../libvirt/definitions.ts'
import { measureStart } from '../libvirt/start.ts'
import { measureStatistics } from '../libvirt/statistics.ts'

/** Parts that `--items` chooses from. */
const parts: Record<string, (effort: Effort, hasPeer: boolean) => Promise<Results>> = {
  define: measureDefinitions,
  start: measureStart,
  domstats: measureStatistics,
}

export const name = 'libvirt'

export async function run(effort: Effort): Promise<Results> {
  const { items = [] } = effort
  const unknown = items.find((item) => !(item in parts))
  if (unknown !== undefined) {
    throw new RangeError(`no item ${unknown}: there are ${Object.keys(parts).join(', ')}`)
  }
  if (!hasVirsh()) throw new Error('virsh is missing: on Debian it is in libvirt-clients')
  const hasPeer = hasPeerDaemon()
  const results: Results = {}
  for (const [item, measure] of Object.entries(parts)) {
    if (items.length > 0 && !items.includes(item)) continue
    Object.assign(results, await measure(effort, hasPeer))
  }
  return results
}
