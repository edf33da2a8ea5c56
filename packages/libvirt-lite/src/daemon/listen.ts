import { chmodSync, lstatSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { resolve } from 'node:path'
import { DaemonError } from './daemon-error.ts'

const SOCKET_PATH_BYTES = 107
/** Clients that connect at once, and wait to be accepted; others are told that the daemon is busy. The host may allow less. */
const BACKLOG = 4096

/**
 * Listens on a UNIX socket that only its owner may use.
 *
 * A socket that nobody answers is one that a daemon left behind, and is replaced; anything else at that path is somebody's,
 * and is left alone.
 *
 * @throws DaemonError
 */
export async function listenUnix(
  given: string,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const path = resolve(given)
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES) {
    throw new DaemonError(
      `the socket path '${path}' has ${Buffer.byteLength(path)} bytes, at most ${SOCKET_PATH_BYTES} fit`,
    )
  }
  await removeStale(path)
  const server = createServer(onConnection)
  await listening(server, `socket '${path}'`, () => {
    // The socket is made with its final rights: in between, others could connect.
    const before = process.umask(0o077)
    try {
      server.listen({ path, backlog: BACKLOG })
    } finally {
      process.umask(before)
    }
  })
  chmodSync(path, 0o600)
  return server
}

/** Listens on a TCP port. @throws DaemonError */
export async function listenTcp(
  { host, port }: { host: string; port: number },
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ keepAlive: true, noDelay: true }, onConnection)
  await listening(server, `${host}:${port}`, () => server.listen({ host, port, backlog: BACKLOG }))
  return server
}

/** Waits until a server listens. @throws DaemonError */
export function listening(server: Server, name: string, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('listening', resolve)
    server.once('error', (error) => {
      reject(new DaemonError(`cannot listen on ${name}: ${error.message}`))
    })
    listen()
  })
}

async function removeStale(path: string): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new DaemonError(`'${path}' exists and is no socket: remove it`)
  if (stats.uid !== process.geteuid!()) {
    throw new DaemonError(`the socket '${path}' belongs to user ${stats.uid}: remove it`)
  }
  const isAnswered = await new Promise<boolean>((resolve) => {
    const socket = connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
  if (isAnswered) {
    throw new DaemonError(`somebody listens on the socket '${path}': stop it, or name another`)
  }
  rmSync(path, { force: true })
}
