import type { InetAddress, SocketAddress, SocketProtocol } from '../../chardev/address.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import type { KeySpec } from '../option.ts'
import type { SocketSettings } from '../settings.ts'

/** `sun_path` of a socket address, without the zero at its end. */
const MAX_PATH_BYTES = 107
/** A day: a longer time is a mistake, and timers cannot count much further. */
const MAX_RECONNECT_SECONDS = 86_400
const MAX_PORT = 65_535

const TLS = 'there is no TLS on character devices yet; leave it out, or put a TLS proxy in front'

/** Keys of QEMU's that are not supported. */
export const SOCKET_REFUSED: Readonly<Record<string, string>> = {
  'tls-creds': TLS,
  'tls-authz': TLS,
  websocket: 'there are no WebSockets here; a proxy such as websockify makes them of a TCP socket',
  tn3270: "there is no TN3270 terminal here; 'telnet=on' serves others",
}

/** Keys of `-chardev socket`, beside `path`. */
export const SOCKET_KEYS: readonly KeySpec[] = [
  { name: 'host', value: 'host', help: 'socket and udp: name or IP address, in place of path' },
  { name: 'port', value: 'number', help: 'its port; 0 lets a server have any that is free' },
  { name: 'to', value: 'number', help: 'socket with server=on: try ports up to this one' },
  { name: 'ipv4', value: 'on|off', help: 'socket and udp: use IPv4 (default: either)' },
  { name: 'ipv6', value: 'on|off', help: 'socket and udp: use IPv6 (default: either)' },
  { name: 'abstract', value: 'on|off', help: 'socket: path is in no folder (default: off)' },
  {
    name: 'tight',
    value: 'on|off',
    help: 'socket with abstract=on: off, the name is filled up with zeros, is required (default: on)',
  },
  {
    name: 'fd',
    value: 'number',
    help: 'socket: one that the process was given, in place of path; with server=on it listens',
  },
  {
    name: 'server',
    value: 'on|off',
    help: 'socket: wait to be connected to, one peer at a time (default: off, connect to the path)',
  },
  {
    name: 'wait',
    value: 'on|off',
    help: 'socket with server=on: the machine starts when somebody has connected (default: on)',
  },
  {
    name: 'reconnect',
    value: 'seconds',
    help: 'socket with server=off: connect again after so long, 0 is never (default: 0)',
  },
  { name: 'telnet', value: 'on|off', help: 'socket with server=on: speak telnet (default: off)' },
  { name: 'nodelay', value: 'on|off', help: 'socket: send small pieces at once (default: off)' },
  { name: 'delay', value: 'on|off', help: 'socket: the opposite of nodelay' },
]

/**
 * What keys of a socket say, whatever option they come from.
 * @throws CliError
 */
export function socketOf(values: ReadonlyMap<string, string>): SocketSettings {
  const server = flag(values, 'server') ?? false
  const address = addressOf(values, server)
  if (!server && values.has('wait')) {
    throw new CliError("'wait' option is incompatible with socket in client connect mode")
  }
  if (server && values.has('reconnect')) {
    throw new CliError("'reconnect' option is incompatible with socket in server listen mode")
  }
  return {
    address,
    protocol: protocolOf(values),
    noDelay: noDelayOf(values),
    server,
    wait: server && (flag(values, 'wait') ?? true),
    reconnect: reconnectSeconds(values.get('reconnect') ?? '0'),
  }
}

/**
 * The host and port of a server, or of a place to connect to.
 * @throws CliError
 */
export function inetOf(values: ReadonlyMap<string, string>, server: boolean): InetAddress {
  const port = values.get('port')
  if (port === undefined || port === '') throw new CliError("Parameter 'port' is missing")
  const [ipv4, ipv6] = [flag(values, 'ipv4'), flag(values, 'ipv6')]
  if (ipv4 === false && ipv6 === false) {
    throw new CliError('Cannot disable IPv4 and IPv6 at same time')
  }
  const inet: InetAddress = {
    host: values.get('host') ?? '',
    port: portNumber(port, 'port', server ? 0 : 1),
    ...(ipv4 !== undefined && { ipv4 }),
    ...(ipv6 !== undefined && { ipv6 }),
  }
  const to = values.get('to')
  if (to === undefined) return inet
  if (!server)
    throw new CliError("'to' is the last of the ports to listen at: it needs 'server=on'")
  return { ...inet, to: portNumber(to, 'to', inet.port) }
}

