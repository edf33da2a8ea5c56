import { lstatSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { connect } from 'node:net'
import { Duplex } from 'node:stream'
import { ReadStream, WriteStream } from 'node:tty'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Domain } from './domain.ts'
import { invalid } from './domain.ts'
import { isConsole } from './machine.ts'

/** Flags of `virDomainOpenConsole`. */
const FORCE = 1

/** Consoles that somebody has, by path: two would each get half of what the guest says. */
const taken = new Map<string, Duplex>()

/**
 * Connects to a character device of a running guest: `device` is its name (`serial0`), by default that of the first one.
 * Rejects with `VirtError`.
 */
export async function openConsole(
  domain: Domain,
  device: string | undefined,
  flags: number,
): Promise<Duplex> {
  const { terminals } = domain.machine
  const names = [...terminals.keys()].filter(isConsole)
  const label = device === undefined ? names[0] : names.find((name) => name === `char${device}`)
  if (label === undefined) {
    const known = names.map((name) => name.slice('char'.length)).join(', ') || 'none'
    throw new VirtError(
      ErrorCode.INTERNAL_ERROR,
      `internal error: cannot find character device ${device ?? '<null>'}: the domain has ${known}`,
    )
  }
  const path = terminals.get(label)!
  const tap = domain.machine.taps.get(path)
  const other = taken.get(path)
  if (other !== undefined) {
    if ((flags & FORCE) === 0) {
      throw new VirtError(
        ErrorCode.OPERATION_FAILED,
        'operation failed: Active console session exists for this domain',
      )
    }
    other.destroy(
      new VirtError(
        ErrorCode.OPERATION_FAILED,
        'operation failed: another session took over the console',
      ),
    )
    // The emulator takes the next one when it has seen the last one go.
    if (tap === undefined) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const opened =
    tap?.watch() ?? (lstatSync(path).isSocket() ? await openSocket(path) : await openTerminal(path))
  taken.set(path, opened)
  opened.once('close', () => {
    if (taken.get(path) === opened) taken.delete(path)
  })
  return opened
}

async function openSocket(path: string): Promise<Duplex> {
  const socket = connect({ path })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', (error) => reject(invalid(`cannot open the console: ${error.message}`)))
  })
  return socket
}

async function openTerminal(path: string): Promise<Duplex> {
  // Opened twice, as each of Node.js's streams closes its own.
  const files = [await open(path, 'r+'), await open(path, 'r+')] as const
  const input = new ReadStream(files[0].fd)
  const output = new WriteStream(files[1].fd)
  input.setRawMode(true)
  return Duplex.from({ readable: input, writable: output })
}
