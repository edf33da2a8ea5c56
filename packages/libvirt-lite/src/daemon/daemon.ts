import type { Server, Socket } from 'node:net'
import { ControlGroups } from '../driver/control-groups/groups.ts'
import { Domains } from '../driver/domains.ts'
import { findCommand, isExecutable, machinesOf } from '../driver/emulator.ts'
import type { Machine } from '../driver/emulator.ts'
import { ServerConnection } from '../rpc/index.ts'
import type { Handlers } from '../rpc/index.ts'
import { Events } from '../server/events.ts'
import { serverHandlers } from '../server/index.ts'
import { DaemonError } from './daemon-error.ts'
import { listenTcp, listenUnix } from './listen.ts'
import { listenTls } from './tls.ts'
import type { TlsAddress } from './tls.ts'
import { Pools } from '../storage/pools.ts'
import { openStateFolder } from './state-folder.ts'
import type { StateFolder } from './state-folder.ts'

/** Clients at a time: each costs a file and some memory. */
const MOST_CLIENTS = 5000

export interface DaemonOptions {
  /** Folder of everything that is kept. */
  stateDir: string
  /** Path of the socket that clients connect to; the one for reading only has `-ro` behind it. */
  socket: string
  /** A port on this host, without authentication. */
  tcp?: { host: string; port: number }
  /** A port for everybody with a certificate. */
  tls?: TlsAddress
  /** Path of the emulator of domains that name none (default: `qemu-kvm` beside this package or in the path). */
  emulator?: string
  /** Folder of the control group that those of domains go below (default: the daemon's own, where it may divide that). */
  cgroup?: string
  /** Control groups that somebody else has opened. */
  groups?: ControlGroups
  /** Takes what the administrator should know (default: nothing does). */
  log?: (message: string) => void
}

/** The daemon: domains of one state folder, for clients of libvirt. */
export class Daemon {
  readonly #state: StateFolder
  readonly #domains: Domains
  readonly #servers: Server[] = []
  readonly #connections = new Set<ServerConnection>()
  readonly #handlers: Handlers
  readonly #log: (message: string) => void

  private constructor(
    state: StateFolder,
    emulator: string,
    machines: readonly Machine[],
    options: DaemonOptions,
  ) {
    this.#state = state
    this.#log = options.log ?? (() => undefined)
    const groups = options.groups ?? openGroups(options.cgroup, this.#log)
    this.#domains = new Domains({ state, emulator, machines, groups, warn: this.#log })
    const events = new Events(this.#domains)
    const uri = process.geteuid!() === 0 ? 'qemu:///system' : 'qemu:///session'
    this.#handlers = serverHandlers({
      domains: this.#domains,
      events,
      emulator,
      groups,
      pools: new Pools({ pools: state.pools, images: state.images, warn: this.#log }),
      imageCommand: findCommand('qemu-img'),
      stateDir: state.path,
      uri,
    })
  }

  /** Takes the state folder, finds what runs, and listens. Rejects with `DaemonError`. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const emulator = options.emulator ?? findCommand('qemu-kvm')
    if (emulator === undefined) {
      throw new DaemonError(
        "there is no qemu-kvm in the path or beside this package: install the package 'qemu-vmm', or name one with --emulator",
      )
    }
    if (!isExecutable(emulator))
      throw new DaemonError(`the emulator '${emulator}' cannot be executed`)
    const machines = await machinesOf(emulator).catch((error: Error) => {
      throw new DaemonError(error.message)
    })
    const state = await openStateFolder(options.stateDir)
    let daemon: Daemon
    try {
      daemon = new Daemon(state, emulator, machines, options)
    } catch (error) {
      await state.release()
      throw error
    }
    try {
      await daemon.#domains.load()
      await daemon.#listen(options)
    } catch (error) {
      await daemon.stop()
      throw error
    }
    void daemon.#domains.autostart()
    return daemon
  }

  /** Ports and paths that it listens on. */
  get addresses(): (string | null)[] {
    return this.#servers.map((server) => {
      const address = server.address()
      return typeof address === 'object' ? `${address?.address}:${address?.port}` : address
    })
  }

  /** Ends all connections; domains go on. */
  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.close()
    const closing = this.#servers.map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    )
    this.#domains.detach()
    await Promise.all(closing)
    await this.#state.release()
  }

  async #listen({ socket, tcp, tls }: DaemonOptions): Promise<void> {
    this.#servers.push(await listenUnix(socket, (peer) => this.#accept(peer, {})))
    const readOnly = await listenUnix(`${socket}-ro`, (peer) =>
      this.#accept(peer, { readOnly: true }),
    )
    this.#servers.push(readOnly)
    if (tls !== undefined) {
      const accept = (peer: Socket): void => this.#accept(peer, {})
      this.#servers.push(await listenTls(tls, MOST_CLIENTS, accept, this.#log))
    }
    if (tcp === undefined) return
    if (!['127.0.0.1', '::1', 'localhost'].includes(tcp.host)) {
      throw new DaemonError(
        `TCP has neither authentication nor encryption, so it is for this host only: use 127.0.0.1 instead of '${tcp.host}', and TLS or ssh from elsewhere`,
      )
    }
    this.#servers.push(await listenTcp(tcp, (peer) => this.#accept(peer, { isSecure: false })))
  }

  #accept(socket: Socket, options: { readOnly?: boolean; isSecure?: boolean }): void {
    if (this.#connections.size >= MOST_CLIENTS) {
      socket.destroy()
      this.#log(`a client was sent away: ${MOST_CLIENTS} are connected`)
      return
    }
    const connection = new ServerConnection(socket, this.#handlers, {
      ...options,
      onInternalError: (error, procedure) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
        this.#log(`${procedure}: ${text}`)
      },
    })
    this.#connections.add(connection)
    connection.onClose(() => this.#connections.delete(connection))
  }
}

/** @throws DaemonError for a group that was named and cannot be used */
function openGroups(cgroup: string | undefined, log: (message: string) => void): ControlGroups {
  const groups = ControlGroups.open(cgroup)
  if (groups.missing === undefined) return groups
  const { reason, remedy } = groups.missing
  if (cgroup !== undefined) throw new DaemonError(`--cgroup '${cgroup}': ${reason}: ${remedy}`)
  // It is no trouble for most: what they wait for is said first.
  setImmediate(() => log(`limits of domains cannot be kept: ${reason}`))
  return groups
}
