import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { ServerConnection } from '../rpc/index.ts'

/** Registrations of one client. */
const MOST = 1000

interface Registration {
  kind: number
  /** Of the only object that matters. */
  uuid: string | undefined
}

interface Client {
  callbacks: Map<number, Registration>
  next: number
}

/** Which clients wait for which events of one sort of object. */
export class Callbacks {
  readonly #clients = new Map<ServerConnection, Client>()
  readonly #what: string
  readonly #kinds: number

  /**
   * @param what the sort of object, for messages: `domain`
   * @param kinds how many kinds of events the protocol has; those that do not happen here can be waited for as well
   */
  constructor(what: string, kinds: number) {
    this.#what = what
    this.#kinds = kinds
  }

  /** @throws VirtError for a kind of events that the protocol has not */
  check(kind: number): void {
    if (kind >= 0 && kind < this.#kinds) return
    const sort = this.#what === 'domain' ? '' : `${this.#what} `
    const text = `internal error: unsupported ${sort}event ID ${kind}`
    throw new VirtError(ErrorCode.INTERNAL_ERROR, text)
  }

  /** @returns the id that the events come with @throws VirtError */
  register(connection: ServerConnection, kind: number, uuid: string | undefined): number {
    this.check(kind)
    const client = this.#client(connection)
    if (client.callbacks.size >= MOST) {
      const text = `${MOST} event callbacks are registered: deregister one`
      throw new VirtError(ErrorCode.RESOURCE_BUSY, text)
    }
    const id = client.next++
    client.callbacks.set(id, { kind, uuid })
    return id
  }

  /** @throws VirtError */
  deregister(connection: ServerConnection, id: number): void {
    if (this.#clients.get(connection)?.callbacks.delete(id)) return
    const text = `internal error: ${this.#what} event callback ${id} not registered`
    throw new VirtError(ErrorCode.INTERNAL_ERROR, text)
  }

  /** Tells whoever waits for an event of an object. */
  send(
    kind: number,
    uuid: string,
    tell: (connection: ServerConnection, callbackId: number) => void,
  ): void {
    for (const [connection, { callbacks }] of this.#clients) {
      for (const [id, wanted] of callbacks) {
        if (wanted.kind !== kind) continue
        if (wanted.uuid === undefined || wanted.uuid === uuid) tell(connection, id)
      }
    }
  }

  #client(connection: ServerConnection): Client {
    const known = this.#clients.get(connection)
    if (known !== undefined) return known
    const client: Client = { callbacks: new Map(), next: 0 }
    this.#clients.set(connection, client)
    connection.onClose(() => this.#clients.delete(connection))
    return client
  }
}
