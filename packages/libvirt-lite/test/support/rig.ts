import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import type { ExecutionContext } from 'ava'
import { FrameReader } from '../../src/rpc/frame-reader.ts'
import { Client, PROCEDURES, ServerConnection } from '../../src/rpc/index.ts'
import type { Handlers, ServerConnectionOptions } from '../../src/rpc/index.ts'
import { encode, encodeMessage } from '../../src/rpc/message.ts'
import type { Message } from '../../src/rpc/message.ts'

export const MIB = 1 << 20
export const REMOTE = 0x20008086
export const KEEPALIVE = 0x6b656570

/** The calls of the handshake, and what a test adds. */
export function handlers(more: Handlers = {}): Handlers {
  return {
    AUTH_LIST: () => ({ types: [0] }),
    CONNECT_OPEN: () => undefined,
    CONNECT_CLOSE: () => undefined,
    CONNECT_SUPPORTS_FEATURE: ({ feature }) => ({ supported: feature === 10 ? 1 : 0 }),
    CONNECT_GET_TYPE: () => ({ type: 'QEMU' }),
    ...more,
  }
}

export interface Rig {
  port: number
  connections: ServerConnection[]
  client(): Promise<Client>
  raw(): Promise<Raw>
}

/** A peer without manners: it sends what the test says. */
export class Raw {
  readonly socket: Socket
  readonly frames = new FrameReader()
  closed = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('close', () => {
      this.closed = true
    })
    socket.on('error', () => undefined)
    socket.setMaxListeners(0)
    socket.on('data', (chunk: Buffer) => this.frames.push(chunk))
  }

  call(procedure: number, payload: Uint8Array, extra: Partial<Message> = {}): void {
    const header = {
      program: REMOTE,
      version: 1,
      procedure,
      type: 0,
      serial: 1,
      status: 0,
      ...extra,
    }
    this.socket.write(encodeMessage(header, payload))
  }

  async next(): Promise<Message> {
    for (;;) {
      const message = this.frames.next()
      if (message !== undefined) return message
      if (this.closed) throw new Error('closed')
      await new Promise((resolve) => {
        this.socket.once('data', resolve)
        this.socket.once('close', resolve)
      })
    }
  }

  async end(): Promise<void> {
    if (!this.closed) await once(this.socket, 'close')
  }

  async open(): Promise<void> {
    const payload = encode(PROCEDURES.CONNECT_OPEN.args, { uri: 'qemu:///system', flags: 0 })
    this.call(1, payload)
    await this.next()
  }
}

/** A server with these handlers, and peers for it. */
export async function rig(
  t: ExecutionContext,
  more: Handlers = {},
  options: ServerConnectionOptions = {},
): Promise<Rig> {
  const connections: ServerConnection[] = []
  const server: Server = createServer((socket) => {
    connections.push(new ServerConnection(socket, handlers(more), options))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  t.teardown(() => {
    for (const connection of connections) connection.close()
    server.close()
  })
  return {
    port,
    connections,
    client: async () => {
      const client = await Client.open({ port, host: '127.0.0.1' })
      t.teardown(() => client.destroy())
      return client
    },
    raw: async () => {
      const socket = connect({ port, host: '127.0.0.1' })
      await once(socket, 'connect')
      t.teardown(() => socket.destroy())
      return new Raw(socket)
    },
  }
}
