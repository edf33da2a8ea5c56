import type { UserNetConfig } from './user/config.ts'

/** What network cards are connected to: plain data, which may go to a worker. */
export type NetdevConfig = UserNetConfig

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
}
