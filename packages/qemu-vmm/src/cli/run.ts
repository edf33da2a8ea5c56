import type { ExitInfo } from '../machine/config.ts'
import { EmptyMachine } from '../machine/empty-machine.ts'
import { VirtualMachine } from '../machine/virtual-machine.ts'
import { runMonitorLine } from '../monitor/commands.ts'
import { Monitor } from '../monitor/monitor.ts'
import { BlockNodes } from '../monitor/qmp/block-nodes.ts'
import { QmpMonitor } from '../monitor/qmp/session.ts'
import { openChardevs } from './char-open.ts'
import type { CharWiring } from './char-open.ts'
import { planChardevs } from './char-plan.ts'
import { PROGRAM } from './cli-error.ts'
import type { Daemon } from './daemon.ts'
import { openLog, withTimes } from './log.ts'
import type { Log } from './log.ts'
import { accelerator, machineConfig } from './machine-config.ts'
import { chooseDisplay } from './default-display.ts'
import { leaveMemoryOut } from './core-dump.ts'
import { writePidFile } from './pidfile.ts'
import type { Settings } from './settings.ts'
import { checkTerminal, openCurses } from './curses.ts'
import { printError, printLine } from './stderr.ts'
import { onTermination } from './signals.ts'

/**
 * Runs the machine of a command line until it ends.
 *
 * @param daemon told when the machine is set up
 * @returns the exit status
 * @throws CliError, VmmError when it cannot be started; everything is closed then
 */
export async function runMachine(settings: Settings, daemon?: Daemon): Promise<number> {
  if (settings.processName !== undefined) process.title = settings.processName
  const plan = planChardevs(settings)
  settings.display = chooseDisplay(settings, plan)
  if (settings.display === 'curses') checkTerminal()
  const plain = openLog(settings.logFile)
  const log = settings.logTimes ? withTimes(plain, () => new Date()) : plain
  if (settings.dumpGuestCore === false) leaveMemoryOut()
  let vm: VirtualMachine | EmptyMachine | undefined
  const quit = (): void => {
    // `exited` tells how it went.
    vm?.quit().catch(() => {})
  }
  let wiring: CharWiring | undefined
  let removePidFile: (() => void) | undefined
  let removeHandlers: (() => void) | undefined
  try {
    wiring = await openChardevs(plan, {
      escapeCode: settings.escapeCode,
      onQuit: quit,
      report: (message) => log.write(message),
      inform: (message) => printError(`${PROGRAM}: ${message}\n`),
      announce: printLine,
    })
    const { machine, memory } = assemble(settings, wiring, log)
    vm = machine
    if (settings.pidFile !== undefined) removePidFile = writePidFile(settings.pidFile)
    removeHandlers = onTermination((signal) => {
      printError(`${PROGRAM}: terminating on signal ${signal}\n`)
      quit()
    })
    return exitStatus(await life(vm, wiring, { settings, memory }, quit, daemon), log)
  } finally {
    await vm?.quit()
    wiring?.close()
    removePidFile?.()
    removeHandlers?.()
    log.close()
  }
}

/** The machine that the options describe, and its bytes of memory. */
function assemble(
  settings: Settings,
  wiring: CharWiring,
  log: Log,
): { machine: VirtualMachine | EmptyMachine; memory: number } {
  const write = (message: string): void => log.write(message)
  if (settings.machine === 'none') {
    const { startPaused } = settings
    const machine = new EmptyMachine({ ...accelerator(settings), startPaused, log: write })
    return { machine, memory: 0 }
  }
  const config = machineConfig(settings, wiring, write)
  return { machine: new VirtualMachine(config), memory: config.memory }
}

async function life(
  vm: VirtualMachine | EmptyMachine,
  wiring: CharWiring,
  { settings, memory }: { settings: Settings; memory: number },
  quit: () => void,
  daemon: Daemon | undefined,
): Promise<ExitInfo> {
  const { name, uuid } = settings
  const { characters } = wiring
  await vm.start()
  // Bytes that arrived before there was anybody to read them.
  for (const user of [...wiring.serials, ...Object.values(wiring.devices)]) user?.notifyReadable?.()
  const context = { machine: vm, name, uuid, characters, quit }
  const facts = {
    type: settings.machine,
    cpuModel: settings.cpu.model,
    memory,
  }
  const migration = { events: false }
  const nodes = new BlockNodes(vm, settings.fileNodes)
  const monitors = wiring.monitors.map(({ chardev, control }) => {
    if (control === undefined) return new Monitor(chardev, context)
    const human = (line: string): Promise<string> =>
      runMonitorLine({ ...context, history: () => [] }, line)
    const wallMs = (): number => Date.now()
    return new QmpMonitor(
      chardev,
      { ...context, facts, nodes, migration, human, wallMs },
      control.pretty,
    )
  })
  const display =
    settings.display === 'curses' && vm instanceof VirtualMachine
      ? openCurses(vm, settings, quit)
      : undefined
  await daemon?.ready()
  const info = await vm.exited
  display?.close()
  for (const monitor of monitors) monitor.close()
  await wiring.drained()
  return info
}

function exitStatus({ code, error }: ExitInfo, log: Log): number {
  if (error !== undefined) log.write(error.message)
  return code
}
