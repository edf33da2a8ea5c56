import type { Duplex } from 'node:stream'
import { ErrorCode, ErrorDomain, RpcError, VirtError } from './errors.ts'
import {
  MESSAGE_BYTES,
  MessageType,
  Program,
  Status,
  decode,
  encode,
  encodeError,
  encodeReply,
} from './message.ts'
import type { Header, Message } from './message.ts'
import { EVENT_MESSAGES, PROCEDURES, QEMU } from './procedures/index.ts'
import type { Args, EventMessages, EventName, ProcedureName, Result } from './procedures/index.ts'
import type { Procedure } from './procedures/procedure.ts'
import type { Value } from './codec.ts'
import { RpcStream } from './stream.ts'
import { Wire } from './wire.ts'

/** Calls of one connection that are under way: with more, it is not read until one is done. */
const CALLS = 32
/** Streams of one connection. */
const STREAMS = 64
const KEEPALIVE_MS = 5000
const KEEPALIVE_COUNT = 5
/** A peer that has not opened its connection by then is sent away. */
const OPEN_MS = 30_000
/** Until then it sends nothing long: whoever connects could have memory reserved otherwise. */
const BEFORE_OPEN_BYTES = 64 * 1024
/** The feature number by which a client asks for keepalive. */
const FEATURE_KEEPALIVE = 10
/** What may be called before {@link PROCEDURES.CONNECT_OPEN}. */
const BEFORE_OPEN: readonly string[] = [
  'AUTH_LIST',
  'CONNECT_OPEN',
  'CONNECT_CLOSE',
  'CONNECT_SUPPORTS_FEATURE',
]
/** Flag of {@link PROCEDURES.CONNECT_OPEN}. */
const OPEN_READ_ONLY = 1

/** One call of a client. */
export interface Call {
  readonly connection: ServerConnection
  /** The stream that the reply opens: for procedures that have one. */
  readonly stream: RpcStream
}

/** What answers calls, by procedure; those that are missing are answered with `NO_SUPPORT`. */
export type Handlers = {
  [N in ProcedureName]?: (args: Args<N>, call: Call) => Result<N> | Promise<Result<N>>
} & {
  MONITOR_COMMAND?: (
    args: Value<(typeof QEMU)['MONITOR_COMMAND']['args']>,
    call: Call,
  ) => Promise<Value<(typeof QEMU)['MONITOR_COMMAND']['result']>>
}

type AnyProcedure = Procedure<unknown, unknown>
type AnyHandler = (args: unknown, call: Call) => unknown

const TABLES = new Map(
  [
    [Program.REMOTE, PROCEDURES],
    [Program.QEMU, QEMU],
  ].map(([program, table]) => [
    program as number,
    new Map(
      Object.entries(table as Record<string, AnyProcedure>).map(([name, procedure]) => [
        procedure.number,
        { name, procedure },
      ]),
    ),
  ]),
)

export interface ServerConnectionOptions {
  /** Whether it came through the read-only socket. */
  readOnly?: boolean
  /** Whether others than the two ends could listen (default: no). */
  isSecure?: boolean
  /** How long a peer may take to open the connection, in milliseconds. */
  openTimeoutMs?: number
  /** Told of errors that no client caused. */
  onInternalError?: (error: unknown, procedure: string) => void
}

/** A call from its arrival to its reply. It does not keep the message. */
class PendingCall {
  /** Of the reply. */
  readonly header: Header
  name: string
  procedure: AnyProcedure | undefined
  args: unknown
  stream: RpcStream | undefined

  constructor({ program, version, procedure, serial }: Message) {
    this.header = {
      program,
      version,
      procedure,
      type: MessageType.REPLY,
      serial,
      status: Status.OK,
    }
    this.name = `${procedure}`
  }
}

/** The server's end of a connection: decodes calls, has them handled, and sends replies, events and streams. */
export class ServerConnection {
  readonly #wire: Wire
  readonly #handlers: Handlers
  readonly #options: ServerConnectionOptions
  readonly #streams = new Map<number, RpcStream>()
  readonly #closers = new Set<() => void>()
  readonly #opening: NodeJS.Timeout
  #calls = 0
  #isOpen = false
  #readOnly: boolean

