import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ErrorCode, VirtError } from '../../rpc/index.ts'
import { CONTROLLERS, OWN_GROUP, examineGroup, findOwnGroup } from './find.ts'
import type { Delegated, NotDelegated } from './find.ts'
import { KINDS, changedFiles, checkLimits, timeOf } from './limits.ts'
import type { Controller, Limits } from './limits.ts'

const DOMAIN = /^domain-[\da-f-]{36}-\d+$/
/** Threads of a process that has ended may take a while to be gone. */
const REMOVE_MS = 100
const REMOVE_TRIES = 100

/** A vCPU's thread, by its number. */
export interface VcpuThreadId {
  number: number
  tid: number
}

/** How the kernel is told of groups; each throws the system's error. */
export interface GroupFiles {
  make(folder: string): void
  remove(folder: string): void
  write(file: string, value: string): void
}

const kernel: GroupFiles = { make: mkdirSync, remove: rmdirSync, write: writeFileSync }

/** The control groups of domains, where the daemon has a group that it may divide. */
export class ControlGroups {
  /** Why there are none. */
  readonly missing: NotDelegated | undefined
  readonly #path: string
  /** What groups of domains can limit. */
  readonly #controllers: ReadonlySet<string>

  readonly #files: GroupFiles
  /** How many there were. */
  #made = 0

  private constructor(
    path: string,
    controllers: ReadonlySet<string>,
    files: GroupFiles,
    missing?: NotDelegated,
  ) {
    this.#path = path
    this.#controllers = controllers
    this.#files = files
    this.missing = missing
  }

  /**
   * Takes the group that the daemon is in, or one that it is given; `false` leaves groups alone. What keeps it from that is
   * told by {@link missing}.
   */
  static open(given?: string | false, files: GroupFiles = kernel): ControlGroups {
    const none = (missing: NotDelegated): ControlGroups =>
      new ControlGroups('', new Set(), files, missing)
    if (given === false) {
      return none({ reason: 'control groups are turned off', remedy: 'leave them on' })
    }
    const { pid } = process
    const found = given === undefined ? findOwnGroup({ root: '', pid }) : examineGroup(given, pid)
    if ('reason' in found) return none(found)
    try {
      return new ControlGroups(found.path, divide(found, files), files)
    } catch (error) {
      const reason = `the control group '${found.path}' cannot be divided: ${(error as Error).message}`
      return none({ reason, remedy: 'have it delegated (systemd: Delegate=yes)' })
    }
  }

  /** What a kind of limits lacks. */
  lacks(kind: Controller): NotDelegated | undefined {
    if (this.missing !== undefined || this.#controllers.has(kind)) return this.missing
    const reason = `the control group '${this.#path}' has no controller "${kind}"`
    return { reason, remedy: `have it delegated (systemd: Delegate=${kind})` }
  }

  /**
   * Makes the group of a domain.
   *
   * @returns its folder; undefined when there are no groups, and no limits that would need one
   * @throws VirtError for limits that cannot be kept
   */
  make(uuid: string, limits: Limits): string | undefined {
    checkLimits(limits)
    for (const { controller, element, name, limits: names } of Object.values(KINDS)) {
      const lack = this.lacks(controller)
      const asked = names.some((limit) => limits[limit] !== undefined)
      if (lack === undefined || !asked) continue
      throw new VirtError(
        ErrorCode.CONFIG_UNSUPPORTED,
        `unsupported configuration: ${name} is not available: ${lack.reason}: ${lack.remedy}, or remove <${element}>`,
      )
    }
    if (this.missing !== undefined) return undefined
    // That of the run before may still be there.
    let path: string
    do path = join(this.#path, `domain-${uuid}-${++this.#made}`)
    while (existsSync(path))
    try {
      this.#try(() => {
        this.#files.make(path)
        this.#write(path, {}, limits)
      })
      return path
    } catch (error) {
      this.remove(path)
      throw error
    }
  }

