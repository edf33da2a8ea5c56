import { findOwnGroup } from '../driver/control-groups/find.ts'
import { note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'

/** Whether limits of definitions can be kept, by a daemon that is started where this process was. */
export function examineControlGroups({ root }: Host, pid: number = process.pid): Finding {
  const found = findOwnGroup({ root, pid })
  if ('reason' in found) {
    const text = `limits of domains (<cputune>, <memtune>, <blkiotune>) cannot be kept: ${found.reason}`
    return note('control groups', text, found.remedy)
  }
  const text = `${[...found.controllers].join(', ')} of domains can be limited, below '${found.path}'`
  return ok('control groups', text)
}
