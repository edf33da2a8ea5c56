import { Link } from 'virtio'
import type { LinkGate, LinkObserver, LinkPassage, LinkSide } from 'virtio'

import type { Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import { Announcer, DEFAULT_ANNOUNCEMENT, announcementFrame } from './announce.ts'
import type { Later } from './announce.ts'
import type { CardFilter, NetdevConfig, NetworkCard, NetworkChange, NetworkInfo } from './config.ts'
import { Hub } from './hub.ts'
import { netdevTypes } from './netdev-types.ts'
import type { Netdev, NetdevType } from './netdev-types.ts'
import type { ForwardChange } from './user/config.ts'

/** What the networks of a machine are made with. */
export interface NetdevHost {
  entropy: Entropy
  log(message: string): void
}

/** Where filters find the networks whose frames they hold back. */
export type GatedNetworks = Pick<Netdevs, 'addGate'>

interface Plugged {
  config: NetdevConfig
  type: NetdevType
  /** Absent for a hub's port that has a network in place of a card: it is at that network's cable. */
  link?: Link
  netdev: Netdev
}

/** A card, or the port of a hub that stands in for one. */
type Taker = NetworkCard | { name: string; port: true }

/** The back ends of a machine's network cards, each with a cable that one card can be plugged into. */
export class Netdevs {
  readonly #links = new Map<string, Plugged>()
  /** Who has the cables. */
  readonly #takers = new Map<string, Taker>()
  readonly #hubs = new Map<number, Hub>()
  readonly #host: NetdevHost
  readonly #announcer = new Announcer((cards) => this.#announce(cards))

  constructor(host: NetdevHost) {
    this.#host = host
  }

  /**
   * Opens one.
   * @throws VmmError `E_NETDEV` for an id that another has, and for what the host does not give
   */
  add(config: NetdevConfig): void {
    const { id } = config
    if (this.#links.has(id)) throw refused(`Duplicate ID '${id}' for netdev`, id)
    const type = netdevTypes.find(({ name }) => name === config.type)
    if (type?.accepts(config) !== true) {
      const reason = type === undefined ? `type '${String(config.type)}'` : 'such a description'
      throw refused(
        `there is no netdev of ${reason}; let parseUserOptions make one of type 'user'`,
        id,
      )
    }
    if (config.type === 'hubport' && config.netdev !== undefined) {
      const side = this.#takeCable(config.netdev, { name: id, port: true }, (problem) =>
        refused(problem, id),
      )
      this.#links.set(id, { config, type, netdev: this.#open(type, config, side) })
      return
    }
    const link = new Link()
    // The card asks its cable what the other end takes: so that is there first.
    const netdev = this.#open(type, config, link.a)
    this.#links.set(id, { config, type, link, netdev })
  }

  /**
   * Closes one. A card that is connected to it stays, with a cable that leads nowhere.
   * @throws VmmError `E_DEVICE_NOT_FOUND` when there is none of this name
   */
  remove(id: string): void {
    const found = this.#links.get(id)
    if (found === undefined) throw absent(id)
    found.netdev.close()
    found.link?.setUp(false)
    this.#links.delete(id)
    this.#takers.delete(id)
    if (found.config.type === 'hubport') this.#takers.delete(found.config.netdev ?? '')
  }

  /**
   * Adds, removes or unplugs one, or has cards announce themselves.
   * @throws VmmError as the three do; a network that cannot be used is not left behind
   */
  async change(change: NetworkChange): Promise<void> {
    if ('remove' in change) return this.remove(change.remove)
    if ('link' in change) return this.setLink(change.link, change.up)
    if ('forward' in change) return this.#forward(change.forward, change.netdev)
    if ('announce' in change) return this.#announcer.start(change.announce)
    this.add(change.add)
    try {
      await this.ready()
    } catch (error) {
      this.remove(change.add.id)
      throw error
    }
  }

  #forward(change: ForwardChange, id: string | undefined): void {
    const found =
      id === undefined
        ? [...this.#links.values()].find(({ netdev }) => netdev.changeForwards !== undefined)
        : this.#links.get(id)
    if (found === undefined && id !== undefined) throw absent(id)
    if (found?.netdev.changeForwards === undefined) {
      const name = id === undefined ? '' : ` named '${id}'`
      throw refused(`there is no network in user mode${name}`, id ?? '')
    }
    found.netdev.changeForwards(change)
  }

  /** Resolves when all that were opened can be used. Rejects with `E_NETDEV` that names the one that cannot. */
  async ready(): Promise<void> {
    for (const [id, { netdev }] of this.#links) {
      try {
        await netdev.ready
      } catch (error) {
        throw refused(`netdev ${id}: ${(error as Error).message}`, id, error)
      }
    }
  }

  /**
   * Pulls the cable of a card or a network out, or puts it in again.
   * @throws VmmError `E_DEVICE_NOT_FOUND` when there is none of this name
   */
  setLink(name: string, up: boolean): void {
    const link = this.#links.get(name)?.link ?? this.#links.get(this.#netdevOf(name) ?? '')?.link
    if (link === undefined) throw absent(name)
    link.setUp(up)
  }

  /**
   * Tells of the frames of a network; the returned function ends that.
   * @throws VmmError `E_NETDEV` when there is none of this name
   */
  observe(id: string, observer: (fromCard: boolean) => LinkObserver): () => void {
    const link = this.#links.get(id)?.link
    if (link === undefined) throw refused(`there is no netdev '${id}' with a card`, id)
    const [outgoing, incoming] = [observer(true), observer(false)]
    return link.observe((side, batch, from, to) =>
      (side === link.b ? outgoing : incoming)(side, batch, from, to),
    )
  }

  /**
   * Puts a gate in the way of the frames of a network, from its card or to it; the returned function takes it away.
   * @throws VmmError `E_NETDEV` when there is none of this name
   */
  addGate(id: string, fromCard: boolean, gate: (passage: LinkPassage) => LinkGate): () => void {
    const link = this.#links.get(id)?.link
    if (link === undefined) throw refused(`there is no netdev '${id}' with a card`, id)
    return link.addGate(fromCard ? link.b : link.a, gate)
  }

  /**
   * What cards let through: those that have filters, or the one with this name.
   * @throws VmmError `E_NETDEV` when there is none of this name, or it has no filter to show
   */
  filters(name?: string): CardFilter[] {
    const cards = [...this.#takers].filter(([, taker]) => 'mac' in taker)
    const wanted = cards.filter(([, taker]) => name === undefined || taker.name === name)
    if (wanted.length === 0 && name !== undefined) {
      throw refused(`invalid net client name: ${name}`, name)
    }
    return wanted.flatMap(([id, taker]) => {
      const filter = this.#links.get(id)?.link?.b.end?.rxFilter?.()
      if (filter !== undefined) return { ...filter, name: taker.name }
      if (name === undefined) return []
      throw refused(`net client(${name}) doesn't support rx-filter querying`, name)
    })
  }

  /** Says something to the user. */
  report(message: string): void {
    this.#host.log(message)
  }

  /** The end of a cable for a card. Throws `E_DEVICE_OPTION` when there is none of this name, or it is in use. */
  take(id: string, card: NetworkCard): LinkSide {
    return this.#takeCable(id, card, (problem) => {
      return new VmmError('E_DEVICE_OPTION', problem, { fields: { device: card.name, netdev: id } })
    })
  }

  list(): NetworkInfo[] {
    return Array.from(this.#links, ([id, { config, type, netdev }]) => {
      const taker = this.#takers.get(id)
      const card = taker !== undefined && 'mac' in taker ? taker : undefined
      return {
        id,
        type: config.type,
        detail: netdev.detail ?? type.detail(config),
        ...(card && { card }),
        ...(config.type === 'hubport' && { hub: config.hub }),
        ...(config.type === 'hubport' && config.netdev !== undefined && { netdev: config.netdev }),
      }
    })
  }

  /** Names those that no card is connected to. */
  warn(): void {
    for (const [id, { link }] of this.#links) {
      if (link === undefined || this.#takers.has(id)) continue
      this.#host.log(`warning: netdev ${id} has no peer`)
    }
  }

  /** Its card is gone: another may have the cable. */
  release(id: string): void {
    this.#takers.delete(id)
    this.#links.get(id)?.link?.b.detach()
  }

  /** What of them belongs to the state of a machine, by their names. */
  save(): Record<string, unknown> {
    const states: Record<string, unknown> = {}
    for (const [id, { netdev }] of this.#links) {
      if (netdev.save !== undefined) states[id] = netdev.save()
    }
    return states
  }

  /**
   * Goes on with the guest of a saved machine. One that its machine did not have knows nothing of a guest. The cards tell the
   * network that they are here now, once `later` comes, which waits until the machine runs.
   * @throws VmmError `E_STATE`
   */
  load(states: Record<string, unknown>, later: Later): void {
    for (const [id, { netdev }] of this.#links) {
      netdev.load?.(states[id])
    }
    this.#announcer.start(DEFAULT_ANNOUNCEMENT, later)
  }

  close(): void {
    this.#announcer.stop()
    for (const { netdev } of this.#links.values()) netdev.close()
    this.#links.clear()
  }

  #open(type: NetdevType, config: NetdevConfig, side: LinkSide): Netdev {
    const { entropy, log } = this.#host
    return type.open(config, side, {
      nowUs: () => performance.now() * 1000,
      isHostTime: true,
      seed: seed(entropy),
      report: log,
      hub: (number) => {
        const hub = this.#hubs.get(number) ?? new Hub()
        this.#hubs.set(number, hub)
        return hub
      },
    })
  }

  #takeCable(id: string, taker: Taker, problem: (text: string) => VmmError): LinkSide {
    const link = this.#links.get(id)?.link
    const owner = this.#takers.get(id)?.name
    if (link !== undefined && owner === undefined) {
      this.#takers.set(id, taker)
      return link.b
    }
    const known = [...this.#links.keys()].join(', ') || 'none'
    throw problem(
      link === undefined
        ? `Property '${taker.name}.netdev' can't find value '${id}' (networks: ${known})`
        : `Property '${taker.name}.netdev' can't take value '${id}', it's in use by ${owner}`,
    )
  }

  /** Cards with these names, or all. Those of a cable that was pulled out are not heard. */
  #announce(names: readonly string[]): void {
    for (const [id, taker] of this.#takers) {
      const side = this.#links.get(id)?.link?.b
      if (!('mac' in taker) || side === undefined) continue
      if (names.length > 0 && !names.includes(taker.name)) continue
      const mac = taker.mac.split(':').map((part) => Number.parseInt(part, 16))
      side.send(announcementFrame(mac))
      side.end?.announce?.()
    }
  }

  /** The network that a card is connected to. */
  #netdevOf(card: string): string | undefined {
    return [...this.#takers].find(([, taker]) => taker.name === card)?.[0]
  }
}

function absent(id: string): VmmError {
  return new VmmError('E_DEVICE_NOT_FOUND', `Device '${id}' not found`, { fields: { device: id } })
}

function refused(message: string, id: string, cause?: unknown): VmmError {
  return new VmmError('E_NETDEV', message, {
    fields: { id },
    ...(cause === undefined ? {} : { cause }),
  })
}

/** 48 bits that nobody can guess. */
function seed(entropy: Entropy): number {
  const bytes = new Uint8Array(6)
  entropy.fill(bytes)
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0)
}
