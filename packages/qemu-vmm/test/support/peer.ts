import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

const PEER = 'qemu-system-x86_64'

/** Whether the QEMU that machines are compared with is installed. */
export function hasPeer(): boolean {
  const { stdout } = spawnSync(PEER, ['--version'], { encoding: 'utf8' })
  return (stdout ?? '').includes('version 7.2')
}

/** A QEMU whose guest never runs: its registers are reached by its test interface, its devices by QMP. */
export class Peer {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #socket: Socket
  readonly #replies: AsyncIterator<string>

  private constructor(child: ChildProcess, socket: Socket) {
    this.#process = child
    this.#socket = socket
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
    this.#replies = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  /** `folder` is where its socket is. */
  static async start(folder: string, args: readonly string[]): Promise<Peer> {
    const path = join(folder, 'peer')
    const base = ['-S', '-nodefaults', '-display', 'none', '-qtest', 'stdio']
    const qmp = ['-qmp', `unix:${path},server=on,wait=off`]
    const child = spawn(PEER, [...base, ...qmp, ...args], { stdio: ['pipe', 'pipe', 'ignore'] })
    try {
      const peer = new Peer(child, await Peer.#connect(child, path))
      await peer.qmp('qmp_capabilities')
      return peer
    } catch (error) {
      // The test would wait for its end.
      child.kill()
      throw error
    }
  }

  /** Connects once it listens: its socket has a name some time before that. */
  static async #connect(child: ChildProcess, path: string): Promise<Socket> {
    for (let i = 0; i < 1000 && child.exitCode === null; i++) {
      const socket = connect(path)
      try {
        await once(socket, 'connect')
        return socket
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
      }
      await setTimeout(10)
    }
    throw new Error(`${PEER} does not start`)
  }

  /** Resolves to what the test interface answers. */
  async ask(line: string): Promise<number> {
    this.#process.stdin!.write(`${line}\n`)
    for (;;) {
      const { value, done } = await this.#lines.next()
      if (done === true) throw new Error(`${PEER} ended`)
      if (value.startsWith('OK')) return Number(value.slice(3) || 0)
    }
  }

  /** Resolves to the text of an error, or undefined. */
  async qmp(execute: string, args: Record<string, unknown> = {}): Promise<string | undefined> {
    this.#socket.write(JSON.stringify({ execute, arguments: args }))
    for (;;) {
      const { value, done } = await this.#replies.next()
      if (done === true) throw new Error(`${PEER} ended`)
      const message = JSON.parse(value) as { return?: unknown; error?: { desc: string } }
      if (message.error !== undefined) return message.error.desc
      if ('return' in message) return undefined
    }
  }

  end(): void {
    this.#socket.destroy()
    this.#process.kill()
  }
}
