import type { Chardev } from '../chardev/chardev.ts'
import { FileChardev } from '../chardev/file.ts'
import { NullChardev } from '../chardev/null.ts'
import { PipeChardev } from '../chardev/pipe.ts'
import { PtyChardev } from '../chardev/pty.ts'
import { RingbufChardev } from '../chardev/ringbuf.ts'
import { SocketChardev } from '../chardev/socket.ts'
import { StdioChardev } from '../chardev/stdio.ts'
import { UdpChardev } from '../chardev/udp.ts'
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
      if (base instanceof SocketChardev && chardev.socket?.wait === true) {
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

async function openBase(
  chardev: ChardevSettings,
  label: string,
  options: WiringOptions,
): Promise<Chardev> {
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
      return await openSocket(chardev, label, options)
    case 'udp':
      return await orCliError(chardev.at, () => UdpChardev.open(chardev.udp!))
    case 'pipe':
      return await orCliError(chardev.at, () => new PipeChardev(chardev.path ?? ''))
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
  { socket, at }: ChardevSettings,
  label: string,
  { report }: WiringOptions,
): Promise<SocketChardev> {
  const { address, protocol, noDelay, server, reconnect } = socket!
  const options = { address, protocol, noDelay, report, label }
  return await orCliError(at, () =>
    server ? SocketChardev.listen(options) : SocketChardev.connect(options, reconnect * 1000),
  )
}

/** What cannot be opened, with the option that asked for it. */
async function orCliError<T>(at: string, open: () => T | Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    if (error instanceof VmmError) throw new CliError(error.message, at)
    throw error
  }
}
