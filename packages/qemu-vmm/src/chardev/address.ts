import { promises as dns } from 'node:dns'
import { fstatSync } from 'node:fs'
import { isIPv6 } from 'node:net'

import { VmmError } from '../errors.ts'

/** A place in the internet: QEMU's `InetSocketAddress`. */
export interface InetAddress {
  /** A name or an IP address. Empty for servers: every interface. */
  host: string
  /** 0 lets a server have any that is free. */
  port: number
  /** Only servers: the last of the ports that are tried. */
  to?: number
  /** Whether IPv4 and IPv6 may be used; one that is on while the other is not given is used alone. */
  ipv4?: boolean
  ipv6?: boolean
}

/** QEMU's `UnixSocketAddress`. */
export interface UnixAddress {
  path: string
  /** A name that is in no folder (unix(7)). */
  abstract?: boolean
}

export type SocketAddress =
  | ({ type: 'inet' } & InetAddress)
  | ({ type: 'unix' } & UnixAddress)
  | { type: 'fd'; fd: number }

/** What travels over a connection: bytes as they are, or with those of RFC 854. */
export type SocketProtocol = 'tcp' | 'telnet'

/** Where datagrams go to, and where they are received. */
export interface UdpAddresses {
  remote: InetAddress
  /** No host is every interface, port 0 any port. */
  local: InetAddress
}

/** An IP address, with the port behind it. */
export interface Endpoint {
  address: string
  port: number
}

/** What Node.js calls a UNIX socket: one in no folder has a zero in front, and zeros up to its full length behind. */
export function unixName({ path, abstract }: UnixAddress): string {
  return abstract === true ? `\0${path}` : path
}

/** An address as `info chardev` has it. */
export function addressText(address: SocketAddress, protocol: SocketProtocol): string {
  switch (address.type) {
    case 'inet':
      return `${protocol}:${address.host}:${address.port}`
    case 'unix':
      return `unix:${address.path}${address.abstract === true ? ',abstract=on' : ''}`
    case 'fd':
      return `fd:${address.fd}`
  }
}

/** An end of a connection as `info chardev` has it. */
export function endText(address: string, port: number): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`
}

/**
 * The IP addresses of a host, in the order to try them.
 * @param passive to listen at: no host is every interface
 * @throws VmmError `E_CHARDEV` when it has none
 */
export async function resolveInet(inet: InetAddress, passive: boolean): Promise<Endpoint[]> {
  const { host, port } = inet
  const family = familyOf(inet)
  if (host === '' && passive) return [{ address: family === 6 ? '::' : '0.0.0.0', port }]
  const failed = (cause?: unknown): VmmError =>
    new VmmError(
      'E_CHARDEV',
      `address resolution failed for ${host}:${port}: Name or service not known`,
      { fields: { host, port }, cause },
    )
  // No name is not another name of this host.
  if (host === '') throw failed()
  try {
    const found = await dns.lookup(host, { all: true, family, verbatim: true })
    if (found.length === 0) throw failed()
    return found.map(({ address }) => ({ address, port }))
  } catch (error) {
    throw error instanceof VmmError ? error : failed(error)
  }
}

/** @throws VmmError `E_CHARDEV` for a number that is not that of an open socket */
export function checkIsSocket(fd: number): void {
  try {
    if (fstatSync(fd).isSocket()) return
  } catch {
    // It is not open at all.
  }
  throw new VmmError('E_CHARDEV', `File descriptor '${fd}' is not a socket`, { fields: { fd } })
}

/** Whether a server at `::` leaves IPv4 alone. */
export function isIpv6Only({ ipv4, ipv6 }: InetAddress): boolean {
  return ipv4 === false || (ipv6 === true && ipv4 === undefined)
}

/** 0 where either may be used. */
function familyOf({ ipv4, ipv6 }: InetAddress): 0 | 4 | 6 {
  if (ipv6 === false || (ipv4 === true && ipv6 === undefined)) return 4
  if (ipv4 === false || (ipv6 === true && ipv4 === undefined)) return 6
  return 0
}
