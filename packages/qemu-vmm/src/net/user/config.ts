import type { GuestCommand } from './command-server.ts'
import type { OnConnect } from './decision.ts'

/** A port of the host that leads into the guest. */
export interface HostForward {
  protocol: 'tcp' | 'udp'
  /** Where to listen; an address `''` is all of the host's. A path is that of a UNIX socket. */
  host: { address: string; port: number } | { path: string }
  /** Where that leads; an address `''` is the first that DHCP gives. */
  guest: { address: string; port: number }
}

/** The host's side of a forward. */
export type ForwardPlace = Pick<HostForward, 'protocol' | 'host'>

/** A port of the host that is to lead to the guest, or no longer. */
export type ForwardChange = { add: HostForward } | { remove: ForwardPlace }

/** A server in the guest's network that is in truth elsewhere. */
export interface GuestForward {
  /** TCP unless said otherwise. */
  protocol?: 'tcp' | 'udp'
  /** An address of the guest's network, and a port. */
  address: string
  port: number
  /**
   * Each connection goes there, or each datagram, which only an address can have. A command is started for each connection,
   * which is its standard input and output.
   */
  to: { address: string; port: number } | { path: string } | GuestCommand
}

/** The IPv4 half of a network. */
export interface UserIpv4 {
  net: string
  prefix: number
  /** The router. */
  host: string
  /** The name server. */
  dns: string
  /** First address that DHCP gives. */
  dhcpStart: string
}

/** The IPv6 half of a network. */
export interface UserIpv6 {
  net: string
  prefix: number
  host: string
  dns: string
}

/** A network behind a router in this process: plain data, which may go to a worker, and a hook, which stays. */
export interface UserNetConfig {
  type: 'user'
  id: string
  /** Absent: the guest has no IPv4. */
  ipv4?: UserIpv4
  /** Absent: the guest has no IPv6. */
  ipv6?: UserIpv6
  /** The guest reaches nothing but what is forwarded. */
  restrict: boolean
  hostname?: string
  domainname?: string
  dnssearch: string[]
  /** A folder whose files TFTP gives. */
  tftp?: string
  tftpServerName?: string
  bootfile?: string
  hostForwards: HostForward[]
  guestForwards: GuestForward[]
  /**
   * Decides on each connection that the guest begins, unless `restrict` refuses it before; on those of `hostForwards` it is
   * not asked. A question that is not answered for as long as Linux waits is given up.
   */
  onConnect?: OnConnect
}
