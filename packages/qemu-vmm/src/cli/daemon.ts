import { CliError, PROGRAM } from './cli-error.ts'
import { printError, redirect } from './stderr.ts'

// A process of this runtime cannot fork. So the one that was started begins another one with the
// same command line, a session of its own and nothing on its standard streams, and waits until
// that one says that its machine is set up, or what went wrong.

/** In the environment of the process that stays. */
const MARK = 'QEMU_KVM_DAEMON'
/** Files of a daemon are not for everybody, as QEMU's are not. */
const UMASK = 0o027

type FromDaemon = { type: 'error' | 'output'; text: string } | { type: 'ready' }

/**
 * Starts the process that stays.
 *
 * @param argv the arguments of the command
 * @returns the exit status of this process: 0 once the machine is set up
 */
export async function startDaemon(argv: readonly string[]): Promise<number> {
  // With all that it brings along it would take a tenth of every start.
  const { spawn } = await import('node:child_process')
  const daemon = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, [MARK]: '1' },
  })
  // Nobody would ever hear of a machine whose start was called off half-way.
  const cancel = (): void => {
    daemon.kill('SIGTERM')
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, cancel)
  return await new Promise<number>((resolve, reject) => {
    let said = false
    daemon.on('message', (message: FromDaemon) => {
      if (message.type === 'ready') {
        daemon.unref()
        resolve(0)
        return
      }
      if (message.type === 'output') {
        process.stdout.write(message.text)
        return
      }
      said = true
      printError(message.text)
    })
    daemon.on('error', (error) => reject(new CliError(`cannot daemonize: ${error.message}`)))
    daemon.on('exit', (code, signal) => {
      const how = signal === null ? `with status ${code}` : `by ${signal}`
      if (!said) printError(`${PROGRAM}: the daemon ended ${how} before the machine was set up\n`)
      resolve(1)
    })
  })
}

/** What the process that stays has to say to the one that waits. */
export interface Daemon {
  /** The machine is set up: lets go of the process that waits, and of the folder. */
  ready(): Promise<void>
  /** Resolves when everything that was said has been sent. */
  flushed(): Promise<void>
}

/** The daemon that this process is, if it is one. Must be called before anything is opened. */
export function enterDaemon(): Daemon | undefined {
  if (process.env[MARK] === undefined || process.send === undefined) return undefined
  delete process.env[MARK]
  process.umask(UMASK)
  let sent: Promise<void> = Promise.resolve()
  const send = (message: FromDaemon): void => {
    if (!process.connected) return
    const gone = new Promise<void>((resolve) => {
      process.send?.(message, undefined, {}, () => resolve())
    })
    sent = Promise.all([sent, gone]).then(() => undefined)
  }
  redirect({
    errors: (text) => send({ type: 'error', text }),
    output: (text) => send({ type: 'output', text }),
  })
  return {
    async ready() {
      process.chdir('/')
      send({ type: 'ready' })
      await sent
      redirect({ errors() {}, output() {} })
      if (process.connected) process.disconnect()
    },
    flushed: () => sent,
  }
}