  constructor(stream: Duplex, handlers: Handlers, options: ServerConnectionOptions = {}) {
    this.#handlers = handlers
    this.#options = options
    this.#readOnly = options.readOnly ?? false
    this.#wire = new Wire(stream, {
      message: (message) => this.#message(message),
      closed: (error) => this.#closed(error),
    })
    this.#wire.messageLimit = BEFORE_OPEN_BYTES
    this.#opening = setTimeout(
      () => this.close(new RpcError('E_TIMEOUT', 'the connection was not opened')),
      options.openTimeoutMs ?? OPEN_MS,
    ).unref()
  }

  get isReadOnly(): boolean {
    return this.#readOnly
  }

  get isSecure(): boolean {
    return this.#options.isSecure ?? true
  }

  get isClosed(): boolean {
    return this.#wire.isClosed
  }

  /** Calls `closer` when the connection has ended. @returns takes it back */
  onClose(closer: () => void): () => void {
    this.#closers.add(closer)
    return () => this.#closers.delete(closer)
  }

  close(error?: Error): void {
    this.#wire.close(error)
  }

  /** Tells of an event. */
  event<N extends EventName>(name: N, value: Value<EventMessages[N]['codec']>): void {
    const { number, codec } = EVENT_MESSAGES[name]
    const header = {
      program: Program.REMOTE,
      version: 1,
      procedure: number,
      type: MessageType.MESSAGE,
      serial: 0,
      status: Status.OK,
    }
    this.#wire.send(header, encode(codec as never, value as never))
  }

  #closed(error: Error | undefined): void {
    clearTimeout(this.#opening)
    const cut = error ?? new RpcError('E_CLOSED', 'the client closed the connection')
    for (const stream of this.#streams.values()) stream.cut(cut)
    for (const closer of this.#closers) closer()
    this.#closers.clear()
  }

  #message(message: Message): void {
    if (message.type === MessageType.STREAM) {
      // What is under way to a stream that has just ended is of no interest.
      this.#streams.get(message.serial)?.receive(message)
      return
    }
    if (message.type !== MessageType.CALL) {
      throw new RpcError('E_FRAME', `a message of type ${message.type} from a client`)
    }
    const reply = this.#call(message)
    // Most calls are answered at once, and a list of many domains makes thousands of them.
    if (reply === undefined) return
    this.#calls++
    if (this.#calls >= CALLS) this.#wire.hold(this)
    void reply.finally(() => {
      this.#calls--
      this.#wire.release(this)
    })
  }

  /** @returns undefined when the reply was sent, otherwise what resolves when it was */
  #call(message: Message): Promise<void> | undefined {
    const call = new PendingCall(message)
    try {
      const result = this.#handle(call, message)
      if (result instanceof Promise) {
        return result
          .then((value) => this.#reply(call, value))
          .catch((error: unknown) => this.#refuse(call, error))
      }
      this.#reply(call, result)
    } catch (error) {
      this.#refuse(call, error)
    }
    return undefined
  }

  /** @returns the result, or a promise of it */
  #handle(call: PendingCall, message: Message): unknown {
    const { name, procedure } = find(message)
    call.name = name
    call.procedure = procedure
    this.#allow(name, procedure)
    const handler = this.#handlers[name as ProcedureName] as AnyHandler | undefined
    if (handler === undefined) throw unsupported(name)
    call.args = decodeArgs(procedure, message)
    if (procedure.hasStream) call.stream = this.#openStream(call.header)
    return handler(call.args, { connection: this, stream: call.stream } as Call)
  }

  #reply({ header, name, procedure, args, stream }: PendingCall, result: unknown): void {
    const bytes = encodeReply(header, procedure!.result, result)
    this.#note(name, args)
    this.#wire.sendBytes(bytes)
    stream?.opened()
    if (name === 'CONNECT_CLOSE') this.#wire.end()
  }

  #refuse({ header, name, stream }: PendingCall, error: unknown): void {
    stream?.cut(error as Error)
    const payload = encodeError(this.#toVirtError(error, name))
    this.#wire.send({ ...header, status: Status.ERROR }, payload)
  }

  /** @throws VirtError when the client has too many, or this one already */
  #openStream(header: Header): RpcStream {
    const { serial } = header
    const refuse = (code: number, text: string, domain: number): never => {
      throw new VirtError(code, text, { domain })
    }
    if (this.#streams.has(serial)) {
      refuse(ErrorCode.RPC, `a stream with the serial ${serial} is open`, ErrorDomain.RPC)
    }
    if (this.#streams.size >= STREAMS) {
      const text = `${STREAMS} streams of this client are open`
      refuse(ErrorCode.RESOURCE_BUSY, text, ErrorDomain.STREAMS)
    }
    const stream: RpcStream = new RpcStream(this.#wire, header, 'server', () => {
      // Another one may have the serial by now.
      if (this.#streams.get(serial) === stream) this.#streams.delete(serial)
    })
    this.#streams.set(serial, stream)
    return stream
  }

  #allow(name: string, procedure: AnyProcedure): void {
    if (!this.#isOpen && !BEFORE_OPEN.includes(name)) {
      throw new VirtError(ErrorCode.INTERNAL_ERROR, 'connection not open', {
        domain: ErrorDomain.RPC,
      })
    }
    if (this.#readOnly && !procedure.isRead) throw denied(name)
  }

  /** What calls mean for the connection itself. */
  #note(name: string, args: unknown): void {
    if (name === 'CONNECT_OPEN') {
      this.#isOpen = true
      this.#wire.messageLimit = MESSAGE_BYTES
      clearTimeout(this.#opening)
      // A connection can give up its rights, never gain them.
      if (((args as Args<'CONNECT_OPEN'>).flags & OPEN_READ_ONLY) !== 0) this.#readOnly = true
    }
    if (name === 'CONNECT_SUPPORTS_FEATURE') {
      const { feature } = args as Args<'CONNECT_SUPPORTS_FEATURE'>
      if (feature === FEATURE_KEEPALIVE) this.#wire.startKeepAlive(KEEPALIVE_MS, KEEPALIVE_COUNT)
    }
  }

  #toVirtError(error: unknown, name: string): VirtError {
    if (error instanceof VirtError) return error
    this.#options.onInternalError?.(error, name)
    const text = error instanceof Error ? error.message : String(error)
    return new VirtError(ErrorCode.INTERNAL_ERROR, `internal error: ${text}`, { cause: error })
  }
}

