import type { Worker } from 'node:worker_threads'

import { VmmError } from '../errors.ts'
import { planChardevs } from './char-plan.ts'
import { CliError, PROGRAM } from './cli-error.ts'
import { type Daemon, enterDaemon, startDaemon } from './daemon.ts'
import { runsFirmware } from '../machine/runs-firmware.ts'
import { adoptWorker, prepareWorker } from '../machine/host/device-worker.ts'
import { parseCommand } from './parse.ts'
import { printError } from './stderr.ts'

/** How long output that nobody reads holds up the end of the process. */
const FLUSH_MS = 2000

async function main(argv: readonly string[], daemon: Daemon | undefined): Promise<number> {
  try {
    const command = parseCommand(argv)
    if (command.kind === 'print') {
      process.stdout.write(`${command.text}\n`)
      return 0
    }
    if (command.settings.daemonize && daemon === undefined) {
      planChardevs(command.settings)
      return await startDaemon(argv)
    }
    prepareWorker(runsFirmware(command.settings) ? 'firmware' : 'kernel')
    // The texts above must not wait for the machine's modules to load.
    const { runMachine } = await import('./run.ts')
    return await runMachine(command.settings, daemon)
  } catch (error) {
    report(error)
    return 1
  }
}

/** One line for what the user can put right; a stack only for what is a fault of this program. */
function report(error: unknown): void {
  if (error instanceof CliError || error instanceof VmmError) {
    printError(`${PROGRAM}: ${error.message}\n`)
    return
  }
  const message = error instanceof Error ? error.message : String(error)
  printError(`${PROGRAM}: internal error: ${message}\n`)
  if (process.env['QEMU_KVM_DEBUG'] && error instanceof Error) {
    printError(`${error.stack ?? ''}\n`)
  }
}

/** Waits until the output is out, or nobody reads it. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.writableLength === 0) return Promise.resolve()
  return new Promise((resolve) => {
    stream.once('drain', resolve).once('error', () => resolve())
    stream.write('', () => resolve())
    setTimeout(resolve, FLUSH_MS).unref()
  })
}

function fail(error: unknown): void {
  report(error)
  process.exit(1)
}

/**
 * Runs the command, and ends the process with its status.
 * @param worker a thread for the devices that was started before
 */
export async function run(argv: readonly string[], worker?: Worker): Promise<never> {
  // A reader that goes away (`qemu-kvm -help | head`) is no error.
  process.stdout.on('error', () => {})
  process.stderr.on('error', () => {})
  process.on('uncaughtException', fail)
  process.on('unhandledRejection', fail)

  if (worker !== undefined) adoptWorker(worker)
  const daemon = enterDaemon()
  const status = await main(argv, daemon)
  await daemon?.flushed()
  await flushed(process.stdout)
  process.exit(status)
}
