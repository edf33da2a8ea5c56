import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import type { ListenOptions, Server, Socket } from 'node:net'
import { dirname } from 'node:path'

import { VmmError } from '../errors.ts'
import { checkIsSocket, endText, isIpv6Only, resolveInet, unixName } from './address.ts'
import type { Endpoint, InetAddress, SocketAddress, UnixAddress } from './address.ts'
import { systemMessage } from '../cli/system-error.ts'

/**
 * Listens; a UNIX socket that an earlier process left in its folder is replaced.
 * @throws VmmError `E_CHARDEV`
 */
export async function listenAt(
  address: SocketAddress,
  onPeer: (socket: Socket) => void,
): Promise<Server> {
  switch (address.type) {
    case 'unix':
      return await listenUnix(address, onPeer)
    case 'fd':
      checkIsSocket(address.fd)
      try {
        return await open({ fd: address.fd }, onPeer)
      } catch (error) {
        const reason = systemMessage(error)
        throw bad(
          `Failed to listen on the socket of file descriptor ${address.fd}: ${reason}`,
          error,
        )
      }
    case 'inet':
      return await listenInet(address, onPeer)
  }
}

async function listenUnix(address: UnixAddress, onPeer: (socket: Socket) => void): Promise<Server> {
  const { path } = address
  const isFile = address.abstract !== true
  if (isFile) removeStale(path)
  try {
    return await open({ path: unixName(address) }, onPeer)
  } catch (error) {
    // The runtime reports a folder that is not there as one that may not be written to.
    const isLost = isFile && !existsSync(dirname(path))
    const reason = isLost ? 'No such file or directory' : systemMessage(error)
    throw bad(`Failed to bind socket to '${path}': ${reason}`, error)
  }
}

async function listenInet(inet: InetAddress, onPeer: (socket: Socket) => void): Promise<Server> {
  const places = await resolveInet(inet, true)
  const last = Math.max(inet.port, inet.to ?? 0)
  let failure: { error: unknown; place: Endpoint } | undefined
  for (const { address } of places) {
    for (let port = inet.port; port <= last; port++) {
      const place = { address, port }
      try {
        const ipv6Only = isIpv6Only(inet)
        return await open({ host: address, port, ipv6Only, exclusive: true }, onPeer)
      } catch (error) {
        failure = { error, place }
        // Another one may be free; whatever else is wrong is so at each of them.
        if (errorCode(error) !== 'EADDRINUSE') break
      }
    }
  }
  const { error, place } = failure!
  const isUsed = errorCode(error) === 'EADDRINUSE'
  const what = isUsed ? 'Failed to find an available port at' : 'Failed to bind socket to'
  const ports = isUsed && last > inet.port ? `${endText(place.address, inet.port)} to ${last}` : ''
  const where = ports === '' ? endText(place.address, place.port) : ports
  throw bad(`${what} ${where}: ${systemMessage(error)}`, error)
}

function open(
  options: ListenOptions & { fd?: number },
  onPeer: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ pauseOnConnect: true }, onPeer)
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(options, () => {
      server.off('error', reject).on('error', () => {})
      resolve(server)
    })
  })
}

/** A socket that a killed process left behind would be in the way; anything else is not ours. */
function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) {
    throw bad(
      `Failed to bind socket to '${path}': there is something else than a socket; remove it, or ` +
        'give another path',
    )
  }
  try {
    unlinkSync(path)
  } catch (error) {
    throw bad(`Failed to unlink socket '${path}': ${systemMessage(error)}`, error)
  }
}

function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

function bad(message: string, cause?: unknown): VmmError {
  return new VmmError('E_CHARDEV', message, { cause })
}
