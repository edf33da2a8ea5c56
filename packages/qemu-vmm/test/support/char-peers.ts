// Character devices of a command line, and peers of their sockets.
import { once } from 'node:events'
import { connect } from 'node:net'
import type { NetConnectOpts, Server, Socket } from 'node:net'

import { openChardevs } from '../../src/cli/char-open.ts'
import type { CharWiring } from '../../src/cli/char-open.ts'
import { planChardevs } from '../../src/cli/char-plan.ts'
import { parseCommand } from '../../src/cli/parse.ts'
import { text } from '../fixtures/fake-device.ts'

/** What was told to users, by all of a test file. */
export const said: string[] = []

/** Opens the character devices of a machine with these options. */
export async function wire(...argv: string[]): Promise<CharWiring> {
  const command = parseCommand(['-kernel', 'k', '-display', 'none', ...argv])
  if (command.kind !== 'run') throw new Error(command.text)
  return openChardevs(planChardevs(command.settings), {
    escapeCode: 1,
    onQuit() {},
    report: (message) => said.push(message),
    inform: (message) => said.push(message),
    announce: (message) => said.push(message),
  })
}

/** Collects what a peer receives, and waits for parts of it. */
export class Peer {
  readonly socket: Socket
  received = ''

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      this.received += text(chunk)
    })
  }

  static async to(place: string | NetConnectOpts): Promise<Peer> {
    const socket = connect(typeof place === 'string' ? { path: place } : place)
    await once(socket, 'connect')
    return new Peer(socket)
  }

  async until(wanted: string): Promise<void> {
    while (!this.received.includes(wanted)) await once(this.socket, 'data')
  }
}

export async function accept(server: Server): Promise<Peer> {
  const [socket] = (await once(server, 'connection')) as [Socket]
  return new Peer(socket)
}

export async function eventually(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
