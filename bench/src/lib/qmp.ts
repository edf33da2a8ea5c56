// Commands of QMP, over a socket that is connected.
import type { Socket } from 'node:net'

/** Sends a command and waits for its answer. */
export function ask(socket: Socket, execute: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const heard = (text: string): void => {
      if (!text.includes('"return"')) return
      socket.off('data', heard).off('error', reject)
      resolve()
    }
    socket.on('data', heard).once('error', reject)
    socket.write(JSON.stringify({ execute }))
  })
}
