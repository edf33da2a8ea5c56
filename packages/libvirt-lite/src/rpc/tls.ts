import { isIP } from 'node:net'
import { connect } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { RpcError } from './errors.ts'

/** What a client shows a daemon, and whom it believes: texts of PEM files. */
export interface TlsCredentials {
  ca: string | Buffer
  cert: string | Buffer
  key: string | Buffer
}

/** What a daemon says when it has accepted the client's certificate. */
const WELCOME = 1

/** Connects by TLS, and waits until the daemon has accepted the certificate. Rejects with `RpcError` or the system's error. */
export async function connectTls(
  { host = 'localhost', port }: { host?: string; port: number },
  { ca, cert, key }: TlsCredentials,
): Promise<TLSSocket> {
  const name = isIP(host) === 0 ? { servername: host } : {}
  const socket = connect({ host, port, ca, cert, key, minVersion: 'TLSv1.2', ...name })
  await new Promise<void>((resolve, reject) => {
    const refused = (): void => {
      reject(
        new RpcError(
          'E_CLOSED',
          'the daemon closed the connection: it did not accept the certificate',
        ),
      )
    }
    socket.once('error', reject)
    socket.once('close', refused)
    socket.once('readable', () => {
      const [first] = (socket.read(1) as Buffer | null) ?? []
      socket.off('error', reject)
      socket.off('close', refused)
      if (first === WELCOME) return resolve()
      socket.destroy()
      if (first === undefined) return refused()
      reject(
        new RpcError('E_VALUE', `the daemon says ${first} where it accepts a certificate by 1`),
      )
    })
  })
  return socket
}
