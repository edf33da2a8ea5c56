// Ports of the host that nobody listens on.
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

/** A port that nobody has; somebody may take it, but hardly within the second. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
