import { Link } from 'virtio'
import type { LinkSide } from 'virtio'

import type { Entropy } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { NetdevConfig, NetworkCard, NetworkInfo } from './config.ts'
import { netdevTypes } from './netdev-types.ts'
import type { Netdev } from './netdev-types.ts'

/** What the networks of a machine are made with. */
export interface NetdevHost {
  entropy: Entropy
  log(message: string): void
}

interface Plugged extends Pick<NetworkInfo, 'type' | 'detail'> {
  link: Link
  netdev: Netdev
}

/** The back ends of a machine's network cards, each with a cable that one card can be plugged into. */
export class Netdevs {
  readonly #links = new Map<string, Plugged>()
  readonly #cards = new Map<string, NetworkCard>()

  readonly #host: NetdevHost

  constructor(host: NetdevHost) {
    this.#host = host
  }

  /**
   * Opens one.
   * @throws VmmError `E_NETDEV` for an id that another has, and for what the host does not give
   */
  add(config: NetdevConfig): void {
    const { entropy, log } = this.#host
    if (this.#links.has(config.id)) {
      throw new VmmError('E_NETDEV', `Duplicate ID '${config.id}' for netdev`, {
        fields: { id: config.id },
      })
    }
    const type = netdevTypes.find(({ name }) => name === config.type)
    if (type === undefined || !Array.isArray(config.hostForwards)) {
      const reason = type === undefined ? `type '${String(config.type)}'` : 'such a description'
      throw new VmmError(
        'E_NETDEV',
        `there is no netdev of ${reason}; let parseUserOptions make one of type 'user'`,
        { fields: { id: config.id } },
      )
    }
    const link = new Link()
    // The card asks its cable what the other end takes: so that is there first.
    const netdev = type.open(config, link.a, {
      nowUs: () => performance.now() * 1000,
      seed: seed(entropy),
      report: log,
    })
    const { name, detail } = type
    this.#links.set(config.id, { link, netdev, type: name, detail: detail(config) })
  }

  /** The end of a cable for a card. Throws `E_DEVICE_OPTION` when there is none of this name, or it is in use. */
  take(id: string, card: NetworkCard): LinkSide {
    const found = this.#links.get(id)
    const taken = this.#cards.get(id)?.name
    const owner = card.name
    if (found === undefined || taken !== undefined) {
      const known = [...this.#links.keys()].join(', ') || 'none'
      const problem =
        found === undefined
          ? `Property '${owner}.netdev' can't find value '${id}' (networks: ${known})`
          : `Property '${owner}.netdev' can't take value '${id}', it's in use by ${taken}`
      throw new VmmError('E_DEVICE_OPTION', problem, { fields: { device: owner, netdev: id } })
    }
    this.#cards.set(id, card)
    return found.link.b
  }

  list(): NetworkInfo[] {
    return Array.from(this.#links, ([id, { type, detail }]) => {
      const card = this.#cards.get(id)
      return { id, type, detail, ...(card && { card }) }
    })
  }

  /** Names those that no card is connected to. */
  warn(): void {
    for (const id of this.#links.keys()) {
      if (!this.#cards.has(id)) this.#host.log(`warning: netdev ${id} has no peer`)
    }
  }

  /** Its card is gone: another may have the cable. */
  release(id: string): void {
    this.#cards.delete(id)
    this.#links.get(id)?.link.b.detach()
  }

  close(): void {
    for (const { netdev } of this.#links.values()) netdev.close()
    this.#links.clear()
  }
}

/** 48 bits that nobody can guess. */
function seed(entropy: Entropy): number {
  const bytes = new Uint8Array(6)
  entropy.fill(bytes)
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0)
}
