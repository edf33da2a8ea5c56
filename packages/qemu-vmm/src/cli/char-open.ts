import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'

import type { Chardev } from '../chardev/chardev.ts'
import { FileChardev } from '../chardev/file.ts'
import { NullChardev } from '../chardev/null.ts'
import { PtyChardev } from '../chardev/pty.ts'
import { RingbufChardev } from '../chardev/ringbuf.ts'
import { SocketChardev } from '../chardev/socket.ts'
import { StdioChardev } from '../chardev/stdio.ts'
import { VmmError } from '../errors.ts'
import type { ChardevInfo } from '../monitor/command.ts'
import { openPty } from '../native/pty.ts'
import { RawMode } from '../terminal/raw-mode.ts'
import { CharDevices } from './char-devices.ts'
import type { CharPlan } from './char-plan.ts'
import { CliError } from './cli-error.ts'
import type { ChardevSettings } from './settings.ts'
import { systemMessage } from './system-error.ts'

/** A reader that takes nothing for so long does not hold up the end of the process. */
const STALL_MS = 2000

/** Open character devices, connected to those who will use them. */
export interface CharWiring {
  /** What monitors do with them. */
  characters: CharDevices
  serials: (Chardev | undefined)[]
  monitors: { chardev: Chardev; control?: { pretty: boolean } }[]
  /** Ids of those behind parallel ports. */
  parallels: readonly string[]
  /** Those that devices name, by id. */
  devices: Record<string, Chardev>
  /** What there is, for the monitor. */
  list(): ChardevInfo[]
  /** Resolves when output is out, or nobody takes it. */
  drained(): Promise<void>
  close(): void
}

export interface WiringOptions {
  escapeCode: number
  /** Ctrl-A x. */
  onQuit: () => void
  report: (message: string) => void
  /** What the user is told while the start waits for something. */
  inform: (message: string) => void
  /** A line for standard output. */
  announce: (message: string) => void
}

/** @throws CliError when a device cannot be opened; none stays open then */
export async function openChardevs(plan: CharPlan, options: WiringOptions): Promise<CharWiring> {
  const characters = new CharDevices(openBase, options)
  try {
    for (const [id, chardev] of plan.chardevs) {
      const label = plan.labels.get(id) ?? id
      const base = await characters.open(id, label, chardev)
      if (base instanceof PtyChardev) {
        const shown = `${label}${chardev.mux ? '-base' : ''}`
        options.announce(`char device redirected to ${base.path} (label ${shown})`)
      }
      if (base instanceof SocketChardev && chardev.wait === true) {
        options.inform(`${chardev.at}: info: QEMU waiting for connection on: ${base.filename}`)
        await base.opened()
      }
    }
  } catch (error) {
    characters.close()
    throw error
  }
  const user = (id: string | undefined): Chardev | undefined =>
    id === undefined ? undefined : characters.use(id, 'device')
  return {
    characters,
    serials: plan.serials.map(user),
    monitors: plan.monitors.flatMap(({ id, ...how }) => {
      const chardev = characters.use(id, 'monitor')
      return chardev === undefined ? [] : [{ chardev, ...how }]
    }),
    parallels: plan.parallels,
    devices: Object.fromEntries(
      plan.devices.flatMap((id) => {
        const chardev = user(id)
        return chardev === undefined ? [] : [[id, chardev] as const]
      }),
    ),
    list: () => characters.list(),
    drained: () => characters.drained(STALL_MS),
    close: () => characters.close(),
  }
}

async function openBase(chardev: ChardevSettings, options: WiringOptions): Promise<Chardev> {
  switch (chardev.backend) {
    case 'null':
      return new NullChardev()
    case 'pty':
      return openTerminal(chardev, options)
    case 'ringbuf':
      return new RingbufChardev(chardev.size ?? 1)
    case 'file':
      return openFile(chardev, options)
    case 'socket':
      return await openSocket(chardev, options)
    case 'stdio': {
      const raw = new RawMode(process.stdin)
      // Signals of the keyboard go to the whole foreground group, as the terminal sends them.
      const raise = (signal: NodeJS.Signals): void => void process.kill(0, signal)
      return new StdioChardev(
        process.stdin,
        process.stdout,
        raw,
        chardev.signal ? raise : undefined,
      )
    }
  }
}

function openFile({ path = '', append, at }: ChardevSettings, options: WiringOptions): Chardev {
  try {
    return new FileChardev(path, append === true, options.report)
  } catch (error) {
    throw new CliError(`Could not open '${path}': ${systemMessage(error)}`, at)
  }
}

function openTerminal({ at }: ChardevSettings, { report }: WiringOptions): PtyChardev {
  try {
    return new PtyChardev(openPty(), { report })
  } catch (error) {
    if (error instanceof VmmError) throw error
    throw new CliError(`Failed to create PTY: ${systemMessage(error)}`, at)
  }
}

async function openSocket(
  { path = '', fd, server, reconnect = 0, at }: ChardevSettings,
  { report }: WiringOptions,
): Promise<SocketChardev> {
  try {
    if (server !== true) return await SocketChardev.connect({ path, report }, reconnect * 1000)
    if (fd !== undefined) return await SocketChardev.listen({ path: `fd=${fd}`, fd, report })
    removeStale(path, at)
    return await SocketChardev.listen({ path, report })
  } catch (error) {
    if (error instanceof CliError) throw error
    const what = server === true ? 'Failed to bind socket to' : 'Failed to connect to'
    // The runtime reports a folder that is not there as one that may not be written to.
    const reason = existsSync(dirname(path)) ? systemMessage(error) : 'No such file or directory'
    throw new CliError(`${what} '${path}': ${reason}`, at)
  }
}

/** A socket that a killed process left behind would be in the way; anything else is not ours. */
function removeStale(path: string, at: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new CliError(
      `Failed to bind socket to '${path}': there is something else than a socket; remove it, or ` +
        'give another path',
      at,
    )
  }
  try {
    unlinkSync(path)
  } catch (error) {
    throw new CliError(`Failed to unlink socket '${path}': ${systemMessage(error)}`, at)
  }
}
