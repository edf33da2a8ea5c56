import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Value } from './codec.ts'
import { RpcError } from './errors.ts'
import { MessageType, Program, Status, decode, decodeError, encode } from './message.ts'
import type { Message } from './message.ts'
import { EVENT_MESSAGES, PROCEDURES, QEMU } from './procedures/index.ts'
import type { Args, EventMessages, EventName, ProcedureName, Result } from './procedures/index.ts'
import type { Procedure } from './procedures/procedure.ts'
import { RpcStream } from './stream.ts'
import type { Flow } from './stream.ts'
import { connectTls } from './tls.ts'
import type { TlsCredentials } from './tls.ts'
import { Wire } from './wire.ts'

const AUTH_NONE = 0
const FEATURE_KEEPALIVE = 10
const FEATURE_EVENT_CALLBACKS = 14
const MAX_SERIAL = 0xffffffff

/**
 * Where a daemon listens: the path of a UNIX socket, a TCP port, usually 16514 with `tls`, or a stream that is connected
 * already.
 */
export type Endpoint =
  | { path: string }
  | { host?: string; port: number; tls?: TlsCredentials }
  | { stream: Duplex }

export interface ClientOptions {
  /** What to open, without transport and query (default: `qemu:///system`). */
  uri?: string
  /** Gives up the right to change anything. */
  readOnly?: boolean
  /** Asks the daemon every so many milliseconds whether it is there (default: 5000; 0 is never). */
  keepAliveMs?: number
  /** How often it may stay silent in a row (default: 5). */
  keepAliveCount?: number
}

/** What is kept of a stream that nobody reads, so that a call is answered all the same. */
const UNREAD_BYTES = 64 * 1024 * 1024

interface Pending {
  procedure: Procedure<unknown, unknown>
  resolve(result: unknown): void
  reject(error: Error): void
  stream?: RpcStream
}

type Listener<N extends EventName> = (value: Value<EventMessages[N]['codec']>) => void

/**
 * A client of libvirt's protocol, typed by procedure.
 *
 * Calls reject with `VirtError` for what the daemon refuses and with `RpcError` when the connection fails; several may be
 * under way.
 */
