import type { Domain } from '../domain.ts'
import type { Machine } from '../machine.ts'
import type { ControlGroups, VcpuThreadId } from './groups.ts'
import { limitsOf, withLimits } from './limits.ts'
import type { Limits } from './limits.ts'

/** Has the vCPUs of a running domain limited. Rejects with `VirtError` */
export async function limitVcpus(
  groups: ControlGroups,
  machine: Machine,
  before: Limits,
  after: Limits,
): Promise<void> {
  if (machine.group === undefined) return
  if (before.quota === after.quota && before.period === after.period) return
  groups.limitVcpus(machine.group, before, after, await threadsOf(machine))
}

/** Changes the limits of a running domain. Rejects with `VirtError` */
export async function changeLimits(
  groups: ControlGroups,
  domain: Domain,
  limits: Limits,
): Promise<void> {
  const { machine } = domain
  const before = limitsOf(domain.live!)
  groups.change(machine.group, before, limits)
  await limitVcpus(groups, machine, before, limits)
  domain.running(withLimits(domain.live!, limits))
}

/** Threads of the vCPUs; ours has none before the first instruction, and names its process then. Rejects with `VirtError` */
export async function threadsOf(machine: Machine): Promise<VcpuThreadId[]> {
  const list = (await machine.execute('query-cpus-fast')) as {
    'cpu-index': number
    'thread-id': number
  }[]
  return list
    .filter((cpu) => cpu['thread-id'] !== machine.process.pid)
    .map((cpu) => ({ number: cpu['cpu-index'], tid: cpu['thread-id'] }))
}
