import type { LinkSide } from 'virtio'

import type { BridgeNetConfig } from './bridge/config.ts'
import { openInBridge } from './bridge/open.ts'
import { parseBridgeOptions } from './bridge/options.ts'
import type { HubPortConfig, NetdevConfig } from './config.ts'
import { parseHubOptions } from './hub-options.ts'
import { type Hub, HubPort } from './hub.ts'
import type { NetOption } from './options.ts'
import type {
  DgramLine,
  DgramNetConfig,
  SocketNetConfig,
  StreamLine,
  StreamNetConfig,
} from './socket/config.ts'
import { DgramNet } from './socket/dgram-net.ts'
import { parseDgramOptions, parseSocketOptions, parseStreamOptions } from './socket/options.ts'
import { StreamNet } from './socket/stream-net.ts'
import type { TapNetConfig } from './tap/config.ts'
import { parseTapOptions } from './tap/options.ts'
import { TapNet, openInterface } from './tap/tap-net.ts'
import type { ForwardChange, UserNetConfig } from './user/config.ts'
import { parseUserOptions } from './user/options.ts'
import { LazyUserNet } from './user/lazy-net.ts'
import { UserNet } from './user/user-net.ts'
import type { UserNetHost } from './user/user-net.ts'

/** What a network card is connected to, while the machine exists. */
export interface Netdev {
  /** Resolves when it can be used; absent where that is at once. */
  readonly ready?: Promise<void>
  /** What monitors show of it, where that is not the same always. */
  readonly detail?: string
  /** What belongs to the state of a machine; absent where that is nothing. */
  save?(): unknown
  /** Goes on with the guest of a saved machine, which stands; undefined when that had no such network. @throws VmmError `E_STATE` */
  load?(state: unknown): void
  /** Only of networks in user mode. @throws VmmError `E_NETDEV` */
  changeForwards?(change: ForwardChange): void
  close(): void
}

/** What networks are opened with. */
export interface NetdevOpenHost extends UserNetHost {
  /** The hub with this number, which there is from now on. */
  hub(number: number): Hub
}

/** A kind of network that `-netdev` can name. */
export interface NetdevType {
  name: NetdevConfig['type']
  /** @throws VmmError `E_NETDEV` */
  parse(id: string, options: readonly NetOption[]): NetdevConfig
  /** Whether this is a description of one, as far as opening it depends on it. */
  accepts(config: NetdevConfig): boolean
  /** What monitors show of it. */
  detail(config: NetdevConfig): string
  /**
   * Makes it and attaches it to its side of a link.
   * @throws VmmError `E_NETDEV` for what the host does not give
   */
  open(config: NetdevConfig, side: LinkSide, host: NetdevOpenHost): Netdev
}

const user: NetdevType = {
  name: 'user',
  parse: parseUserOptions,
  accepts: ({ hostForwards }: UserNetConfig) => Array.isArray(hostForwards),
  detail: ({ ipv4, ipv6, restrict }: UserNetConfig) =>
    `net=${ipv4?.net ?? ipv6?.net},restrict=${restrict ? 'on' : 'off'}`,
  open(config: UserNetConfig, side, host) {
    if (config.hostForwards.length === 0) return new LazyUserNet(config, side, host)
    const net = new UserNet(config, host)
    net.attach(side)
    return net
  },
}

const socket: NetdevType = {
  name: 'socket',
  parse: parseSocketOptions,
  accepts: ({ stream, dgram }: SocketNetConfig) =>
    (stream !== undefined && isStream(stream)) || (dgram !== undefined && isDgram(dgram)),
  detail: () => '',
  open({ stream, dgram }: SocketNetConfig, side, { report }) {
    return stream === undefined
      ? new DgramNet(dgram!, side, report)
      : new StreamNet(stream, side, report)
  },
}

const stream: NetdevType = {
  name: 'stream',
  parse: parseStreamOptions,
  accepts: (config: StreamNetConfig) => isStream(config.stream),
  detail: () => '',
  open: (config: StreamNetConfig, side, { report }) => new StreamNet(config.stream, side, report),
}

const dgram: NetdevType = {
  name: 'dgram',
  parse: parseDgramOptions,
  accepts: (config: DgramNetConfig) => isDgram(config.dgram),
  detail: () => '',
  open: (config: DgramNetConfig, side, { report }) => new DgramNet(config.dgram, side, report),
}

const hubport: NetdevType = {
  name: 'hubport',
  parse: parseHubOptions,
  accepts: ({ hub }: HubPortConfig) => Number.isInteger(hub) && hub >= 0,
  detail: ({ hub }: HubPortConfig) => `hub=${hub}`,
  open: ({ hub }: HubPortConfig, side, host) => new HubPort(host.hub(hub), side),
}

const tap: NetdevType = {
  name: 'tap',
  parse: parseTapOptions,
  accepts: ({ ifname = '', fd = 3, script = '', downscript = '' }: TapNetConfig) =>
    Number.isInteger(fd) && [ifname, script, downscript].every((text) => typeof text === 'string'),
  detail: () => '',
  open: (config: TapNetConfig, side, { report }) =>
    new TapNet(config.id, openInterface(config), side, report),
}

const bridge: NetdevType = {
  name: 'bridge',
  parse: parseBridgeOptions,
  accepts: ({ br = '', helper = '' }: BridgeNetConfig) =>
    typeof br === 'string' && typeof helper === 'string',
  detail: () => '',
  open: (config: BridgeNetConfig, side, { report }) =>
    new TapNet(config.id, openInBridge(config), side, report),
}

/** All kinds. */
export const netdevTypes: readonly NetdevType[] = [
  socket,
  stream,
  dgram,
  hubport,
  tap,
  user,
  bridge,
]

function isStream(line: Partial<StreamLine> | undefined): boolean {
  return typeof line?.server === 'boolean' && typeof line.address === 'object'
}

function isDgram(line: Partial<DgramLine> | undefined): boolean {
  return typeof line?.isGroup === 'boolean'
}
