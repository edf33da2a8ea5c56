import { existsSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { writeWhole } from '../daemon/atomic.ts'
import type { DomainCommand } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { findProcesses, isAlive, kill, pause, start } from './process.ts'
import type { ProcessId } from './process.ts'
import { ConsoleTap } from './console-tap.ts'
import { BrokenMonitor, QmpClient } from './qmp.ts'
import type { QmpEvent } from './qmp.ts'

/** An emulator that has no monitor by then did not start. */
const START_MS = 30_000
/** What of a log goes into an error. */
const LOG_CHARS = 1000
const GRACE_MS = 5000
/** How often a monitor that is not there yet is looked for. */
const POLL_MS = 3

/** What is kept of a running emulator, for the daemon that finds it again. */
export interface MachineStatus {
  uuid: string
  id: number
  /** What it runs with now, with the names of its devices. */
  xml: string
  /** Whether it has got as far as running guest code. */
  isStarted: boolean
  process?: ProcessId
  /** Its control group. */
  group?: string
  /** Seconds that a clock of its own was ahead by at the start. */
  clockStart?: number
  /** Whether it ends with the client that started it. */
  autoDestroy: boolean
  /** Of the host: process numbers mean nothing after it was restarted. */
  bootId: string
}

/** How a domain is started. */
export interface StartOptions {
  /** Its guest does not run yet. */
  paused: boolean
  /** It ends with the client that started it (default: it does not). */
  autoDestroy?: boolean
  /** Variables of its firmware begin anew (default: they are as they were). */
  resetNvram?: boolean
}

/** The status of one that is about to be started. */
export function newStatus(
  names: Pick<MachineStatus, 'uuid' | 'id' | 'xml'>,
  { autoDestroy = false }: StartOptions,
): MachineStatus {
  return { ...names, isStarted: false, autoDestroy, bootId: bootId() }
}

export interface MachineEvents {
  event(event: QmpEvent): void
  /** The process has ended. */
  ended(): void
}

/** Identifies the time since the host was started. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** One emulator process, and its monitor. */
export class Machine {
  readonly id: number
  readonly folder: string
  readonly process: ProcessId
  /** Paths of terminals and sockets of character devices, by their name in the emulator. */
  terminals: ReadonlyMap<string, string> = new Map()
  /** Consoles that this daemon listens to, by their path. */
  readonly taps: Map<string, ConsoleTap> = new Map()
  #qmp: QmpClient | undefined
  readonly #events: MachineEvents
  readonly #status: MachineStatus
  #hasEnded = false

  private constructor(
    folder: string,
    status: MachineStatus,
    process: ProcessId,
    events: MachineEvents,
  ) {
    this.folder = folder
    this.id = status.id
    this.#status = { ...status, process }
    this.process = process
    this.#events = events
  }

  /** Seconds that a clock of its own was ahead by at the start. */
  get clockStart(): number {
    return this.#status.clockStart ?? 0
  }

  /**
   * Starts an emulator with its vCPUs stopped. Rejects with `VirtError`, with no process left, when it does not come up.
   */
  static async start(
    folder: string,
    status: MachineStatus,
    { program, args, env, warnings, logFile }: DomainCommand & { logFile: string },
    events: MachineEvents,
  ): Promise<Machine> {
    // Before the process is there: should this one end now, the next daemon looks for it.
    try {
      saveStatus(folder, status)
    } catch (error) {
      const text = `cannot note that a domain is started: ${(error as Error).message}`
      throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
    }
    const started = await start(program, args, {
      logFile,
      folder,
      env,
      notes: warnings,
      group: status.group,
    })
    const logged = started.logged
    const machine = new Machine(folder, status, started.id, events)
    try {
      machine.#save()
      await machine.#connect(START_MS, started.exited)
      return machine
    } catch (error) {
      await kill(started.id, 0)
      const output = logTail(logFile, logged)
      const reason = error instanceof Error ? error.message : String(error)
      throw new VirtError(
        ErrorCode.INTERNAL_ERROR,
        `internal error: ${output === '' ? reason : `${reason}: ${output}`}`,
        { cause: error },
      )
    }
  }

  /** Takes over what another daemon started; undefined when it does not run any more, or was not ready. */
  static async attach(
    folder: string,
    status: MachineStatus,
    events: MachineEvents,
  ): Promise<Machine | undefined> {
    const sameBoot = status.bootId === bootId()
    const left = sameBoot ? findProcesses(join(folder, 'qmp.sock')) : []
    const known = sameBoot && status.process !== undefined && isAlive(status.process)
    if (!known || !status.isStarted) {
      // Nobody has seen this guest run.
      for (const id of left) await kill(id, 0)
      if (known) await kill(status.process!, 0)
      return undefined
    }
    const machine = new Machine(folder, status, status.process!, events)
    try {
      await machine.#connect(GRACE_MS, new Promise(() => undefined))
      return machine
    } catch {
      await kill(status.process!, 0)
      return undefined
    }
  }

  get group(): string | undefined {
    return this.#status.group
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  execute(command: string, args?: object): Promise<unknown> {
    return this.#monitor().execute(command, args)
  }

  /** Sends a request as it is, but for its id. @returns the whole reply, also one that refuses */
  converse(request: Readonly<Record<string, unknown>>): Promise<object> {
    return this.#monitor().converse(request)
  }

  /** Notes that the guest runs: a new daemon keeps it from now on. */
  started(): void {
    this.#status.isStarted = true
    this.#save()
  }

  /** Keeps what it runs with after a change. */
  changed(xml: string): void {
    this.#status.xml = xml
    this.#save()
  }

  /** Lets go of the process, which goes on. */
  detach(): void {
    this.#hasEnded = true
    this.#release()
  }

  /** Ends the process. `graceMs` is how long it may take to write what it has. */
  async kill(graceMs: number): Promise<void> {
    await kill(this.process, graceMs)
    this.#end()
  }

  /** Removes what was kept. */
  forget(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  #monitor(): QmpClient {
    if (this.#qmp === undefined || this.#qmp.isClosed) {
      throw new VirtError(
        ErrorCode.OPERATION_INVALID,
        'Requested operation is not valid: domain is not running',
      )
    }
    return this.#qmp
  }

  async #connect(withinMs: number, exited: Promise<void>): Promise<void> {
    const until = performance.now() + withinMs
    const state = { hasExited: false }
    void exited.then(() => (state.hasExited = true))
    const socket = join(this.folder, 'qmp.sock')
    // Looking costs less than connecting in vain, and the emulator needs the processors now.
    while (!existsSync(socket) && !state.hasExited && performance.now() < until) {
      await pause(POLL_MS)
    }
    for (;;) {
      try {
        this.#qmp = await QmpClient.open(socket, {
          event: (event) => this.#events.event(event),
          closed: (isBroken) => void this.#lost(isBroken),
        })
        break
      } catch (error) {
        if (error instanceof BrokenMonitor) throw error
        if (state.hasExited || !isAlive(this.process)) {
          throw new VirtError(
            ErrorCode.INTERNAL_ERROR,
            'process exited while connecting to monitor',
            { cause: error },
          )
        }
        if (performance.now() > until) throw error
        await pause(POLL_MS)
      }
    }
    const list = (await this.execute('query-chardev')) as { label: string; filename: string }[]
    this.terminals = new Map(
      list.flatMap(({ label, filename }) => {
        const path = /^(?:disconnected:)?(?:pty|unix):([^,]+)/.exec(filename)?.[1]
        return path === undefined ? [] : [[label, path] as const]
      }),
    )
    await this.#tap()
  }

  /** Listens to what guests write on consoles that are the daemon's; those with a path of their own are somebody else's. */
  async #tap(): Promise<void> {
    for (const [label, path] of this.terminals) {
      if (!isConsole(label) || dirname(path) !== this.folder) continue
      const tap = await ConsoleTap.open(path).catch(() => undefined)
      if (tap !== undefined) this.taps.set(path, tap)
    }
  }

  #release(): void {
    this.#qmp?.close()
    for (const tap of this.taps.values()) tap.close()
  }

  /** The monitor is gone: usually because the process is, which is not waited for when it is out of its mind. */
  async #lost(isBroken: boolean): Promise<void> {
    if (this.#hasEnded) return
    const until = performance.now() + (isBroken ? 0 : GRACE_MS)
    while (isAlive(this.process) && performance.now() < until) await pause(10)
    // Without a monitor it cannot be managed.
    await kill(this.process, 0).catch(() => undefined)
    this.#end()
  }

  #end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#release()
    this.#events.ended()
  }

  #save(): void {
    saveStatus(this.folder, this.#status)
  }
}

/** Whether a character device is one that `virsh console` opens. */
export const isConsole = (label: string): boolean => /^char(serial|console)\d+$/.test(label)

function saveStatus(folder: string, status: MachineStatus): void {
  writeWhole(join(folder, 'status.json'), JSON.stringify(status))
}

/** @returns undefined for a folder without a status that can be read */
export function loadStatus(folder: string): MachineStatus | undefined {
  try {
    const status = JSON.parse(readFileSync(join(folder, 'status.json'), 'utf8')) as MachineStatus
    const isWhole = typeof status.uuid === 'string' && Number.isInteger(status.id)
    return isWhole && typeof status.xml === 'string' ? status : undefined
  } catch {
    return undefined
  }
}

/** What the emulator said, without the command line. */
function logTail(path: string, from: number): string {
  try {
    const lines = readFileSync(path).subarray(from).toString()
    return lines.trim().slice(-LOG_CHARS)
  } catch {
    return ''
  }
}
