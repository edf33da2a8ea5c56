import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { type Server, type Socket, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A program, and its arguments, that serves one connection with its standard input and output. */
export interface GuestCommand {
  command: readonly [string, ...string[]]
}

/**
 * A server of the guest's network that is a command: each connection starts a process of its own, without a shell, as
 * QEMU's `guestfwd=…-cmd:` does. It listens on a socket in a folder that nobody else may enter.
 */
export class CommandServer {
  /** Where connections go. */
  readonly path: string
  readonly #command: readonly [string, ...string[]]
  readonly #report: (message: string) => void
  readonly #folder: string
  readonly #server: Server
  readonly #running = new Map<ChildProcess, Socket>()

  constructor({ command }: GuestCommand, report: (message: string) => void) {
    this.#command = command
    this.#report = report
    this.#folder = mkdtempSync(join(tmpdir(), 'guestfwd-'))
    this.path = join(this.#folder, 'socket')
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
    this.#server.on('error', (error) => this.#fail(error))
    this.#server.listen(this.path)
    this.#server.unref()
  }

  /** Ends it, and what it has started. */
  close(): void {
    this.#server.close()
    for (const [child, socket] of this.#running) {
      child.kill()
      socket.destroy()
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #serve(socket: Socket): void {
    const [program, ...args] = this.#command
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#running.set(child, socket)
    socket.pipe(child.stdin)
    child.stdout.pipe(socket)
    // Either may be gone before the other has noticed.
    child.stdin.on('error', () => {})
    socket.on('error', () => {})
    child.on('error', (error) => {
      this.#fail(error)
      socket.destroy()
    })
    child.on('close', () => this.#running.delete(child))
    socket.on('close', () => child.kill())
    child.unref()
  }

  #fail(error: Error): void {
    this.#report(`guestfwd: cmd:${this.#command.join(' ')}: ${error.message}`)
  }
}

/**
 * The words of a command line, with the quotes that shells have and nothing else of theirs; undefined where a quote does not
 * end, or there is no word.
 */
export function commandWords(text: string): [string, ...string[]] | undefined {
  const words: string[] = []
  let word: string | undefined
  const piece = /\s+|\\([^])|'([^']*)'|"((?:[^"\\]|\\[^])*)"|([^\s'"\\]+)|([^])/g
  for (const [whole, escaped, single, double, plain, stray] of text.matchAll(piece)) {
    if (stray !== undefined) return undefined
    const part = escaped ?? single ?? double?.replaceAll(/\\(["\\$`\n])/g, '$1') ?? plain
    if (part !== undefined) word = (word ?? '') + part
    else if (/^\s/.test(whole) && word !== undefined) {
      words.push(word)
      word = undefined
    }
  }
  if (word !== undefined) words.push(word)
  const [first, ...rest] = words
  return first === undefined ? undefined : [first, ...rest]
}