  /** Changes limits of a group, but for those of vCPUs. @throws VirtError */
  change(path: string | undefined, before: Limits, after: Limits): void {
    checkLimits(after)
    if (path === undefined) {
      throw new VirtError(
        ErrorCode.OPERATION_INVALID,
        'Requested operation is not valid: the domain was started without a control group: start it again',
      )
    }
    this.#try(() => this.#write(path, before, after))
  }

  /** Gives each vCPU a group of its own, where its time is limited. @throws VirtError */
  limitVcpus(path: string, before: Limits, after: Limits, threads: readonly VcpuThreadId[]): void {
    this.#try(() => this.#limitVcpus(path, before, after, threads))
  }

  #limitVcpus(path: string, before: Limits, after: Limits, threads: readonly VcpuThreadId[]): void {
    const value = timeOf(after.quota, after.period)
    // Groups of threads cost the kernel something: they are made when there is something to limit.
    if (value === timeOf(before.quota, before.period)) return
    for (const { number, tid } of threads) {
      const group = join(path, `vcpu${number}`)
      if (!existsSync(group)) {
        this.#files.make(group)
        this.#files.write(join(group, 'cgroup.type'), 'threaded')
        this.#files.write(join(path, 'cgroup.subtree_control'), '+cpu')
      }
      // A processor that was plugged out and in again may have another thread.
      this.#files.write(join(group, 'cgroup.threads'), `${tid}`)
      this.#files.write(join(group, 'cpu.max'), value)
    }
  }

  /** Removes a group whose processes have ended, as soon as the kernel lets go of it. */
  remove(path: string, tries: number = REMOVE_TRIES): void {
    if (removeGroup(path, this.#files) || tries === 0) return
    setTimeout(() => this.remove(path, tries - 1), REMOVE_MS).unref()
  }

  #try(work: () => void): void {
    try {
      work()
    } catch (error) {
      const text = `cannot limit the domain: ${(error as Error).message}`
      throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
    }
  }

  /** Writes what differs. Throws the system's error. */
  #write(path: string, before: Limits, after: Limits): void {
    for (const controller of CONTROLLERS) {
      if (!this.#controllers.has(controller)) continue
      for (const [file, value] of changedFiles(controller, before, after)) {
        const bfq = join(path, 'io.bfq.weight')
        // One scheduler of disks has shares in a file of its own.
        const isBfq = file === 'io.weight' && existsSync(bfq)
        if (isBfq) this.#files.write(bfq, value.replace('default ', ''))
        else this.#files.write(join(path, file), value)
      }
    }
  }
}

/** Has the groups below a group limited. @returns by what they can be */
function divide({ path, controllers }: Delegated, files: GroupFiles): ReadonlySet<string> {
  const list = (file: string): string[] => readFileSync(join(path, file), 'utf8').split(/\s+/)
  if (existsSync(join(path, 'cgroup.type')) && list('cgroup.procs').includes(`${process.pid}`)) {
    const own = join(path, OWN_GROUP)
    if (!existsSync(own)) files.make(own)
    files.write(join(own, 'cgroup.procs'), `${process.pid}`)
  }
  for (const name of controllers) {
    // One by one: another one of them need not fail with it.
    try {
      files.write(join(path, 'cgroup.subtree_control'), `+${name}`)
    } catch {
      // What is not on afterwards is said to be missing when it is asked for.
    }
  }
  for (const name of readdirSync(path)) if (DOMAIN.test(name)) removeGroup(join(path, name), files)
  const on = new Set(list('cgroup.subtree_control'))
  return new Set([...controllers].filter((name) => on.has(name)))
}

/** @returns whether it is gone */
function removeGroup(path: string, files: GroupFiles): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) files.remove(join(path, entry.name))
    }
    files.remove(path)
    return true
  } catch {
    // Somebody is in it, unless it is not there.
    return !existsSync(path)
  }
}
