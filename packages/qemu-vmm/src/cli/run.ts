import type { ExitInfo } from '../machine/config.ts'
import { VirtualMachine } from '../machine/virtual-machine.ts'
import { Monitor } from '../monitor/monitor.ts'
import { openChardevs } from './char-open.ts'
import type { CharWiring } from './char-open.ts'
import { planChardevs } from './char-plan.ts'
import { PROGRAM } from './cli-error.ts'
import { openLog } from './log.ts'
import type { Log } from './log.ts'
import { machineConfig } from './machine-config.ts'
import { writePidFile } from './pidfile.ts'
import type { Settings } from './settings.ts'
import { onTermination } from './signals.ts'

/**
 * Runs the machine of a command line until it ends.
 *
 * @returns the exit status
 * @throws CliError, VmmError when it cannot be started; everything is closed then
 */
export async function runMachine(settings: Settings): Promise<number> {
  if (settings.processName !== undefined) process.title = settings.processName
  const plan = planChardevs(settings)
  const log = openLog(settings.logFile)
  let vm: VirtualMachine | undefined
  const quit = (): void => {
    // `exited` tells how it went.
    vm?.quit().catch(() => {})
  }
  let wiring: CharWiring | undefined
  let removePidFile: (() => void) | undefined
  let removeHandlers: (() => void) | undefined
  try {
    wiring = openChardevs(plan, {
      escapeCode: settings.escapeCode,
      onQuit: quit,
      report: (message) => log.write(message),
    })
    vm = new VirtualMachine(
      machineConfig(settings, wiring.serials, (message) => log.write(message)),
    )
    if (settings.pidFile !== undefined) removePidFile = writePidFile(settings.pidFile)
    removeHandlers = onTermination((signal) => {
      process.stderr.write(`${PROGRAM}: terminating on signal ${signal}\n`)
      quit()
    })
    return exitStatus(await life(vm, wiring, settings, quit), log)
  } finally {
    await vm?.quit()
    wiring?.close()
    removePidFile?.()
    removeHandlers?.()
    log.close()
  }
}

async function life(
  vm: VirtualMachine,
  wiring: CharWiring,
  { name, uuid }: Settings,
  quit: () => void,
): Promise<ExitInfo> {
  await vm.start()
  // Bytes that arrived before there was anybody to read them.
  for (const serial of wiring.serials) serial?.notifyReadable?.()
  const monitors = wiring.monitors.map(
    (chardev) => new Monitor(chardev, { machine: vm, name, uuid, quit }),
  )
  const info = await vm.exited
  for (const monitor of monitors) monitor.close()
  await wiring.drained()
  return info
}

function exitStatus({ code, error }: ExitInfo, log: Log): number {
  if (error !== undefined) log.write(error.message)
  return code
}
