import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

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
    for (let i = 0; !existsSync(path); i++) {
      if (i > 1000 || child.exitCode !== null) throw new Error(`${PEER} does not start`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    const peer = new Peer(child, connect(path))
    await peer.qmp('qmp_capabilities')
    return peer
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
