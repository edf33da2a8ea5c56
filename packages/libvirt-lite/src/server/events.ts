import type { Domains } from '../driver/domains.ts'
import type { Notice } from '../driver/notice.ts'
import type { DomainRef, Handlers, ServerConnection, TypedParam } from '../rpc/index.ts'
import type { Pools } from '../storage/pools.ts'
import { Callbacks } from './callbacks.ts'

/** Of each kind of notice, its number of virDomainEventID. */
const NOTICES: Readonly<Record<Notice['kind'], number>> = {
  clock: 2,
  medium: 9,
  tray: 10,
  balloon: 13,
  'device-removed': 15,
  tunable: 17,
  'device-added': 19,
  'device-removal-failed': 22,
  metadata: 23,
}
const LIFECYCLE = 0
const REBOOT = 1
/** Kinds of events that the protocol has; those that do not happen here can be waited for as well. */
const KINDS = 27

/** Who is told of what. */
export class Events {
  readonly #callbacks = new Callbacks('domain', KINDS)
  /** Kinds that clients registered for in the old way, without an id; lifecycle events are told without a kind then. */
  readonly #legacy = new Map<ServerConnection, Set<number>>()

  constructor(domains: Domains) {
    domains.listen({
      lifecycle: (ref, event, detail) => this.#lifecycle(ref, event, detail),
      reboot: (ref) => this.#reboot(ref),
      notice: (ref, notice) => this.#notice(ref, notice),
    })
  }

  /** @returns the id that the events come with @throws VirtError */
  register(connection: ServerConnection, kind: number, uuid: string | undefined): number {
    return this.#callbacks.register(connection, kind, uuid)
  }

  /** @throws VirtError */
  deregister(connection: ServerConnection, id: number): void {
    this.#callbacks.deregister(connection, id)
  }

  /** @throws VirtError for a kind that there is not */
  legacy(connection: ServerConnection, kind: number, isOn: boolean): void {
    this.#callbacks.check(kind)
    const kinds = this.#legacy.get(connection)
    if (kinds !== undefined) {
      if (isOn) kinds.add(kind)
      else kinds.delete(kind)
    } else if (isOn) {
      this.#legacy.set(connection, new Set([kind]))
      connection.onClose(() => this.#legacy.delete(connection))
    }
  }

  #toLegacy(kind: number): ServerConnection[] {
    return [...this.#legacy].flatMap(([connection, kinds]) => (kinds.has(kind) ? connection : []))
  }

  #lifecycle(dom: DomainRef, event: number, detail: number): void {
    const message = { dom, event, detail }
    for (const connection of this.#toLegacy(LIFECYCLE)) {
      connection.event('DOMAIN_EVENT_LIFECYCLE', message)
    }
    this.#callbacks.send(LIFECYCLE, dom.uuid, (connection, callbackId) =>
      connection.event('DOMAIN_EVENT_CALLBACK_LIFECYCLE', { callbackId, message }),
    )
  }

  #reboot(dom: DomainRef): void {
    for (const connection of this.#toLegacy(REBOOT))
      connection.event('DOMAIN_EVENT_REBOOT', { dom })
    this.#callbacks.send(REBOOT, dom.uuid, (connection, callbackId) =>
      connection.event('DOMAIN_EVENT_CALLBACK_REBOOT', { callbackId, message: { dom } }),
    )
  }

  #notice(dom: DomainRef, notice: Notice): void {
    this.#callbacks.send(NOTICES[notice.kind], dom.uuid, (connection, callbackId) =>
      sendNotice(connection, { callbackId, dom }, notice),
    )
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
    case 'clock':
      connection.event('DOMAIN_EVENT_CALLBACK_RTC_CHANGE', {
        callbackId: head.callbackId,
        message: { dom: head.dom, offset: notice.offset },
      })
      break
    case 'tunable': {
      const { field, value } = notice
      const params: TypedParam[] = [{ field, type: 'string', value }]
      connection.event('DOMAIN_EVENT_CALLBACK_TUNABLE', { ...head, params })
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

/** Of the protocol, kinds of events of other objects. */
const OTHER_KINDS = { network: 1, 'node device': 2, secret: 2 } as const
const POOL_KINDS = 2
const POOL_LIFECYCLE = 0
const POOL_REFRESH = 1

export function eventHandlers(events: Events, pools: Pools): Handlers {
  const ofPools = new Callbacks('storage pool', POOL_KINDS)
  pools.listen({
    lifecycle: (pool, event) =>
      ofPools.send(POOL_LIFECYCLE, pool.uuid, (connection, callbackId) =>
        connection.event('STORAGE_POOL_EVENT_LIFECYCLE', { callbackId, pool, event, detail: 0 }),
      ),
    refresh: (pool) =>
      ofPools.send(POOL_REFRESH, pool.uuid, (connection, callbackId) =>
        connection.event('STORAGE_POOL_EVENT_REFRESH', { callbackId, pool }),
      ),
  })
  // Nothing ever happens to these here, but that can be waited for.
  const network = new Callbacks('network', OTHER_KINDS.network)
  const device = new Callbacks('node device', OTHER_KINDS['node device'])
  const secret = new Callbacks('secret', OTHER_KINDS.secret)
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
    CONNECT_NETWORK_EVENT_REGISTER_ANY: ({ event, net }, { connection }) => ({
      callbackId: network.register(connection, event, net?.uuid),
    }),
    CONNECT_NETWORK_EVENT_DEREGISTER_ANY({ callbackId }, { connection }) {
      network.deregister(connection, callbackId)
      return {}
    },
    CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY: ({ event, pool }, { connection }) => ({
      callbackId: ofPools.register(connection, event, pool?.uuid),
    }),
    CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY({ callbackId }, { connection }) {
      ofPools.deregister(connection, callbackId)
      return {}
    },
    CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY: ({ event, device: one }, { connection }) => ({
      callbackId: device.register(connection, event, one?.name),
    }),
    CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY({ callbackId }, { connection }) {
      device.deregister(connection, callbackId)
      return {}
    },
    CONNECT_SECRET_EVENT_REGISTER_ANY: ({ event, secret: one }, { connection }) => ({
      callbackId: secret.register(connection, event, one?.uuid),
    }),
    CONNECT_SECRET_EVENT_DEREGISTER_ANY({ callbackId }, { connection }) {
      secret.deregister(connection, callbackId)
      return {}
    },
  }
}
