import { VmmError } from '../../errors.ts'
import { isIPv4, isIPv6 } from './addresses.ts'
import { commandWords } from './command-server.ts'
import type { ForwardPlace, GuestForward, HostForward, UserNetConfig } from './config.ts'

/** Where a chardev of a guest forward leads. */
const GUEST_TARGET = /^(tcp|udp|unix|cmd):(.*)$/s

/**
 * `[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT`, or `unix:PATH-[GUESTADDR]:GUESTPORT`. IPv6 addresses are in
 * brackets.
 * @throws VmmError E_NETDEV
 */
export function parseHostForward(text: string): HostForward {
  const bad = (reason: string): VmmError =>
    new VmmError('E_NETDEV', `Invalid host forwarding rule '${text}': ${reason}`, {
      fields: { hostfwd: text },
    })
  const protocol = /^(tcp|udp|unix|):/.exec(text)
  if (protocol === null) throw bad("it begins with 'tcp:', 'udp:' or 'unix:'")
  const dash = text.lastIndexOf('-')
  if (dash < protocol[0].length) throw bad("a '-' is between the host's side and the guest's")
  const guest = parseEndpoint(text.slice(dash + 1), bad)
  if (guest.port === 0) throw bad('the port of the guest is 1 to 65535')
  return { ...hostSide(text.slice(0, dash), bad), guest }
}

/**
 * `[tcp|udp]:[HOSTADDR]:HOSTPORT` or `unix:PATH`.
 * @throws VmmError E_NETDEV
 */
export function parseForwardPlace(text: string): ForwardPlace {
  return hostSide(text, (reason) => {
    const fields = { hostfwd: text }
    return new VmmError('E_NETDEV', `Invalid host forwarding '${text}': ${reason}`, { fields })
  })
}

/** @throws VmmError E_NETDEV for a forward to an address of a family that the network does not have */
export function checkHostForward({ ipv4, ipv6 }: UserNetConfig, { guest }: HostForward): void {
  const { address } = guest
  if ((isIPv6(address) ? ipv6 : ipv4) !== undefined) return
  throw new VmmError(
    'E_NETDEV',
    `'hostfwd' leads to ${address || 'an IPv4 address'}, of a family that is off`,
    { fields: { option: 'hostfwd' } },
  )
}

function hostSide(text: string, bad: (reason: string) => VmmError): ForwardPlace {
  const protocol = /^(tcp|udp|unix|):/.exec(text)
  if (protocol === null) throw bad("it begins with 'tcp:', 'udp:' or 'unix:'")
  const host = text.slice(protocol[0].length)
  if (protocol[1] === 'unix') {
    if (host === '') throw bad('the path is missing')
    return { protocol: 'tcp', host: { path: host } }
  }
  return { protocol: protocol[1] === 'udp' ? 'udp' : 'tcp', host: parseEndpoint(host, bad) }
}

/**
 * `[tcp]:SERVER:PORT-tcp:HOST:PORT`, or with `unix:PATH` or `cmd:COMMAND` as target; `udp:SERVER:PORT-udp:HOST:PORT` is for datagrams, which
 * QEMU does not have.
 * @throws VmmError E_NETDEV, for another chardev as target too
 */
export function parseGuestForward(text: string): GuestForward {
  const bad = (reason: string): VmmError =>
    new VmmError('E_NETDEV', `Invalid guest forwarding rule '${text}': ${reason}`, {
      fields: { guestfwd: text },
    })
  const match = /^(tcp|udp|):([^-]*)-(.*)$/s.exec(text)
  if (match === null) throw bad("it is 'tcp:ADDRESS:PORT-TARGET', or the same with 'udp:'")
  const { address, port } = parseEndpoint(match[2] ?? '', bad)
  if (address === '' || port === 0) throw bad("the guest's side is an address and a port")
  const target = GUEST_TARGET.exec(match[3] ?? '')
  if (target === null) {
    throw bad(
      "the target is 'tcp:ADDRESS:PORT', 'unix:PATH' or 'cmd:COMMAND'; other chardevs are not supported",
    )
  }
  const [, kind, place = ''] = target
  const isUdp = match[1] === 'udp'
  if (isUdp !== (kind === 'udp')) throw bad("'udp:' is on both sides, or on none")
  if (kind === 'cmd') {
    const command = commandWords(place)
    if (command === undefined) throw bad('the command is missing, or a quote in it does not end')
    return { address, port, to: { command } }
  }
  if (kind === 'unix') {
    if (place === '' || place.includes(',')) throw bad('the target is one path, without options')
    return { address, port, to: { path: place } }
  }
  const to = parseEndpoint(place === '' ? ':0' : place, bad)
  if (to.address === '' || to.port === 0) throw bad('the target is an address and a port')
  return { ...(isUdp && { protocol: 'udp' }), address, port, to }
}

function parseEndpoint(
  text: string,
  bad: (reason: string) => VmmError,
): { address: string; port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text)
  if (match === null) throw bad(`'${text}' is not ADDRESS:PORT`)
  const [, six, four] = match
  const port = Number(match[3])
  if (port > 65_535) throw bad(`the port ${port} is more than 65535`)
  const address = six ?? four ?? ''
  const valid = six === undefined ? address === '' || isIPv4(address) : isIPv6(address)
  if (!valid || address.includes('%')) throw bad(`'${address}' is no address`)
  return { address, port }
}