export class Client {
  readonly #wire: Wire
  readonly #pending = new Map<number, Pending>()
  readonly #streams = new Map<number, RpcStream>()
  readonly #listeners = new Map<number, Set<(value: unknown) => void>>()
  readonly #ended: Promise<Error | undefined>
  #end: ((error: Error | undefined) => void) | undefined
  #serial = 0
  /** Streams with more than their readers have taken. */
  readonly #full = new Set<RpcStream>()
  /** All messages come one after the other: a reply may be behind what nobody has read of a stream. */
  readonly #flow: Flow = {
    hold: (stream) => {
      if (stream.readableLength > UNREAD_BYTES) {
        const text = `a stream has ${stream.readableLength} unread bytes while a call waits: read it, or give it a connection of its own`
        stream.destroy(new RpcError('E_LIMIT', text))
        return
      }
      this.#full.add(stream)
      this.#throttle()
    },
    release: (stream) => {
      this.#full.delete(stream)
      this.#throttle()
    },
  }

  private constructor(stream: Duplex) {
    this.#ended = new Promise((resolve) => {
      this.#end = resolve
    })
    this.#wire = new Wire(stream, {
      message: (message) => this.#message(message),
      closed: (error) => this.#closed(error),
    })
  }

  /** Connects, agrees on the protocol and opens the URI. Rejects as calls do, or with the system's error. */
  static async open(endpoint: Endpoint, options: ClientOptions = {}): Promise<Client> {
    const client = await Client.connect(endpoint)
    try {
      const { types } = await client.call('AUTH_LIST', undefined)
      if (!types.includes(AUTH_NONE)) {
        const told = types.join(', ')
        throw new RpcError(
          'E_VALUE',
          `the daemon wants authentication (${told}), which is not here`,
        )
      }
      const keepAliveMs = options.keepAliveMs ?? 5000
      if (keepAliveMs > 0) {
        const feature = { feature: FEATURE_KEEPALIVE }
        const { supported } = await client.call('CONNECT_SUPPORTS_FEATURE', feature)
        if (supported > 0) client.#wire.startKeepAlive(keepAliveMs, options.keepAliveCount ?? 5)
      }
      const flags = options.readOnly ? 1 : 0
      await client.call('CONNECT_OPEN', { uri: options.uri ?? 'qemu:///system', flags })
      await client.call('CONNECT_SUPPORTS_FEATURE', { feature: FEATURE_EVENT_CALLBACKS })
      return client
    } catch (error) {
      client.destroy()
      throw error
    }
  }

  /** Connects and does no more. */
  static async connect(endpoint: Endpoint): Promise<Client> {
    if ('stream' in endpoint) return new Client(endpoint.stream)
    if ('tls' in endpoint && endpoint.tls !== undefined) {
      return new Client(await connectTls(endpoint, endpoint.tls))
    }
    const socket = connect('path' in endpoint ? { path: endpoint.path } : { ...endpoint })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new Client(socket)
  }

  /** Resolves when the connection has ended, with the reason unless it was closed. */
  get ended(): Promise<Error | undefined> {
    return this.#ended
  }

  /** Calls a procedure. */
  call<N extends ProcedureName>(name: N, args: Args<N>): Promise<Result<N>> {
    const procedure = PROCEDURES[name] as unknown as Procedure<unknown, unknown>
    return this.#call(Program.REMOTE, procedure, args) as Promise<Result<N>>
  }

  /** Has the emulator of a domain run a command of its monitor. */
  async monitorCommand(args: Value<(typeof QEMU)['MONITOR_COMMAND']['args']>): Promise<string> {
    const procedure = QEMU.MONITOR_COMMAND as unknown as Procedure<unknown, unknown>
    const { result } = (await this.#call(Program.QEMU, procedure, args)) as { result: string }
    return result
  }

  /** Calls a procedure that opens a stream. */
  async openStream<N extends ProcedureName>(
    name: N,
    args: Args<N>,
  ): Promise<{ result: Result<N>; stream: RpcStream }> {
    const procedure = PROCEDURES[name] as unknown as Procedure<unknown, unknown>
    if (!procedure.hasStream) throw new RpcError('E_VALUE', `${name} opens no stream`)
    let stream: RpcStream | undefined
    const result = await this.#call(Program.REMOTE, procedure, args, (made) => {
      stream = made
    })
    return { result: result as Result<N>, stream: stream! }
  }

  /** Hears messages of one kind. Registering with the daemon is a call of its own. @returns stops it */
  on<N extends EventName>(name: N, listener: Listener<N>): () => void {
    const { number } = EVENT_MESSAGES[name]
    const listeners = this.#listeners.get(number) ?? new Set()
    this.#listeners.set(number, listeners)
    listeners.add(listener as (value: unknown) => void)
    return () => listeners.delete(listener as (value: unknown) => void)
  }

  /** Says goodbye and closes. */
  async close(): Promise<void> {
    if (this.#wire.isClosed) return
    await this.call('CONNECT_CLOSE', undefined).catch(() => undefined)
    this.#wire.close()
  }

  /** Closes at once. */
  destroy(): void {
    this.#wire.close()
  }

  #call(
    program: number,
    procedure: Procedure<unknown, unknown>,
    args: unknown,
    onStream?: (stream: RpcStream) => void,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#wire.isClosed) {
        reject(new RpcError('E_CLOSED', 'the connection is closed'))
        return
      }
      const payload = encode(procedure.args, args)
      const serial = this.#nextSerial()
      const type = MessageType.CALL
      const status = Status.OK
      const header = { program, version: 1, procedure: procedure.number, type, serial, status }
      const pending: Pending = { procedure, resolve, reject }
      if (onStream !== undefined) {
        const gone = (): void => void this.#streams.delete(serial)
        const stream = new RpcStream(this.#wire, header, 'client', gone, this.#flow)
        this.#streams.set(serial, stream)
        pending.stream = stream
        onStream(stream)
      }
      this.#pending.set(serial, pending)
      this.#throttle()
      this.#wire.send(header, payload)
    })
  }

  /** The daemon waits for readers of streams, as long as nobody waits for the daemon. */
  #throttle(): void {
    if (this.#full.size > 0 && this.#pending.size === 0) this.#wire.hold(this)
    else this.#wire.release(this)
  }

  #nextSerial(): number {
    do this.#serial = this.#serial === MAX_SERIAL ? 1 : this.#serial + 1
    while (this.#pending.has(this.#serial) || this.#streams.has(this.#serial))
    return this.#serial
  }

  #message(message: Message): void {
    if (message.type === MessageType.STREAM) {
      this.#streams.get(message.serial)?.receive(message)
      return
    }
    if (message.type === MessageType.MESSAGE) {
      this.#event(message)
      return
    }
    const pending = this.#pending.get(message.serial)
    // A daemon that answers what nobody asked has lost count.
    if (message.type !== MessageType.REPLY || pending === undefined) {
      const { type, serial } = message
      throw new RpcError('E_FRAME', `an unexpected message of type ${type} with serial ${serial}`)
    }
    this.#pending.delete(message.serial)
    this.#throttle()
    try {
      if (message.status !== Status.OK) throw decodeError(message.payload)
      const result = decode(pending.procedure.result, message.payload)
      pending.stream?.opened()
      pending.resolve(result)
    } catch (error) {
      pending.stream?.cut(error as Error)
      pending.reject(error as Error)
    }
  }

  #event({ procedure, payload }: Message): void {
    const listeners = this.#listeners.get(procedure)
    if (listeners === undefined || listeners.size === 0) return
    const kind = Object.values(EVENT_MESSAGES).find(({ number }) => number === procedure)!
    const value = decode<unknown>(kind.codec as never, payload)
    for (const listener of listeners) listener(value)
  }

  #closed(error: Error | undefined): void {
    const why = error ?? new RpcError('E_CLOSED', 'the connection was closed')
    for (const stream of this.#streams.values()) stream.cut(why)
    for (const { reject } of this.#pending.values()) reject(why)
    this.#pending.clear()
    this.#end?.(error)
  }
}
