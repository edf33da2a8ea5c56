import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

// Control groups of version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html

/** A part of the hierarchy that is ours to divide. */
export interface Delegated {
  /** Folder of the group. */
  path: string
  /** What it can limit: `cpu`, `memory`, `io`. */
  controllers: ReadonlySet<string>
}

/** Why there is none. */
export interface NotDelegated {
  reason: string
  remedy: string
}

/** What the limits of definitions need. */
export const CONTROLLERS = ['cpu', 'memory', 'io'] as const

/** Where the daemon itself is: a group that is divided has no processes of its own. */
export const OWN_GROUP = 'daemon'

const REMEDY =
  'run the daemon in a control group of its own, for example with systemd-run --user -p Delegate=yes libvirt-lite …, or name one with --cgroup'

/** Where to look: what the paths of the system are below (empty, unless for tests), and whose group it is to be. */
export interface Whose {
  root: string
  pid: number
}

/** Finds the group that a process is in, if nobody else's processes are in it. Changes nothing. */
export function findOwnGroup({ root, pid }: Whose): Delegated | NotDelegated {
  const mounts = lines(join(root, '/proc/self/mountinfo')).flatMap((line) => {
    const [before, after] = line.split(' - ')
    if (!after?.startsWith('cgroup2 ')) return []
    const [, , , from = '/', to = ''] = before!.split(' ')
    return [{ from, to: unescaped(to) }]
  })
  const [mount] = mounts
  if (mount === undefined) {
    return {
      reason: 'the host has no control groups of version 2',
      remedy: 'start the host with systemd.unified_cgroup_hierarchy=1',
    }
  }
  const own = /^0::(\/.*)$/m.exec(lines(join(root, '/proc/self/cgroup')).join('\n'))?.[1] ?? '/'
  const below = mount.from === '/' ? own : own.slice(mount.from.length)
  const path = join(root, mount.to, below)
  if (basename(path) === OWN_GROUP) {
    // It was started where it would go: what is to be divided is around it.
    const around = examineGroup(dirname(path), pid)
    if (!('reason' in around)) return around
  }
  return examineGroup(path, pid)
}

/** Whether a group can be divided. */
export function examineGroup(path: string, pid: number): Delegated | NotDelegated {
  if (!existsSync(join(path, 'cgroup.controllers'))) {
    return { reason: `'${path}' is no control group of version 2`, remedy: REMEDY }
  }
  const there = new Set(words(join(path, 'cgroup.controllers')))
  const controllers = new Set(CONTROLLERS.filter((name) => there.has(name)))
  if (controllers.size === 0) {
    const reason = `the control group '${path}' has none of ${CONTROLLERS.join(', ')}`
    return {
      reason,
      remedy: `have them delegated to it (systemd: Delegate=${CONTROLLERS.join(' ')})`,
    }
  }
  for (const file of ['.', 'cgroup.procs', 'cgroup.subtree_control']) {
    if (!isWritable(join(path, file))) {
      return { reason: `the control group '${path}' is not delegated to this user`, remedy: REMEDY }
    }
  }
  // Only the hierarchy's own root has no type; it may have processes beside groups.
  const isRoot = !existsSync(join(path, 'cgroup.type'))
  const others = words(join(path, 'cgroup.procs')).filter((other) => Number(other) !== pid)
  if (!isRoot && others.length > 0) {
    const reason = `the control group '${path}' is not the daemon's alone: process ${others[0]} is in it`
    return { reason, remedy: REMEDY }
  }
  return { path, controllers }
}

function lines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n')
  } catch {
    return []
  }
}

const words = (path: string): string[] =>
  lines(path)
    .join(' ')
    .split(/\s+/)
    .filter((word) => word !== '')

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Spaces and the like are octal in this file. */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
