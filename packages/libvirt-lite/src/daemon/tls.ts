import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createServer } from 'node:tls'
import type { TlsOptions, TLSSocket, Server as TlsServer } from 'node:tls'
import type { Server } from 'node:net'
import { DaemonError } from './daemon-error.ts'
import { listening } from './listen.ts'

/** Where to listen, and the folder with `cacert.pem`, `servercert.pem` and `serverkey.pem`, as libvirt names them. */
export interface TlsAddress {
  host: string
  port: number
  pki: string
}

/** Who does not finish the handshake by then is sent away. */
const HANDSHAKE_MS = 10_000
/** What the server says when it has accepted the client's certificate; nothing of it is in the protocol's messages. */
const WELCOME = Buffer.from([1])

/**
 * Listens for TLS. Both ends show a certificate of the same authority; a client without one does not get as far as a
 * message.
 *
 * @throws DaemonError
 */
export async function listenTls(
  { host, port, pki }: TlsAddress,
  most: number,
  onConnection: (socket: TLSSocket) => void,
  log: (message: string) => void,
): Promise<Server> {
  const server = create(
    {
      ...readPki(pki),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_MS,
      keepAlive: true,
      noDelay: true,
    },
    pki,
  )
  // Those whose handshake is under way count as well.
  server.maxConnections = most
  server.on('secureConnection', (socket) => {
    socket.write(WELCOME)
    onConnection(socket)
  })
  server.on('tlsClientError', (error, { remoteAddress }) => {
    log(`a client at ${remoteAddress ?? 'an unknown address'} was refused: ${error.message}`)
  })
  await listening(server, `${host}:${port}`, () => server.listen({ host, port }))
  return server
}

function create(options: TlsOptions, pki: string): TlsServer {
  try {
    return createServer(options)
  } catch (error) {
    throw new DaemonError(
      `the certificates of '${pki}' cannot be used: ${(error as Error).message}; key and certificate belong together, as PEM`,
    )
  }
}

function readPki(pki: string): Pick<TlsOptions, 'ca' | 'cert' | 'key' | 'crl'> {
  const path = (name: string): string => join(pki, name)
  const read = (name: string): Buffer => {
    try {
      return readFileSync(path(name))
    } catch (error) {
      throw new DaemonError(
        `TLS needs '${path(name)}': ${(error as Error).message}; make it with certtool or openssl`,
      )
    }
  }
  const [ca, cert, key] = [read('cacert.pem'), read('servercert.pem'), read('serverkey.pem')]
  const { mode } = statSync(path('serverkey.pem'))
  if ((mode & 0o077) !== 0) {
    throw new DaemonError(
      `others may read the key '${path('serverkey.pem')}': chmod 600 '${path('serverkey.pem')}'`,
    )
  }
  const hasRevoked = statSync(path('cacrl.pem'), { throwIfNoEntry: false }) !== undefined
  return { ca, cert, key, ...(hasRevoked ? { crl: read('cacrl.pem') } : {}) }
}
