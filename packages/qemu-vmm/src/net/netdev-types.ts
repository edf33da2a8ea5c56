import type { LinkSide } from 'virtio'

import type { NetdevConfig } from './config.ts'
import { parseUserOptions } from './user/options.ts'
import type { UserOption } from './user/options.ts'
import { UserNet } from './user/user-net.ts'
import type { UserNetHost } from './user/user-net.ts'

/** What a network card is connected to, while the machine exists. */
export interface Netdev {
  close(): void
}

/** A kind of it that `-netdev` can name. */
export interface NetdevType {
  name: NetdevConfig['type']
  /** @throws VmmError `E_NETDEV` */
  parse(id: string, options: readonly UserOption[]): NetdevConfig
  /** What monitors show of it. */
  detail(config: NetdevConfig): string
  /**
   * Makes it and attaches it to its side of a link.
   * @throws VmmError `E_NETDEV` for what the host does not give
   */
  open(config: NetdevConfig, side: LinkSide, host: UserNetHost): Netdev
}

/** All kinds. */
export const netdevTypes: readonly NetdevType[] = [
  {
    name: 'user',
    parse: parseUserOptions,
    detail: ({ ipv4, ipv6, restrict }) =>
      `net=${ipv4?.net ?? ipv6?.net},restrict=${restrict ? 'on' : 'off'}`,
    open(config, side, host) {
      const net = new UserNet(config, host)
      net.attach(side)
      return net
    },
  },
]