function find(message: Message): { name: string; procedure: AnyProcedure } {
  const table = message.version === 1 ? TABLES.get(message.program) : undefined
  if (table === undefined) {
    const text = `Cannot find program ${message.program} version ${message.version}`
    throw new VirtError(ErrorCode.RPC, text, { domain: ErrorDomain.RPC })
  }
  const found = table.get(message.procedure)
  if (found === undefined) throw unsupported(`procedure ${message.procedure}`)
  return found
}

function decodeArgs(procedure: AnyProcedure, message: Message): unknown {
  try {
    return decode(procedure.args, message.payload)
  } catch (error) {
    const text = `Unable to decode message payload: ${(error as Error).message}`
    throw new VirtError(ErrorCode.RPC, text, { domain: ErrorDomain.RPC, cause: error })
  }
}

function unsupported(name: string): VirtError {
  return new VirtError(
    ErrorCode.NO_SUPPORT,
    `this function is not supported by the connection driver: ${apiName(name)}`,
  )
}

/** The refusal of a connection that may only read. */
export function denied(name: string): VirtError {
  return new VirtError(
    ErrorCode.OPERATION_DENIED,
    `operation forbidden: read only access prevents ${apiName(name)}`,
  )
}

/** The name of the function in libvirt's library that makes the call, which users know. */
function apiName(name: string): string {
  if (!/^[A-Z_]+$/.test(name)) return name
  const words = name.split('_').map((word) => {
    const isWhole = ['XML', 'UUID', 'CPU', 'DHCP', 'OS'].includes(word)
    return isWhole ? word : word.charAt(0) + word.slice(1).toLowerCase()
  })
  return `vir${words.join('')}`
}
