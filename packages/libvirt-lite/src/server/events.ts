import type { Domains } from '../driver/domains.ts'
import type { Notice } from '../driver/notice.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers, ServerConnection } from '../rpc/index.ts'

/** Of each kind of notice, its number of virDomainEventID. */
const NOTICES: Readonly<Record<Notice['kind'], number>> = {
  medium: 9,
  tray: 10,
  balloon: 13,
  'device-removed': 15,
  'device-added': 19,
  'device-removal-failed': 22,
  metadata: 23,
}
const LIFECYCLE = 0
const REBOOT = 1
/** Kinds of events that the protocol has; those that do not happen here can be waited for as well. */
const KINDS = 27
/** Registrations of one client. */
const MOST = 1000

interface Registration {
  kind: number
  /** Of the only domain that matters. */
  uuid: string | undefined
}

interface Client {
  callbacks: Map<number, Registration>
  /** Kinds that it registered for in the old way, without an id; lifecycle events are told without a kind then. */
  legacy: Set<number>
  next: number
}

/** Who is told of what. */
export class Events {
  readonly #clients = new Map<ServerConnection, Client>()

  constructor(domains: Domains) {
    domains.listen({
      lifecycle: (ref, event, detail) => this.#lifecycle(ref, event, detail),
      reboot: (ref) => this.#reboot(ref),
      notice: (ref, notice) => this.#notice(ref, notice),
    })
  }

  /** @returns the id that the events come with */
  register(connection: ServerConnection, kind: number, uuid: string | undefined): number {
    if (kind < 0 || kind >= KINDS) {
      throw new VirtError(ErrorCode.INVALID_ARG, `invalid argument: unsupported event ID ${kind}`)
    }
    const client = this.#client(connection)
    if (client.callbacks.size >= MOST) {
      throw new VirtError(
        ErrorCode.RESOURCE_BUSY,
        `${MOST} event callbacks are registered: deregister one`,
      )
    }
    const id = client.next++
    client.callbacks.set(id, { kind, uuid })
    return id
  }

  deregister(connection: ServerConnection, id: number): void {
    if (this.#clients.get(connection)?.callbacks.delete(id)) return
    throw new VirtError(
      ErrorCode.INTERNAL_ERROR,
      `internal error: domain event callback ${id} not registered`,
    )
  }

  legacy(connection: ServerConnection, kind: number, isOn: boolean): void {
    const { legacy } = this.#client(connection)
    if (isOn) legacy.add(kind)
    else legacy.delete(kind)
  }

  #client(connection: ServerConnection): Client {
    const known = this.#clients.get(connection)
    if (known !== undefined) return known
    const client: Client = { callbacks: new Map(), legacy: new Set(), next: 0 }
    this.#clients.set(connection, client)
    connection.onClose(() => this.#clients.delete(connection))
    return client
  }

  #lifecycle(dom: DomainRef, event: number, detail: number): void {
    const message = { dom, event, detail }
    for (const [connection, client] of this.#clients) {
      if (client.legacy.has(LIFECYCLE)) connection.event('DOMAIN_EVENT_LIFECYCLE', message)
      for (const callbackId of idsOf(client, LIFECYCLE, dom)) {
        connection.event('DOMAIN_EVENT_CALLBACK_LIFECYCLE', { callbackId, message })
      }
    }
  }

  #reboot(dom: DomainRef): void {
    for (const [connection, client] of this.#clients) {
      if (client.legacy.has(REBOOT)) connection.event('DOMAIN_EVENT_REBOOT', { dom })
      for (const callbackId of idsOf(client, REBOOT, dom)) {
        connection.event('DOMAIN_EVENT_CALLBACK_REBOOT', { callbackId, message: { dom } })
      }
    }
  }

  #notice(dom: DomainRef, notice: Notice): void {
    for (const [connection, client] of this.#clients) {
      for (const callbackId of idsOf(client, NOTICES[notice.kind], dom)) {
        sendNotice(connection, { callbackId, dom }, notice)
      }
    }
  }
}

function sendNotice(
  connection: ServerConnection,
  head: { callbackId: number; dom: DomainRef },
  notice: Notice,
): void {
  switch (notice.kind) {
    case 'device-added':
      connection.event('DOMAIN_EVENT_CALLBACK_DEVICE_ADDED', { ...head, alias: notice.alias })
      break
    case 'device-removed':
      connection.event('DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED', { ...head, alias: notice.alias })
      break
    case 'device-removal-failed':
      connection.event('DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED', {
        ...head,
        alias: notice.alias,
      })
      break
    case 'balloon':
      connection.event('DOMAIN_EVENT_CALLBACK_BALLOON_CHANGE', {
        ...head,
        actual: BigInt(notice.kib),
      })
      break
    case 'metadata': {
      const { type, uri } = notice
      connection.event('DOMAIN_EVENT_CALLBACK_METADATA_CHANGE', { ...head, type, uri })
      break
    }
    case 'medium': {
      const { from, to, alias } = notice
      // Whoever asked for another medium did so on purpose: no reason of virConnectDomainEventDiskChangeReason but 0 fits.
      const change = { oldPath: from, newPath: to, alias, reason: 0 }
      connection.event('DOMAIN_EVENT_CALLBACK_DISK_CHANGE', { ...head, ...change })
      break
    }
    case 'tray': {
      const { alias, isOpen } = notice
      const reason = isOpen ? 0 : 1
      connection.event('DOMAIN_EVENT_CALLBACK_TRAY_CHANGE', { ...head, alias, reason })
    }
  }
}

function idsOf({ callbacks }: Client, kind: number, { uuid }: DomainRef): number[] {
  return [...callbacks]
    .filter(([, it]) => it.kind === kind && (it.uuid === undefined || it.uuid === uuid))
    .map(([id]) => id)
}

/** Ids of callbacks for things that never happen to networks, pools and devices here yet: any id will do. */
let idle = 0

export function eventHandlers(events: Events): Handlers {
  const silent = () => ({ callbackId: idle++ % 0x7fffffff })
  return {
    CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: ({ event, dom }, { connection }) => ({
      callbackId: events.register(connection, event, dom?.uuid),
    }),
    CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY: ({ callbackId }, { connection }) => {
      events.deregister(connection, callbackId)
      return {}
    },
    CONNECT_DOMAIN_EVENT_REGISTER_ANY: ({ event }, { connection }) =>
      events.legacy(connection, event, true),
    CONNECT_DOMAIN_EVENT_DEREGISTER_ANY: ({ event }, { connection }) =>
      events.legacy(connection, event, false),
    CONNECT_DOMAIN_EVENT_REGISTER: (_args, { connection }) => {
      events.legacy(connection, LIFECYCLE, true)
      return { registered: 1 }
    },
    CONNECT_DOMAIN_EVENT_DEREGISTER: (_args, { connection }) => {
      events.legacy(connection, LIFECYCLE, false)
      return { registered: 0 }
    },
    CONNECT_NETWORK_EVENT_REGISTER_ANY: silent,
    CONNECT_NETWORK_EVENT_DEREGISTER_ANY: () => ({}),
    CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY: silent,
    CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY: () => ({}),
    CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY: silent,
    CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY: () => ({}),
  }
}
