import type { RxFilter } from 'virtio'

import type { BridgeNetConfig } from './bridge/config.ts'
import type { DgramNetConfig, SocketNetConfig, StreamNetConfig } from './socket/config.ts'
import type { TapNetConfig } from './tap/config.ts'
import type { ForwardChange, UserNetConfig } from './user/config.ts'
import type { Announcement } from './announce.ts'

/** What network cards are connected to: plain data, which may go to a worker. */
export type NetdevConfig =
  | UserNetConfig
  | SocketNetConfig
  | StreamNetConfig
  | DgramNetConfig
  | HubPortConfig
  | TapNetConfig
  | BridgeNetConfig

/** A port of a hub, which there is as soon as it has one. */
export interface HubPortConfig {
  type: 'hubport'
  id: string
  /** Number of the hub, 0 to 2^31 - 1. */
  hub: number
  /** The network at the port, in place of a card. */
  netdev?: string
}

/** A network card, as monitors show it. */
export interface NetworkCard {
  /** Its id, or its model. */
  name: string
  model: string
  /** `52:54:00:12:34:56`. */
  mac: string
}

/** A network of a machine, and the card that is connected to it. */
export interface NetworkInfo {
  id: string
  type: NetdevConfig['type']
  /** What its type has to tell. */
  detail: string
  card?: NetworkCard
  /** The number of a port's hub, and the network that is at the port in place of a card. */
  hub?: number
  netdev?: string
}

/** What a card lets through. */
export interface CardFilter extends RxFilter {
  /** The card. */
  name: string
}

/** What can be done to the networks of a machine while it runs. */
export type NetworkChange =
  | { add: NetdevConfig }
  | { remove: string }
  /** The name is that of a network or of a card. */
  | { link: string; up: boolean }
  /** Of a network in user mode, by default the first. */
  | { forward: ForwardChange; netdev?: string }
  /** Has cards tell the network where they are. */
  | { announce: Announcement }
