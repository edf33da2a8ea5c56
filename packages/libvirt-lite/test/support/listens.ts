import { once } from 'node:events'
import { connect } from 'node:net'

/** Whether somebody listens at a UNIX socket. It has a name some time before that. */
export async function listens(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
