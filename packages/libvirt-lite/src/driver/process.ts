import { spawn } from 'node:child_process'
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { ErrorCode, VirtError } from '../rpc/index.ts'

/** A process, told from a later one with the same number by when it was started. */
export interface ProcessId {
  pid: number
  /** In clock ticks since the host was started. */
  startTime: string
}

/**
 * The fields of `/proc/PID/stat` behind the name, or undefined when there is no such process. Of a thread they are below its
 * process: `/proc/TID/stat` has the times of all threads together.
 */
function statOf(pid: number, thread?: number): string[] | undefined {
  const task = thread === undefined ? '' : `/task/${thread}`
  try {
    const text = readFileSync(`/proc/${pid}${task}/stat`, 'utf8')
    // The name may contain anything, also parentheses.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

/** @returns undefined when there is no such process */
export function identify(pid: number): ProcessId | undefined {
  const startTime = statOf(pid)?.[19]
  return startTime === undefined ? undefined : { pid, startTime }
}

/** Whether it still runs; one that only waits for its parent does not. */
export function isAlive({ pid, startTime }: ProcessId): boolean {
  const stat = statOf(pid)
  return stat !== undefined && stat[19] === startTime && stat[0] !== 'Z' && stat[0] !== 'X'
}

/** Processor time of a process, or of one thread of it, in nanoseconds: of itself and of the kernel on its behalf. */
export function cpuTime(
  pid: number,
  thread?: number,
): { user: bigint; system: bigint; total: bigint } {
  const stat = statOf(pid, thread)
  // The kernel shows ticks of 10 ms to programs, whatever it counts in.
  const nanoseconds = (field: number): bigint => BigInt(stat?.[field] ?? 0) * 10_000_000n
  const user = nanoseconds(11)
  const system = nanoseconds(12)
  return { user, system, total: user + system }
}

/** The processor that a thread of a process was on last. */
export function lastCpu(pid: number, thread: number): number {
  return Number(statOf(pid, thread)?.[36] ?? 0)
}

/** Nanoseconds that a thread waited for disks, and for a processor; 0 where the kernel does not count. */
export function waits(pid: number, thread: number): { wait: bigint; delay: bigint } {
  const read = (name: string): string => {
    try {
      return readFileSync(`/proc/${pid}/task/${thread}/${name}`, 'utf8')
    } catch {
      return ''
    }
  }
  const milliseconds = /iowait_sum\s*:\s*([\d.]+)/.exec(read('sched'))?.[1] ?? '0'
  return {
    wait: BigInt(Math.round(Number(milliseconds) * 1e6)),
    delay: BigInt(read('schedstat').split(' ')[1] ?? 0),
  }
}

/** Memory that a process really has, in KiB. */
export function residentKib(pid: number): bigint {
  try {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return BigInt(line?.[1] ?? 0)
  } catch {
    return 0n
  }
}

/** Processes whose command line has an argument that contains `text`. */
export function findProcesses(text: string): ProcessId[] {
  const found: ProcessId[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue
    try {
      const line = readFileSync(`/proc/${entry}/cmdline`, 'utf8')
      if (!line.includes(text)) continue
      const id = identify(Number(entry))
      if (id !== undefined && isAlive(id)) found.push(id)
    } catch {
      // It ended meanwhile.
    }
  }
  return found
}

/** How a process is started. */
export interface StartOptions {
  logFile: string
  /** Where it runs. */
  folder: string
  /** Variables beside those of this process. */
  env: Readonly<Record<string, string>>
  /** What the log should say of it. */
  notes: readonly string[]
  /** The control group that it is in from its first instruction on. */
  group?: string | undefined
}

/** A process that was started, and what it left. */
export interface Started {
  id: ProcessId
  /** Resolves when it has ended. */
  exited: Promise<void>
  /** Length of the log before its own output. */
  logged: number
}

/**
 * Starts a program that outlives this process: with a session of its own, and output to a log that begins with its command
 * line. Rejects with `VirtError` when it cannot be started.
 */
export async function start(
  program: string,
  args: readonly string[],
  { logFile, folder, env, notes, group }: StartOptions,
): Promise<Started> {
  const { O_CREAT, O_APPEND, O_WRONLY, O_NOFOLLOW } = constants
  const log = openSync(logFile, O_CREAT | O_APPEND | O_WRONLY | O_NOFOLLOW, 0o600)
  try {
    const lines = [`${new Date().toISOString()}: starting up`, ...notes, commandLine(program, args)]
    for (const line of lines) writeSync(log, `${line}\n`)
    const logged = fstatSync(log).size
    const command = group === undefined ? [program, ...args] : inGroup(group, program, args)
    const child = spawn(command[0]!, command.slice(1), {
      cwd: folder,
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
    })
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', (error) => {
        const text = `Cannot execute the emulator '${program}': ${error.message}`
        reject(new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error }))
      })
    })
    child.unref()
    const pid = child.pid!
    // One that has ended already has no start time, and is recognised as ended all the same.
    return { id: identify(pid) ?? { pid, startTime: 'ended' }, exited, logged }
  } finally {
    closeSync(log)
  }
}

/** A shell enters the group and becomes the program: what it has by then is counted already. */
function inGroup(group: string, program: string, args: readonly string[]): string[] {
  const script = 'echo $$ > "$0" && exec "$@"'
  return ['/bin/sh', '-c', script, join(group, 'cgroup.procs'), program, ...args]
}

/** Ends a process: politely, then for certain. Resolves when it is gone. */
export async function kill(id: ProcessId, graceMs: number): Promise<void> {
  const until = performance.now() + graceMs
  if (graceMs > 0) signal(id, 'SIGTERM')
  while (isAlive(id) && performance.now() < until) await pause(20)
  for (let i = 0; isAlive(id); i++) {
    if (i === 0) signal(id, 'SIGKILL')
    if (i > 500) {
      throw new VirtError(
        ErrorCode.OPERATION_FAILED,
        `Failed to terminate process ${id.pid} with SIGKILL: it waits in the kernel`,
      )
    }
    await pause(10)
  }
}

function signal(id: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(id)) return
  try {
    process.kill(id.pid, name)
  } catch {
    // It ended meanwhile.
  }
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

/** As a shell takes it: whoever reads the log can run it. */
export function commandLine(program: string, args: readonly string[]): string {
  return [program, ...args]
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ')
}
