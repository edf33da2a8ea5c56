import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { ErrorCode, VirtError } from '../rpc/index.ts'

/** No answer and no event of a monitor is longer; a process that sends more is not an emulator of ours. */
const LINE_CHARS = 16 * 1024 * 1024
/** An emulator that does not answer for so long hangs. */
const COMMAND_MS = 30_000

/** What a monitor tells by itself. */
export interface QmpEvent {
  event: string
  data?: Readonly<Record<string, unknown>>
}

export interface QmpEvents {
  event(event: QmpEvent): void
  /** Once, when nothing more can come. */
  closed(): void
}

interface Pending {
  resolve(value: unknown): void
  reject(error: Error): void
  timer: NodeJS.Timeout
}

/** A client of the QEMU Machine Protocol. */
export class QmpClient {
  readonly #socket: Duplex
  readonly #events: QmpEvents
  readonly #pending = new Map<string, Pending>()
  #greeting: Pending | undefined
  #buffer: string[] = []
  #length = 0
  #isClosed = false
  #next = 0

  private constructor(socket: Duplex, events: QmpEvents) {
    this.#socket = socket
    this.#events = events
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => this.#data(text))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#closed())
  }

  /** Connects to a monitor's socket and enables its commands. Rejects with the system's error or `VirtError`. */
  static async open(path: string, events: QmpEvents): Promise<QmpClient> {
    const socket = connect({ path })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return QmpClient.over(socket, events)
  }

  /** The same over a stream that is connected. */
  static async over(stream: Duplex, events: QmpEvents): Promise<QmpClient> {
    const client = new QmpClient(stream, events)
    try {
      await new Promise<unknown>((resolve, reject) => {
        client.#greeting = client.#pend('the greeting', resolve, reject)
      })
      await client.execute('qmp_capabilities')
    } catch (error) {
      stream.destroy()
      throw error
    }
    return client
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /**
   * Runs a command.
   *
   * @returns what the emulator returns; rejects with `VirtError` for what it refuses, for silence, and when it ends
   */
  async execute(command: string, args?: object): Promise<unknown> {
    const reply = (await this.converse({
      execute: command,
      ...(args === undefined ? {} : { arguments: args }),
    })) as { error?: { desc?: string }; return?: unknown }
    if (reply.error === undefined) return reply.return
    const text = `internal error: unable to execute QEMU command '${command}': ${reply.error.desc ?? 'no reason given'}`
    throw new VirtError(ErrorCode.INTERNAL_ERROR, text, { cause: reply.error })
  }

  /** Sends a request as it is, but for its id. @returns the whole reply, also one that refuses */
  converse(request: Readonly<Record<string, unknown>>): Promise<object> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) {
        reject(closedError())
        return
      }
      const id = `libvirt-${this.#next++}`
      const name = typeof request['execute'] === 'string' ? request['execute'] : 'a command'
      this.#pending.set(
        id,
        this.#pend(name, (reply) => resolve(reply as object), reject),
      )
      this.#socket.write(`${JSON.stringify({ ...request, id })}\n`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #pend(what: string, resolve: (value: unknown) => void, reject: (error: Error) => void): Pending {
    const timer = setTimeout(() => {
      const seconds = COMMAND_MS / 1000
      reject(
        new VirtError(
          ErrorCode.OPERATION_TIMEOUT,
          `the emulator's monitor did not answer ${what} within ${seconds} s`,
        ),
      )
    }, COMMAND_MS).unref()
    return { resolve, reject, timer }
  }

  #data(text: string): void {
    this.#length += text.length
    if (this.#length > LINE_CHARS) {
      this.#socket.destroy()
      return
    }
    if (!text.includes('\n')) {
      this.#buffer.push(text)
      return
    }
    const lines = (this.#buffer.join('') + text).split('\n')
    const rest = lines.pop()!
    this.#buffer = [rest]
    this.#length = rest.length
    for (const line of lines) if (line.trim() !== '') this.#line(line)
  }

  #line(line: string): void {
    let message: Record<string, unknown>
    try {
      message = JSON.parse(line) as Record<string, unknown>
    } catch {
      this.#socket.destroy()
      return
    }
    if ('event' in message) {
      this.#events.event(message as unknown as QmpEvent)
      return
    }
    if ('QMP' in message) {
      clearTimeout(this.#greeting?.timer)
      this.#greeting?.resolve(message['QMP'])
      this.#greeting = undefined
      return
    }
    const id = String(message['id'])
    const pending = this.#pending.get(id)
    if (pending === undefined) return
    this.#pending.delete(id)
    clearTimeout(pending.timer)
    pending.resolve(message)
  }

  #closed(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const all = [...this.#pending.values(), ...(this.#greeting ? [this.#greeting] : [])]
    for (const { reject, timer } of all) {
      clearTimeout(timer)
      reject(closedError())
    }
    this.#pending.clear()
    this.#events.closed()
  }
}

function closedError(): VirtError {
  return new VirtError(ErrorCode.OPERATION_FAILED, "the emulator's monitor is closed")
}
