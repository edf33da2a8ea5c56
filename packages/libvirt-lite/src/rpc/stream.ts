import { Duplex } from 'node:stream'
import { VirtError, ErrorCode, ErrorDomain } from './errors.ts'
import { MessageType, Status, decodeError, encodeError } from './message.ts'
import type { Header, Message } from './message.ts'
import type { Wire } from './wire.ts'

/** The bytes of one message of a stream. */
const CHUNK_BYTES = 128 * 1024
/** Input that waits for its reader, before the connection is not read any more. */
const INPUT_BYTES = 1024 * 1024

/** What keeps the other end from sending more to a stream than its reader takes. */
export interface Flow {
  hold(stream: RpcStream): void
  release(stream: RpcStream): void
}

/**
 * Bytes in both directions beside the calls of a connection: a console, a volume.
 *
 * The client's end asks to finish, with everything sent, and the server's confirms when it has dealt with everything; the
 * server tells that nothing more comes from it by an empty piece. Each end may abort with an error.
 */
export class RpcStream extends Duplex {
  readonly #wire: Wire
  readonly #header: Header
  readonly #side: 'client' | 'server'
  readonly #gone: () => void
  readonly #flow: Flow
  /** What waits for the reply; undefined when it has passed. */
  #beforeOpen: (() => void)[] | undefined = []
  /** The other end asked to finish, or confirmed. */
  #peerFinished = false
  #inputEnded = false
  #finalSent = false
  #aborted = false
  #confirmed: ((error?: Error) => void) | undefined

  /** `gone` is called when no message belongs to the stream any more. */
  constructor(
    wire: Wire,
    call: Header,
    side: 'client' | 'server',
    gone: () => void,
    flow: Flow = wire,
  ) {
    super({
      allowHalfOpen: side === 'server',
      readableHighWaterMark: INPUT_BYTES,
      writableHighWaterMark: CHUNK_BYTES,
      decodeStrings: true,
    })
    this.#wire = wire
    this.#header = { ...call, type: MessageType.STREAM }
    this.#side = side
    this.#gone = gone
    this.#flow = flow
    // Whoever made the stream need not listen: its end is told by the reply or by the other side's error too.
    this.on('error', () => undefined)
  }

  /** The reply was sent or received: data may follow. */
  opened(): void {
    const waiting = this.#beforeOpen ?? []
    this.#beforeOpen = undefined
    for (const run of waiting) run()
  }

  #whenOpen(run: () => void): void {
    if (this.#beforeOpen === undefined) run()
    else this.#beforeOpen.push(run)
  }

  /** A message of the other end. */
  receive({ status, payload }: Message): void {
    if (this.destroyed) return
    if (status === Status.CONTINUE) {
      // Nothing follows the end, and who sends more must not hold up its connection.
      if (this.#inputEnded) return
      if (payload.length === 0) this.#endInput()
      else if (!this.push(payload)) this.#flow.hold(this)
    } else if (status === Status.OK) this.#finished()
    else this.#abortedByPeer(payload)
  }

  /** The connection ended. */
  cut(error: Error): void {
    this.#aborted = true
    this.destroy(error)
  }

  #endInput(): void {
    if (this.#inputEnded) return
    this.#inputEnded = true
    this.push(null)
  }

  #finished(): void {
    this.#peerFinished = true
    if (this.#side === 'client') {
      this.#gone()
      this.#confirmed?.()
      this.#endInput()
      return
    }
    if (this.#finalSent) {
      this.#send(Status.OK, Buffer.alloc(0))
      this.#gone()
    }
    this.#endInput()
  }

  #abortedByPeer(payload: Buffer): void {
    this.#aborted = true
    let error = new VirtError(ErrorCode.RPC, 'stream aborted at client request', {
      domain: ErrorDomain.STREAMS,
    })
    // As libvirt does: who aborts is told that this was done, not that it is an error.
    if (this.#side === 'server') this.#send(Status.OK, Buffer.alloc(0))
    else error = decodeError(payload)
    this.#confirmed?.(error)
    this.destroy(error)
  }

  #send(status: number, payload: Buffer, taken?: () => void): void {
    this.#wire.send({ ...this.#header, status }, payload, taken)
  }

  override _read(): void {
    this.#flow.release(this)
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#whenOpen(() => {
      if (this.destroyed || chunk.length === 0) return done()
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
        const isLast = at + CHUNK_BYTES >= chunk.length
        const piece = chunk.subarray(at, at + CHUNK_BYTES)
        this.#send(Status.CONTINUE, piece, isLast ? () => done() : undefined)
      }
    })
  }

  override _final(done: (error?: Error) => void): void {
    this.#whenOpen(() => {
      if (this.destroyed) return done()
      this.#finalSent = true
      if (this.#side === 'client') {
        if (this.#peerFinished) return done()
        this.#confirmed = done
        this.#send(Status.OK, Buffer.alloc(0))
        return
      }
      if (this.#peerFinished) {
        this.#send(Status.OK, Buffer.alloc(0), done)
        this.#gone()
      } else this.#send(Status.CONTINUE, Buffer.alloc(0), done)
    })
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#flow.release(this)
    const isOver = this.#peerFinished && (this.#finalSent || this.#side === 'client')
    if (!this.#aborted && !isOver && !this.#wire.isClosed) {
      const cause = error ?? new Error('the stream was closed before its end')
      const told =
        cause instanceof VirtError
          ? cause
          : new VirtError(ErrorCode.INTERNAL_ERROR, cause.message, { domain: ErrorDomain.STREAMS })
      this.#send(Status.ERROR, this.#side === 'server' ? encodeError(told) : Buffer.alloc(0))
    }
    this.#gone()
    done(error)
  }
}
