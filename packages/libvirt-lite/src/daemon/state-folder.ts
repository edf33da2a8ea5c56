import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync } from 'node:fs'
import { readFileSync, realpathSync, rmSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { createServer } from 'node:net'
import type { Server } from 'node:net'
import { join, resolve } from 'node:path'
import { allSynced, writeWhole } from './atomic.ts'
import { DaemonError } from './daemon-error.ts'

/** The longest path of a UNIX socket in bytes. */
const SOCKET_PATH_BYTES = 107
/** The longest name of a socket below the folder: of a monitor or a console of the domain with the largest id. */
const LONGEST_SOCKET = 'run/2147483647/channel10.sock'

/** Where the daemon keeps everything: definitions, what runs, logs. One daemon has it at a time. */
export interface StateFolder {
  readonly path: string
  /** Definitions of domains. */
  readonly domains: string
  readonly networks: string
  readonly pools: string
  /** Of running domains: sockets, and what a new daemon needs to know. */
  readonly run: string
  readonly logs: string
  /** Volumes of the default storage pool. */
  readonly images: string
  /** Variables of guests' firmware. */
  readonly nvram: string
  /** Lets another daemon have it. */
  release(): Promise<void>
}

/**
 * Makes the folder as far as it is not there, and takes it.
 *
 * @throws DaemonError for a folder that others could change, or that a daemon has
 */
export async function openStateFolder(given: string): Promise<StateFolder> {
  const path = resolve(given)
  checkLength(path)
  takeFolder(path)
  const folder = (name: string): string => {
    const below = join(path, name)
    takeFolder(below)
    return below
  }
  const lock = await takeLock(path)
  return {
    path,
    domains: folder('domains'),
    networks: folder('networks'),
    pools: folder('pools'),
    run: folder('run'),
    logs: folder('log'),
    images: folder('images'),
    nvram: folder('nvram'),
    release: async () => {
      await allSynced()
      await lock.release()
    },
  }
}

/** Why a folder cannot be that of a daemon; undefined for one that can be, or be made. Changes nothing. */
export function stateFolderFault(given: string): string | undefined {
  const path = resolve(given)
  try {
    checkLength(path)
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (stats !== undefined) checkOurs(path, stats)
    return undefined
  } catch (error) {
    return (error as Error).message
  }
}

function checkLength(path: string): void {
  const longest = Buffer.byteLength(join(path, LONGEST_SOCKET))
  if (longest <= SOCKET_PATH_BYTES) return
  const most = SOCKET_PATH_BYTES - LONGEST_SOCKET.length - 1
  throw new DaemonError(
    `the state folder '${path}' has too long a name for sockets in it: ${Buffer.byteLength(path)} bytes, at most ${most}`,
  )
}

/** A folder that is ours alone. */
function takeFolder(path: string): void {
  let stats: Stats | undefined
  try {
    stats = lstatSync(path)
  } catch {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 })
      stats = lstatSync(path)
    } catch (error) {
      throw new DaemonError(`cannot make the folder '${path}': ${(error as Error).message}`)
    }
  }
  checkOurs(path, stats)
}

function checkOurs(path: string, stats: Stats): void {
  if (stats.isSymbolicLink()) {
    throw new DaemonError(
      `'${path}' is a symbolic link: whoever made it decides where it leads; name the folder itself`,
    )
  }
  if (!stats.isDirectory()) throw new DaemonError(`'${path}' is not a folder`)
  const uid = process.geteuid!()
  if (stats.uid !== uid) {
    throw new DaemonError(
      `'${path}' belongs to user ${stats.uid}, not to ${uid}, who runs this daemon`,
    )
  }
  if ((stats.mode & 0o022) !== 0) {
    const mode = (stats.mode & 0o777).toString(8)
    throw new DaemonError(`others may write to '${path}' (mode ${mode}): chmod go-w '${path}'`)
  }
}

interface Lock {
  /** May be called again. */
  release(): Promise<void>
}

/**
 * A name that one process can have at a time, and that is free when it ends in whichever way: an abstract UNIX socket called
 * after the folder. The folder stays open meanwhile: were it removed, another one could have its number, and so its name.
 */
async function takeLock(path: string): Promise<Lock> {
  const folder = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const server = await takeName(path, fstatSync(folder))
    let released: Promise<void> | undefined
    const release = async (): Promise<void> => {
      await new Promise<void>((resolve) => server.close(() => resolve()))
      closeSync(folder)
    }
    return { release: () => (released ??= release()) }
  } catch (error) {
    closeSync(folder)
    throw error
  }
}

async function takeName(path: string, { dev, ino }: Stats): Promise<Server> {
  const pidFile = join(path, 'daemon.pid')
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve)
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') return reject(error)
      reject(
        new DaemonError(
          `another daemon has the state folder '${realpathSync(path)}' (process ${pidOf(pidFile)}): stop it, or name another folder`,
        ),
      )
    })
    server.listen({ path: `\0libvirt-lite/${dev}/${ino}` })
  })
  server.unref()
  rmSync(pidFile, { force: true })
  try {
    writeWhole(pidFile, `${process.pid}\n`)
  } catch {
    // It is for a message alone, and a full disk is to keep nobody from stopping domains.
  }
  return server
}

function pidOf(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return 'unknown'
  }
}
