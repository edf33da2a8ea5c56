import { isIP, isIPv4 } from 'node:net'

import { type NetOption, badOption, boolOption, netOptions } from '../options.ts'
import { descriptorNumber } from '../tap/options.ts'
import type {
  DgramLine,
  DgramNetConfig,
  InetAddress,
  SocketAddress,
  SocketNetConfig,
  StreamNetConfig,
} from './config.ts'

export const SOCKET_KEYS: readonly string[] = [
  'fd',
  'listen',
  'connect',
  'mcast',
  'udp',
  'localaddr',
]
export const STREAM_KEYS: readonly string[] = [
  'server',
  'addr.type',
  'addr.host',
  'addr.port',
  'addr.path',
  'addr.str',
]
export const DGRAM_KEYS: readonly string[] = [
  'local.type',
  'local.host',
  'local.port',
  'remote.type',
  'remote.host',
  'remote.port',
]
/** The longest path of a UNIX socket. */
const PATH_BYTES = 107

/**
 * What options of `-netdev socket` say.
 * @throws VmmError `E_NETDEV`, as the other two
 */
export function parseSocketOptions(id: string, options: readonly NetOption[]): SocketNetConfig {
  const values = netOptions('socket', options, SOCKET_KEYS)
  const kinds = ['fd', 'listen', 'connect', 'mcast', 'udp'].filter((key) => values.has(key))
  const [kind] = kinds
  if (kind === undefined || kinds.length > 1) {
    throw badOption('listen', 'exactly one of listen=, connect=, mcast=, udp= or fd= is required')
  }
  const local = values.get('localaddr')
  const isDgram = kind === 'mcast' || kind === 'udp'
  if (local !== undefined && !isDgram) {
    throw badOption('localaddr', 'localaddr= is only valid with mcast= or udp=')
  }
  if (kind === 'fd') {
    const fd = descriptorNumber('fd', values.get('fd') ?? '')
    return { type: 'socket', id, stream: { server: false, address: { fd } } }
  }
  const address = endpoint(kind, values.get(kind) ?? '')
  if (!isDgram) {
    if (kind === 'connect') checkConnect(kind, address)
    return { type: 'socket', id, stream: { server: kind === 'listen', address } }
  }
  if (kind === 'mcast') {
    if (!isGroupAddress(address.host)) throw notGroup(kind, address.host)
    const near = local === undefined ? {} : { local: { host: ip('localaddr', local), port: 0 } }
    return { type: 'socket', id, dgram: { ...near, remote: address, isGroup: true } }
  }
  if (local === undefined) throw badOption('localaddr', 'localaddr= is mandatory with udp=')
  checkConnect(kind, address)
  const near = endpoint('localaddr', local)
  return { type: 'socket', id, dgram: { local: near, remote: address, isGroup: false } }
}

/** What options of `-netdev stream` say. */
export function parseStreamOptions(id: string, options: readonly NetOption[]): StreamNetConfig {
  const values = netOptions('stream', options, STREAM_KEYS, {
    'addr.abstract': 'only sockets with a path can be used',
    'addr.to': 'the port is the one that is given',
    reconnect: 'QEMU 7.2 has no such option; a server can be connected to again',
  })
  const server = boolOption(values, 'server', false)
  const address = streamAddress(values)
  if (!server && 'host' in address) checkConnect('addr.host', address)
  return { type: 'stream', id, stream: { server, address } }
}

/** What options of `-netdev dgram` say. */
export function parseDgramOptions(id: string, options: readonly NetOption[]): DgramNetConfig {
  const values = netOptions('dgram', options, DGRAM_KEYS, {
    'local.str': 'a socket that was opened before cannot be given; use inet',
    'remote.str': 'a socket that was opened before cannot be given; use inet',
    'local.path': 'Node.js has no datagrams over UNIX sockets; use inet, or stream with unix',
    'remote.path': 'Node.js has no datagrams over UNIX sockets; use inet, or stream with unix',
  })
  const local = inet(values, 'local')
  const remote = inet(values, 'remote')
  if (remote !== undefined && isGroupAddress(remote.host)) {
    return { type: 'dgram', id, dgram: { ...(local && { local }), remote, isGroup: true } }
  }
  if (local === undefined) throw badOption('local', 'dgram requires local= parameter')
  if (remote !== undefined) checkConnect('remote.host', remote)
  const dgram: DgramLine = { local, ...(remote && { remote }), isGroup: false }
  return { type: 'dgram', id, dgram }
}

