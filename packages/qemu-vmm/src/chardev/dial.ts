import { Socket, connect } from 'node:net'
import type { NetConnectOpts } from 'node:net'

import { VmmError } from '../errors.ts'
import { checkIsSocket, resolveInet, unixName } from './address.ts'
import type { SocketAddress } from './address.ts'
import { systemMessage } from '../cli/system-error.ts'

type ConnectOptions = NetConnectOpts & { signal: AbortSignal }

/**
 * Connects: to each address of a host in turn, until one answers.
 * @param signal ends the attempt, and the connection
 * @throws VmmError `E_CHARDEV`
 */
export async function dial(address: SocketAddress, signal: AbortSignal): Promise<Socket> {
  switch (address.type) {
    case 'unix':
      return await tryEach([{ path: unixName(address), signal }], address.path)
    case 'fd':
      checkIsSocket(address.fd)
      return new Socket({ fd: address.fd, readable: true, writable: true, signal })
    case 'inet': {
      const places = await resolveInet(address, false)
      const options = places.map(({ address: host, port }) => ({ host, port, signal }))
      return await tryEach(options, `${address.host}:${address.port}`)
    }
  }
}

async function tryEach(places: readonly ConnectOptions[], name: string): Promise<Socket> {
  let failure: unknown
  for (const place of places) {
    try {
      return await connected(place)
    } catch (error) {
      failure = error
    }
  }
  throw new VmmError('E_CHARDEV', `Failed to connect to '${name}': ${systemMessage(failure)}`, {
    cause: failure,
  })
}

function connected(place: ConnectOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(place)
    socket.once('error', reject).once('connect', () => {
      socket.off('error', reject)
      resolve(socket)
    })
  })
}
