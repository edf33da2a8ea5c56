import { openChardevs } from './cli/char-open.ts'
import type { CharWiring } from './cli/char-open.ts'
import { planChardevs } from './cli/char-plan.ts'
import type { CharPlan } from './cli/char-plan.ts'
import { CliError } from './cli/cli-error.ts'
import { machineConfig } from './cli/machine-config.ts'
import { parseCommand } from './cli/parse.ts'
import type { Settings } from './cli/settings.ts'
import type { Chardev } from './chardev/chardev.ts'
import { NullChardev } from './chardev/null.ts'
import type { MachineConfig, SerialBackend } from './machine/config.ts'

export { CliError } from './cli/cli-error.ts'

/** One for all: the same arguments make the same options, which can be compared. */
const NOWHERE = new NullChardev()

/** What a command line does not say by itself. */
export interface CommandLineOptions {
  /** What is behind character devices, by their ids: as {@link openCharacters} opens them, or of the caller. */
  backends?: Readonly<Record<string, SerialBackend>>
}

/** Character devices that were opened for a machine. */
export interface OpenCharacters {
  /** By their ids. */
  backends: Record<string, SerialBackend>
  /** Where they are to be found, by their ids: `pty:/dev/pts/3`, `unix:/run/vm.sock,server=on`. */
  places: Record<string, string>
  /** Call it when the machine has started: bytes that came before wait for that. */
  started(): void
  close(): void
}

/**
 * The machine that a command line of `qemu-kvm` describes, as options of `VirtualMachine`. Nothing is opened.
 *
 * A character device without a backend is kept for the machine itself, for `expect` and `type`, if it is a terminal
 * (`pty`, `stdio`) at the first of all serial ports and there is no other; `null` needs none.
 *
 * @param args the arguments, without the program
 * @throws CliError for what is wrong, and for what is about a process rather than a machine: monitors, `-daemonize`,
 *   `-pidfile`, `-D`, `-display curses`; the message names it
 */
export function readCommandLine(
  args: readonly string[],
  { backends = {} }: CommandLineOptions = {},
): MachineConfig {
  const settings = read(args)
  const plan = planChardevs(settings)
  refuseProcess(settings, plan)
  const own = ownConsole(plan, backends)
  const find = (id: string): Chardev => backends[id] ?? emptyOrThrow(plan, id)
  const {
    log: _log,
    logItems: _items,
    host: _host,
    serial,
    ...config
  } = machineConfig(
    settings,
    {
      serials: own ? [] : plan.serials.map((id) => (id === undefined ? undefined : find(id))),
      devices: Object.fromEntries(plan.devices.map((id) => [id, find(id)])),
      parallels: plan.parallels,
    },
    () => {},
  )
  return own || serial === undefined ? config : { ...config, serial }
}

/**
 * Opens the character devices of a command line as the command does: sockets listen, terminals and files are there.
 * Rejects with CliError when one cannot be opened, and none stays open.
 */
export async function openCharacters(args: readonly string[]): Promise<OpenCharacters> {
  const settings = read(args)
  const plan = planChardevs(settings)
  refuseProcess(settings, plan)
  const wiring = await openChardevs(plan, {
    escapeCode: settings.escapeCode,
    onQuit: () => {},
    report: (message) => process.emitWarning(message),
    inform: () => {},
    announce: () => {},
  })
  const backends = backendsOf(plan, wiring)
  return {
    backends,
    places: Object.fromEntries(wiring.list().map(({ label, filename }) => [label, filename])),
    started() {
      for (const backend of Object.values(backends)) backend.notifyReadable?.()
    },
    close: () => wiring.close(),
  }
}

function backendsOf(plan: CharPlan, wiring: CharWiring): Record<string, SerialBackend> {
  const serials = plan.serials.flatMap((id, port) => {
    const backend = wiring.serials[port]
    return id === undefined || backend === undefined ? [] : [[id, backend] as const]
  })
  return { ...Object.fromEntries(serials), ...wiring.devices }
}

function read(args: readonly string[]): Settings {
  const command = parseCommand(args)
  if (command.kind === 'run') return command.settings
  throw new CliError(`no machine: the arguments ask for a text, '${args.join(' ')}'`)
}

/** What the process is, and who talks to it, is for the caller to say. */
function refuseProcess(settings: Settings, plan: CharPlan): void {
  const given: Readonly<Record<string, boolean>> = {
    '-daemonize': settings.daemonize,
    '-pidfile': settings.pidFile !== undefined,
    '-D': settings.logFile !== undefined,
    '-d': settings.logItems.size > 0,
    '-msg timestamp=on': settings.logTimes,
    '-name process=': settings.processName !== undefined,
    '-machine dump-guest-core=off': settings.dumpGuestCore === false,
    '-display curses': settings.display === 'curses',
    'a monitor (-mon, -monitor, -qmp, or that of -nographic)': plan.monitors.length > 0,
  }
  const [option] = Object.entries(given).find(([, isGiven]) => isGiven) ?? []
  if (option === undefined) return
  throw new CliError(
    `${option} is about the process, which is the caller's here: leave it out, or run the command`,
  )
}

/** Whether the machine keeps COM1 for itself, as it does when nothing is said about serial ports. */
function ownConsole({ serials, chardevs }: CharPlan, backends: object): boolean {
  const [id, ...others] = serials
  if (id === undefined || others.length > 0 || id in backends) return false
  const backend = chardevs.get(id)?.backend
  return backend === 'pty' || backend === 'stdio'
}

function emptyOrThrow({ chardevs }: CharPlan, id: string): Chardev {
  const chardev = chardevs.get(id)
  if (chardev?.backend === 'null') return NOWHERE
  throw new CliError(
    `chardev '${id}' has nothing behind it: give it in 'backends', as openCharacters() opens it`,
    chardev?.at,
  )
}
