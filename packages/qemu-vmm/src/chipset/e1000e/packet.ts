const TYPE_IPV4 = 0x0800
const TYPE_IPV6 = 0x86dd
const TYPE_VLAN = 0x8100
const ETHERNET_BYTES = 14
const TAG_BYTES = 4
const IPV6_BYTES = 40
const PROTOCOL_TCP = 6
const PROTOCOL_UDP = 17

/** Extension headers of IPv6 (RFC 8200, 4). */
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const DESTINATION = 60
/** What mobile nodes are called by (RFC 6275, 6.3 and 6.4). */
const HOME_ADDRESS = 201
const ROUTING_TYPE_2 = 2
/** More headers than any packet has. */
const MOST_HEADERS = 16

const TCP_ACK = 0x10

/** What a card finds in the headers of a frame. Offsets are from where the frame's bytes begin; -1 for what is not there. */
export interface Packet {
  /** 4 and 6 for IP, else 0. */
  ip: number
  /** Its header. */
  l3: number
  /** What is behind the headers of IP, and behind those of TCP or UDP. */
  l4: number
  l5: number
  /** Behind what IP says is there. */
  end: number
  protocol: 'tcp' | 'udp' | 'other'
  isFragment: boolean
  /** Extension headers of IPv6, and the addresses that count in place of those of its header. */
  hasExtensions: boolean
  homeSource: number
  homeTarget: number
}

export function emptyPacket(): Packet {
  return {
    ip: 0,
    l3: -1,
    l4: -1,
    l5: -1,
    end: 0,
    protocol: 'other',
    isFragment: false,
    hasExtensions: false,
    homeSource: -1,
    homeTarget: -1,
  }
}

/** Reads the headers of a frame of `size` bytes from `start`; whatever is cut off is not there. */
export function parsePacket(packet: Packet, bytes: Uint8Array, start: number, size: number): void {
  packet.ip = 0
  packet.l3 = packet.l4 = packet.l5 = packet.homeSource = packet.homeTarget = -1
  packet.protocol = 'other'
  packet.isFragment = packet.hasExtensions = false
  packet.end = start + size
  let at = start + ETHERNET_BYTES
  let type = be16(bytes, at - 2)
  if (type === TYPE_VLAN) {
    at += TAG_BYTES
    type = be16(bytes, at - 2)
  }
  const left = start + size - at
  if (type === TYPE_IPV4) parseIpv4(packet, bytes, at, left)
  else if (type === TYPE_IPV6) parseIpv6(packet, bytes, at, left)
}

function parseIpv4(packet: Packet, bytes: Uint8Array, at: number, left: number): void {
  const header = (bytes[at]! & 0x0f) * 4
  if (left < 20 || bytes[at]! >> 4 !== 4 || header < 20 || header > left) return
  packet.ip = 4
  packet.l3 = at
  packet.l4 = at + header
  packet.isFragment = (be16(bytes, at + 6) & 0x3fff) !== 0
  const length = be16(bytes, at + 2)
  if (length >= header && length <= left) packet.end = at + length
  parseTransport(packet, bytes, bytes[at + 9]!)
}

function parseIpv6(packet: Packet, bytes: Uint8Array, at: number, left: number): void {
  if (left < IPV6_BYTES || bytes[at]! >> 4 !== 6) return
  packet.ip = 6
  packet.l3 = at
  const length = be16(bytes, at + 4)
  if (IPV6_BYTES + length <= left) packet.end = at + IPV6_BYTES + length
  let next = bytes[at + 6]!
  let here = at + IPV6_BYTES
  for (let i = 0; i < MOST_HEADERS && isExtension(next); i++) {
    if (here + 8 > packet.end) break
    packet.hasExtensions = true
    const header = next === FRAGMENT ? 8 : 8 + 8 * bytes[here + 1]!
    if (here + header > packet.end) break
    if (next === FRAGMENT) packet.isFragment = true
    else if (next === ROUTING) findTarget(packet, bytes, here, header)
    else if (next === DESTINATION) findSource(packet, bytes, here, header)
    next = bytes[here]!
    here += header
  }
  packet.l4 = here
  parseTransport(packet, bytes, next)
}

function isExtension(next: number): boolean {
  return next === HOP_BY_HOP || next === ROUTING || next === FRAGMENT || next === DESTINATION
}

function findTarget(packet: Packet, bytes: Uint8Array, at: number, length: number): void {
  const isHome = bytes[at + 2] === ROUTING_TYPE_2 && bytes[at + 3] === 1
  if (isHome && length >= 24) packet.homeTarget = at + 8
}

function findSource(packet: Packet, bytes: Uint8Array, at: number, length: number): void {
  const isHome = length >= 20 && bytes[at + 2] === HOME_ADDRESS && bytes[at + 3] === 16
  if (isHome) packet.homeSource = at + 4
}

function parseTransport(packet: Packet, bytes: Uint8Array, protocol: number): void {
  // Only the first fragment has those headers, and no fragment all of what they speak of.
  if (packet.isFragment) return
  const { l4, end } = packet
  if (protocol === PROTOCOL_TCP && l4 + 20 <= end) {
    const header = (bytes[l4 + 12]! >> 4) * 4
    packet.protocol = 'tcp'
    packet.l5 = header >= 20 && l4 + header <= end ? l4 + header : -1
  } else if (protocol === PROTOCOL_UDP && l4 + 8 <= end) {
    packet.protocol = 'udp'
    packet.l5 = l4 + 8
  }
}

/** A segment of TCP that says what has arrived; `alone` for none that has data. */
export function isAcknowledgement(packet: Packet, bytes: Uint8Array, alone: boolean): boolean {
  const { protocol, l4, l5, end } = packet
  if (protocol !== 'tcp' || (bytes[l4 + 13]! & TCP_ACK) === 0) return false
  return !alone || l5 === end
}

/** Whether the header of IPv4 has a right checksum. */
export function hasRightHeader({ l3, l4 }: Packet, bytes: Uint8Array): boolean {
  return folded(sumOf(bytes, l3, l4, 0)) === 0xffff
}

/** Whether a segment or datagram has a right checksum; undefined where that cannot be said, or there is none. */
export function hasRightSum(packet: Packet, bytes: Uint8Array): boolean | undefined {
  const { ip, l3, l4, end, protocol } = packet
  if (protocol === 'other') return undefined
  if (protocol === 'udp' && be16(bytes, l4 + 6) === 0) return ip === 4 ? undefined : false
  const length = end - l4
  // With a routing header the address is another (RFC 8200, 8.1): that is left to the driver.
  if (packet.homeTarget >= 0 || packet.homeSource >= 0) return undefined
  const addresses = ip === 4 ? l3 + 12 : l3 + 8
  const pseudo = sumOf(bytes, addresses, addresses + (ip === 4 ? 8 : 32), length)
  const number = protocol === 'tcp' ? PROTOCOL_TCP : PROTOCOL_UDP
  return folded(sumOf(bytes, l4, end, pseudo + number)) === 0xffff
}

function sumOf(bytes: Uint8Array, from: number, to: number, before: number): number {
  let sum = before
  let at = from
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!
  return at < to ? sum + (bytes[at]! << 8) : sum
}

function folded(sum: number): number {
  let rest = sum
  while (rest > 0xffff) rest = Math.floor(rest / 0x1_0000) + (rest & 0xffff)
  return rest
}

export function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}
