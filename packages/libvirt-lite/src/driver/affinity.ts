import { execFile } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { cpusIn, emulatorPin, vcpuPin } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { limitVcpus, threadsOf } from './control-groups/domain-limits.ts'
import type { ControlGroups } from './control-groups/groups.ts'
import { limitsOf } from './control-groups/limits.ts'
import type { Machine } from './machine.ts'
import type { DomainDefinition } from './model.ts'

// Node.js has no call for it: `taskset` of util-linux, which distributions are never without, ties threads to processors.

/** Processors that a thread may run on. */
export function affinityOf(pid: number, thread: number): number[] {
  try {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')
    return cpusIn(/^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '0')
  } catch {
    return []
  }
}

/** Has the threads of a running domain where its definition says. Rejects with `VirtError` */
export async function pinDomain(machine: Machine, def: DomainDefinition): Promise<void> {
  const isPinned = emulatorPin(def) !== undefined || def.cputune?.vcpupins !== undefined
  if (!isPinned) return
  const emulator = emulatorPin(def)
  if (emulator !== undefined) await pinEmulator(machine, emulator)
  await pinVcpus(machine, def)
}

/** Has all vCPUs where the definition says, as those have to be that came later. Rejects with `VirtError` */
async function pinVcpus(machine: Machine, def: DomainDefinition): Promise<void> {
  if (def.vcpu?.cpuset === undefined && def.cputune?.vcpupins === undefined) return
  for (const { number, tid } of await threadsOf(machine)) {
    const list = vcpuPin(def, number)
    if (list !== undefined) await pin(machine.process.pid, tid, list)
  }
}

/** Has the threads of all vCPUs limited, and where they may run. Rejects with `VirtError` */
export async function placeVcpus(
  groups: ControlGroups,
  machine: Machine,
  def: DomainDefinition,
): Promise<void> {
  await limitVcpus(groups, machine, {}, limitsOf(def))
  await pinVcpus(machine, def)
}

/** Ties one vCPU to processors; one that is not there is left for when it comes. Rejects with `VirtError` */
export async function pinVcpu(machine: Machine, id: number, list: string): Promise<void> {
  const thread = (await threadsOf(machine)).find(({ number }) => number === id)
  if (thread !== undefined) await pin(machine.process.pid, thread.tid, list)
}

/** Ties all that is no vCPU. What starts later begins where its parent is. Rejects with `VirtError` */
export async function pinEmulator(machine: Machine, list: string): Promise<void> {
  const { pid } = machine.process
  const vcpus = new Set((await threadsOf(machine)).map(({ tid }) => tid))
  const others = readdirSync(`/proc/${pid}/task`).map(Number)
  for (const tid of others.filter((thread) => !vcpus.has(thread))) await pin(pid, tid, list)
}

function pin(pid: number, thread: number, list: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(
      'taskset',
      ['-p', '-c', list, `${thread}`],
      { env: { LC_ALL: 'C', PATH: process.env['PATH'] } },
      (error, _out, stderr) => {
        // A thread may have ended meanwhile.
        if (error === null || !existsSync(`/proc/${pid}/task/${thread}`)) resolve()
        else if (error.code === 'ENOENT') {
          const text = 'cannot set CPU affinity: there is no taskset; install util-linux'
          reject(new VirtError(ErrorCode.OPERATION_UNSUPPORTED, `Operation not supported: ${text}`))
        } else {
          const reason = stderr.trim().split(': ').at(-1) ?? error.message
          const text = `cannot set CPU affinity on process ${thread}: ${reason}`
          reject(new VirtError(ErrorCode.SYSTEM_ERROR, text))
        }
      },
    )
  })
}