/** @throws CliError for what is not a number of a port, from `least` on */
export function portNumber(text: string, key: string, least: number): number {
  const port = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (port >= least && port <= MAX_PORT) return port
  throw new CliError(
    `Parameter '${key}' expects the number of a port from ${least} to ${MAX_PORT}, not '${text}'`,
  )
}

/** @throws CliError for a path that an address of a socket has no room for */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new CliError(
      `UNIX socket path '${path}' is too long; it must be less than ${MAX_PATH_BYTES + 1} bytes`,
    )
  }
  if (path.includes('\0')) throw new CliError('a UNIX socket path has no zero bytes in it')
}

function addressOf(values: ReadonlyMap<string, string>, server: boolean): SocketAddress {
  const given = ['path', 'fd', 'host'].filter((key) => values.has(key))
  if (given.length > 1) {
    throw new CliError(`Parameters '${given.join("' and '")}' exclude each other`)
  }
  const kind = given[0] ?? (values.has('port') ? 'host' : 'path')
  for (const [key, owner] of Object.entries(ADDRESS_KEYS)) {
    if (!values.has(key) || kind === owner) continue
    throw new CliError(`Parameter '${key}' belongs to '${owner}', not '${kind}'`)
  }
  if (kind === 'fd') return { type: 'fd', fd: inheritedFd(values.get('fd') ?? '') }
  if (kind === 'host') return { type: 'inet', ...inetOf(values, server) }
  return unixOf(values)
}

/** Which kind of address has a key. */
const ADDRESS_KEYS: Readonly<Record<string, string>> = {
  port: 'host',
  to: 'host',
  ipv4: 'host',
  ipv6: 'host',
  abstract: 'path',
  tight: 'path',
}

function unixOf(values: ReadonlyMap<string, string>): SocketAddress {
  const path = values.get('path')
  if (path === undefined || path === '') {
    throw new CliError("Parameter 'path' is missing, or 'host' and 'port', or 'fd'")
  }
  checkSocketPath(path)
  const abstract = flag(values, 'abstract') ?? false
  if (abstract && (flag(values, 'tight') ?? true)) {
    throw new CliError(
      "Parameter 'tight' can only be 'off': Node.js fills an abstract name up with zeros, so " +
        'give tight=off here and to the peer, or a path in a folder',
    )
  }
  return { type: 'unix', path, ...(abstract && { abstract }) }
}

function protocolOf(values: ReadonlyMap<string, string>): SocketProtocol {
  return flag(values, 'telnet') === true ? 'telnet' : 'tcp'
}

function noDelayOf(values: ReadonlyMap<string, string>): boolean {
  const [delay, noDelay] = [flag(values, 'delay'), flag(values, 'nodelay')]
  if (delay !== undefined && noDelay !== undefined) {
    throw new CliError("'delay' and 'nodelay' are mutually exclusive")
  }
  return noDelay ?? delay === false
}

function flag(values: ReadonlyMap<string, string>, key: string): boolean | undefined {
  const value = values.get(key)
  return value === undefined ? undefined : parseBool(value, key)
}

/** Standard streams are not sockets of a monitor. */
function inheritedFd(text: string): number {
  const fd = /^[0-9]{1,7}$/.test(text) ? Number(text) : -1
  if (fd > 2) return fd
  throw new CliError(`Parameter 'fd' expects the number of an open file above 2, not '${text}'`)
}

function reconnectSeconds(text: string): number {
  const seconds = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN
  if (seconds <= MAX_RECONNECT_SECONDS) return seconds
  throw new CliError(
    `Parameter 'reconnect' expects a number of seconds from 0 to ${MAX_RECONNECT_SECONDS}, ` +
      `not '${text}'`,
  )
}
