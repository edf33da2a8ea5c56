// The machine protocol, as a client of a machine in a process of its own.
import { connect } from 'node:net'

/** A session of QMP. */
export interface MachineProtocol {
  /** Resolves to what a command returned; rejects with the class and text of its error. */
  ask(execute: string, args?: Record<string, unknown>): Promise<unknown>
  /** Resolves when an event has come, for a device if one is named. */
  event(name: string, device?: string): Promise<void>
  close(): void
}

interface QmpMessage {
  return?: unknown
  error?: { class: string; desc: string }
  event?: string
  data?: { device?: string }
}

/** Connects to the socket of a machine's `-qmp`; nothing is negotiated yet. */
export async function machineProtocol(path: string): Promise<MachineProtocol> {
  const socket = connect(path)
  const messages: QmpMessage[] = []
  let unread = ''
  let wake = (): void => {}
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (unread + text).split('\r\n')
    unread = lines.pop() ?? ''
    messages.push(...lines.map((line) => JSON.parse(line) as QmpMessage))
    wake()
  })
  const take = async (test: (message: QmpMessage) => boolean): Promise<QmpMessage> => {
    for (;;) {
      const at = messages.findIndex(test)
      if (at >= 0) return messages.splice(at, 1)[0]!
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  await take((message) => 'QMP' in message)
  return {
    async ask(execute, args = {}) {
      socket.write(JSON.stringify({ execute, arguments: args }))
      const { error, return: value } = await take((m) => m.error !== undefined || 'return' in m)
      if (error !== undefined) throw new Error(`${error.class}: ${error.desc}`)
      return value
    },
    async event(name, device) {
      await take(({ event, data }) => {
        return event === name && (device === undefined || data?.device === device)
      })
    },
    close: () => socket.destroy(),
  }
}