function streamAddress(values: ReadonlyMap<string, string>): SocketAddress {
  const type = values.get('addr.type')
  if (type === undefined) throw badOption('addr.type', "Parameter 'addr.type' is missing")
  const only = (wanted: string, ...keys: string[]): void => {
    for (const key of keys) {
      if (!values.has(key)) continue
      throw badOption(
        key,
        `Parameter '${key}' has no meaning with addr.type ${type}, but ${wanted}`,
      )
    }
  }
  if (type === 'unix') {
    only('inet', 'addr.host', 'addr.port')
    only('fd', 'addr.str')
    const path = values.get('addr.path') ?? ''
    const bytes = Buffer.byteLength(path)
    if (bytes > 0 && bytes <= PATH_BYTES && !path.includes('\0')) return { path }
    throw badOption('addr.path', `'addr.path' has ${bytes} bytes: it can have 1 to ${PATH_BYTES}`)
  }
  if (type === 'fd') {
    only('inet or unix', 'addr.host', 'addr.port', 'addr.path')
    return { fd: descriptorNumber('addr.str', values.get('addr.str') ?? '') }
  }
  only('fd', 'addr.str')
  const address = type === 'inet' ? inet(values, 'addr') : undefined
  if (address === undefined) {
    const problem = `does not accept value '${type}': use inet, unix or fd`
    throw badOption('addr.type', `Parameter 'addr.type' ${problem}`)
  }
  only('unix', 'addr.path')
  return address
}

/** The address below a key, as `local.type=inet,local.host=…,local.port=…`; undefined when there is none. */
function inet(values: ReadonlyMap<string, string>, key: string): InetAddress | undefined {
  const type = values.get(`${key}.type`)
  const host = values.get(`${key}.host`)
  const port = values.get(`${key}.port`)
  if (type === undefined && (host ?? port) === undefined) return undefined
  if (type !== 'inet') {
    const wrong = type === undefined ? 'is missing' : `does not accept value '${type}'`
    throw badOption(`${key}.type`, `Parameter '${key}.type' ${wrong}: use inet`)
  }
  return { host: host ?? '', port: portNumber(`${key}.port`, port ?? '0') }
}

/** `HOST:PORT`, `[IPv6]:PORT` or `:PORT`. */
function endpoint(key: string, text: string): InetAddress {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([^:]+)$/.exec(text)
  if (match === null) {
    throw badOption(
      key,
      `Parameter '${key}' is '${text}': an address and a port, as 127.0.0.1:1234`,
    )
  }
  return { host: match[1] ?? match[2] ?? '', port: portNumber(key, match[3] ?? '') }
}

function portNumber(key: string, text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
  if (port <= 65_535) return port
  throw badOption(key, `Parameter '${key}' has the port '${text}': it is a number up to 65535`)
}

/** Somewhere that can be sent to. */
function checkConnect(key: string, { host, port }: InetAddress): void {
  if (host !== '' && port !== 0) return
  throw badOption(key, `Parameter '${key}' needs an address and a port to send to`)
}

function ip(key: string, text: string): string {
  if (isIP(text) !== 0) return text
  throw badOption(key, `Parameter '${key}' is '${text}': the IP address of an interface`)
}

function isGroupAddress(host: string): boolean {
  return isIPv4(host) && Number(host.split('.')[0]) >> 4 === 14
}

function notGroup(key: string, host: string): Error {
  return badOption(
    key,
    `specified ${key} address "${host}" does not contain a multicast address: use 224.0.0.0 to 239.255.255.255`,
  )
}
