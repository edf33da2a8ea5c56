import type { KeySpec } from '../option.ts'

/** What `-netdev` and `-nic` have for networks in user mode. */
const userKeys: readonly KeySpec[] = [
  { name: 'net', value: 'addr/length', help: 'user: the network (default: 10.0.2.0/24)' },
  { name: 'host', value: 'addr', help: 'user: the router, which is the host (default: net + 2)' },
  { name: 'dns', value: 'addr', help: 'user: the name server (default: net + 3)' },
  { name: 'dhcpstart', value: 'addr', help: 'user: the first address given (default: net + 15)' },
  { name: 'restrict', value: 'on|off', help: 'user: nothing but what is forwarded' },
  {
    name: 'hostfwd',
    value: 'proto:[addr]:port-[addr]:port',
    help: 'user: a port of the host that leads into the guest; may come again',
  },
  {
    name: 'guestfwd',
    value: 'proto:addr:port-to',
    help: "user: a server in the guest's network that is elsewhere, or a command (cmd:); may come again",
  },
  { name: 'hostname', value: 'name', help: 'user: what DHCP calls the guest' },
  { name: 'domainname', value: 'name', help: 'user: the domain that DHCP tells' },
  { name: 'dnssearch', value: 'domain', help: 'user: where names are searched; may come again' },
  { name: 'tftp', value: 'folder', help: 'user: files that TFTP gives' },
  { name: 'tftp-server-name', value: 'name', help: 'user: what DHCP calls the TFTP server' },
  { name: 'bootfile', value: 'file', help: 'user: what DHCP says to boot' },
  { name: 'ipv4', value: 'on|off', help: 'user: IPv4' },
  { name: 'ipv6', value: 'on|off', help: 'user: IPv6' },
  {
    name: 'ipv6-net',
    value: 'addr/length',
    help: 'user: the network of IPv6 (default: fec0::/64)',
  },
  { name: 'ipv6-prefix', value: 'addr', help: 'user: the same without its length' },
  { name: 'ipv6-prefixlen', value: 'number', help: 'user: its length' },
  { name: 'ipv6-host', value: 'addr', help: 'user: the router of IPv6' },
  { name: 'ipv6-dns', value: 'addr', help: 'user: the name server of IPv6' },
]

/** The same for sockets, and for ports of hubs. */
const socketKeys: readonly KeySpec[] = [
  { name: 'listen', value: '[addr]:port', help: 'socket: waits for a peer to connect' },
  { name: 'connect', value: 'addr:port', help: 'socket: the peer that is connected to' },
  { name: 'mcast', value: 'addr:port', help: 'socket: the group that frames go to and come from' },
  { name: 'udp', value: 'addr:port', help: 'socket: the peer that datagrams go to' },
  {
    name: 'localaddr',
    value: 'addr[:port]',
    help: 'socket: where datagrams are received, with udp; the interface, with mcast',
  },
  { name: 'server', value: 'on|off', help: 'stream: waits for a peer to connect' },
  { name: 'addr.type', value: 'inet|unix|fd', help: 'stream: the kind of the address' },
  { name: 'addr.host', value: 'addr', help: 'stream: the host, with inet' },
  { name: 'addr.port', value: 'port', help: 'stream: the port, with inet' },
  { name: 'addr.path', value: 'path', help: 'stream: the path of the socket, with unix' },
  { name: 'addr.str', value: 'n', help: 'stream: the descriptor of the socket, with fd' },
  { name: 'local.type', value: 'inet', help: 'dgram: where datagrams are received' },
  { name: 'local.host', value: 'addr', help: 'dgram: its host' },
  { name: 'local.port', value: 'port', help: 'dgram: its port' },
  {
    name: 'remote.type',
    value: 'inet',
    help: 'dgram: the peer, or the group, that datagrams go to',
  },
  { name: 'remote.host', value: 'addr', help: 'dgram: its host' },
  { name: 'remote.port', value: 'port', help: 'dgram: its port' },
  { name: 'ifname', value: 'name', help: 'tap: the interface; it is made when there is none' },
  { name: 'fd', value: 'n', help: 'tap, socket: the descriptor of what is open' },
  {
    name: 'script',
    value: 'file|no',
    help: 'tap: what is run with its name to set it up (default: /etc/qemu-ifup)',
  },
  {
    name: 'downscript',
    value: 'file|no',
    help: 'tap: the same at the end (default: /etc/qemu-ifdown)',
  },
  { name: 'vhost', value: 'off', help: 'tap: frames go through the devices of this program' },
  { name: 'br', value: 'name', help: 'bridge: what the interface is made in (default: br0)' },
  {
    name: 'helper',
    value: 'path',
    help: "bridge: the program that makes it, for who may not; QEMU's qemu-bridge-helper by default",
  },
  { name: 'hubid', value: 'number', help: 'hubport: the number of the hub' },
  { name: 'netdev', value: 'id', help: 'hubport: a network at the port, in place of a card' },
]

/** All keys of networks. */
export const networkKeys: readonly KeySpec[] = [...userKeys, ...socketKeys]
