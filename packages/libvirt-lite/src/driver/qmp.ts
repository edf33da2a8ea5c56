import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { ErrorCode, VirtError } from '../rpc/index.ts'

/** No answer and no event of a monitor is longer; a process that sends more is not an emulator of ours. */
const LINE_CHARS = 16 * 1024 * 1024
/** An emulator that does not answer for so long hangs. */
const COMMAND_MS = 30_000

/** No answer has as many objects inside each other; to read millions of them would take the memory of many more. */
const DEPTH = 64

/** What a monitor tells by itself. */
export interface QmpEvent {
  event: string
  data?: Readonly<Record<string, unknown>>
}

/** A field of an event that is a text; empty when it is none. */
export function textIn(data: QmpEvent['data'], field: string): string {
  const value = data?.[field]
  return typeof value === 'string' ? value : ''
}

export interface QmpEvents {
  event(event: QmpEvent): void
  /** Once, when nothing more can come; `isBroken` when it said what is no message of a monitor. */
  closed(isBroken: boolean): void
}

interface Pending {
  resolve(value: unknown): void
  reject(error: Error): void
  timer: NodeJS.Timeout
}

/** The monitor said what is no message of one: nothing that it says later can be believed. */
export class BrokenMonitor extends VirtError {
  constructor() {
    super(
      ErrorCode.OPERATION_FAILED,
      "the emulator's monitor said what is no message of the QEMU Machine Protocol",
    )
  }
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
  #isBroken = false
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
    })) as { error?: unknown; return?: unknown }
    if (reply.error === undefined) return reply.return
    const desc = isObject(reply.error) ? reply.error['desc'] : undefined
    const reason = typeof desc === 'string' ? desc : 'no reason given'
    const text = `internal error: unable to execute QEMU command '${command}': ${reason}`
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
      this.#break()
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
    for (const line of lines) if (line.trim() !== '' && !this.#isBroken) this.#line(line)
  }

  #line(line: string): void {
    const message = parse(line)
    if (message === undefined) {
      this.#break()
      return
    }
    const { event, data } = message
    if (typeof event === 'string') {
      this.#events.event({ event, ...(isObject(data) ? { data } : {}) })
      return
    }
    if ('QMP' in message) {
      clearTimeout(this.#greeting?.timer)
      this.#greeting?.resolve(message['QMP'])
      this.#greeting = undefined
      return
    }
    const { id } = message
    const pending = typeof id === 'string' ? this.#pending.get(id) : undefined
    if (pending === undefined) return
    this.#pending.delete(id as string)
    clearTimeout(pending.timer)
    pending.resolve(message)
  }

  #break(): void {
    this.#isBroken = true
    this.#socket.destroy()
    // Lines behind it are not read any more.
    this.#closed()
  }

  #closed(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const all = [...this.#pending.values(), ...(this.#greeting ? [this.#greeting] : [])]
    for (const { reject, timer } of all) {
      clearTimeout(timer)
      reject(this.#isBroken ? new BrokenMonitor() : closedError())
    }
    this.#pending.clear()
    this.#events.closed(this.#isBroken)
  }
}

/** What a monitor sends is an object; undefined for anything else. The emulator's guest may have taken it over. */
function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  if (isDeep(line)) return undefined
  try {
    const message: unknown = JSON.parse(line)
    return isObject(message) ? message : undefined
  } catch {
    return undefined
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Whether arrays and objects are too deep inside each other, as far as this is JSON. */
function isDeep(text: string): boolean {
  let depth = 0
  let isQuoted = false
  for (let at = 0; at < text.length; at++) {
    const character = text[at]
    if (isQuoted) {
      if (character === '\\') at++
      else if (character === '"') isQuoted = false
    } else if (character === '"') isQuoted = true
    else if (character === '{' || character === '[') {
      if (++depth > DEPTH) return true
    } else if (character === '}' || character === ']') depth--
  }
  return false
}

function closedError(): VirtError {
  return new VirtError(ErrorCode.OPERATION_FAILED, "the emulator's monitor is closed")
}
