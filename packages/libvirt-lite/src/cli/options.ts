import { parseArgs } from 'node:util'
import { DaemonError } from '../daemon/daemon-error.ts'
import type { DoctorOptions } from '../doctor/index.ts'
import type { DaemonOptions } from '../daemon/daemon.ts'

export const USAGE = `Usage: libvirt-lite --state DIR --socket PATH [OPTION]...
       libvirt-lite doctor [--state DIR] [--emulator PATH]
       libvirt-lite shutdown --socket PATH [--shutdown-timeout SECONDS]

Runs the daemon in the foreground. Clients of libvirt connect to the socket:

  virsh -c 'qemu+unix:///session?socket=PATH' list --all

  --state DIR             folder of definitions, logs and what runs; made if it is not there
  --socket PATH           UNIX socket for clients; PATH-ro is for those that may only read
  --listen-tcp HOST:PORT  a TCP port on this host as well, without authentication
  --listen-tls HOST:PORT  a TCP port for clients with a certificate, usually 16514
  --pki DIR               folder with cacert.pem, servercert.pem and serverkey.pem for that, and cacrl.pem if any are revoked
  --emulator PATH         emulator of domains that name none (default: qemu-kvm beside this package or in the path)
  --cgroup DIR            control group for those of domains (default: the daemon's, if it is in it alone and may divide it)
  --shutdown-timeout SECONDS
                          how long guests may take to turn off when the host goes down (default: 60)
  --version               version
  --help                  this text

doctor looks at what domains need of the host, and says what to do where something is missing. It changes nothing, and
ends with 1 when the daemon could not work.

shutdown has the guests of a daemon turn off, and ends those that do not in time; with 1 when there were any. The daemon does
so by itself when it is told to end (SIGTERM, SIGINT) while systemd says that the host is going down.
`

/** What `shutdown` is to do. */
export interface ShutdownCommand {
  socket: string
  timeoutMs: number
}

/** What the command line says that the daemon does not need until its end. */
export interface ServeOptions extends DaemonOptions {
  /** Milliseconds that guests have when the host goes down. */
  shutdownMs: number
}

/** A day: longer waits nobody, and timers not much. */
const MOST_SECONDS = 86_400

/** @returns what `doctor` is to look at; undefined when it is not asked for @throws DaemonError */
export function parseDoctor(args: readonly string[]): DoctorOptions | undefined {
  const [first, ...rest] = args
  if (first !== 'doctor') return undefined
  const { state, emulator, ...others } = parse(rest)
  const [other] = Object.keys(others)
  if (other !== undefined) {
    throw new DaemonError(`--${other} is not for doctor; --help lists the options`)
  }
  return { stateDir: state, emulator }
}

/** @returns what `shutdown` is to do; undefined when it is not asked for @throws DaemonError */
export function parseShutdown(args: readonly string[]): ShutdownCommand | undefined {
  const [first, ...rest] = args
  if (first !== 'shutdown') return undefined
  const { socket, 'shutdown-timeout': seconds, ...others } = parse(rest)
  const [other] = Object.keys(others)
  if (other !== undefined) {
    throw new DaemonError(`--${other} is not for shutdown; --help lists the options`)
  }
  if (socket === undefined) throw new DaemonError('--socket PATH is missing: where the daemon is')
  return { socket, timeoutMs: parseTimeout(seconds) }
}

function parseTimeout(text: string = '60'): number {
  const seconds = /^\d{1,5}$/.test(text) ? Number(text) : Infinity
  if (seconds > MOST_SECONDS) {
    const expected = `a whole number of seconds up to ${MOST_SECONDS}`
    throw new DaemonError(`--shutdown-timeout expects ${expected}, not '${text}'`)
  }
  return seconds * 1000
}

/** @returns what the command line asks for @throws DaemonError for what it may not be */
export function parseOptions(args: readonly string[]): ServeOptions | 'help' | 'version' {
  const options = parse(args)
  if (options.help) return 'help'
  if (options.version) return 'version'
  const { state, socket, emulator, cgroup } = options
  if (state === undefined)
    throw new DaemonError('--state DIR is missing: where to keep definitions')
  if (socket === undefined) throw new DaemonError('--socket PATH is missing: where to listen')
  const tcp = options['listen-tcp']
  const tls = options['listen-tls']
  const { pki } = options
  if ((tls === undefined) !== (pki === undefined)) {
    throw new DaemonError(
      '--listen-tls HOST:PORT and --pki DIR belong together: TLS needs certificates',
    )
  }
  return {
    stateDir: state,
    socket,
    shutdownMs: parseTimeout(options['shutdown-timeout']),
    ...(tcp === undefined ? {} : { tcp: parseAddress('--listen-tcp', tcp) }),
    ...(tls === undefined ? {} : { tls: { ...parseAddress('--listen-tls', tls), pki: pki! } }),
    ...(emulator === undefined ? {} : { emulator }),
    ...(cgroup === undefined ? {} : { cgroup }),
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        state: { type: 'string' },
        socket: { type: 'string' },
        'listen-tcp': { type: 'string' },
        'listen-tls': { type: 'string' },
        pki: { type: 'string' },
        emulator: { type: 'string' },
        cgroup: { type: 'string' },
        'shutdown-timeout': { type: 'string' },
        help: { type: 'boolean' },
        version: { type: 'boolean' },
      },
    }).values
  } catch (error) {
    throw new DaemonError(`${(error as Error).message.split('. ')[0]}; --help lists the options`)
  }
}

function parseAddress(option: string, text: string): { host: string; port: number } {
  const match = /^(?:\[(.+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new DaemonError(`${option} expects HOST:PORT, for example 127.0.0.1:16509, not '${text}'`)
  }
  return { host: (match[1] ?? match[2])!, port }
}
