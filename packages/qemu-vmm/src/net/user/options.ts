import { VmmError } from '../../errors.ts'
import {
  ipv4Bits,
  ipv4Mask,
  ipv4Text,
  ipv6Bits,
  ipv6Mask,
  ipv6Text,
  isIPv4,
  isIPv6,
} from './addresses.ts'
import type { UserIpv4, UserIpv6, UserNetConfig } from './config.ts'
import { checkHostForward, parseGuestForward, parseHostForward } from './forwards.ts'

/** QEMU's options of `-netdev user`. */
export const USER_KEYS: readonly string[] = [
  'bootfile',
  'dhcpstart',
  'dns',
  'dnssearch',
  'domainname',
  'guestfwd',
  'host',
  'hostfwd',
  'hostname',
  'ipv4',
  'ipv6',
  'ipv6-dns',
  'ipv6-host',
  'ipv6-net',
  'ipv6-prefix',
  'ipv6-prefixlen',
  'net',
  'restrict',
  'tftp',
  'tftp-server-name',
]

/** Those of them that are refused, and why. */
export const USER_REFUSED: Readonly<Record<string, string>> = {
  smb: 'there is no SMB server; share a folder by TFTP (tftp=) or forward a port of a server of your own',
  smbserver: 'there is no SMB server',
}

/** One option, in the order in which it was given; those of {@link USER_LISTS} may come again. */
export interface UserOption {
  key: string
  value: string
}

/** Options that may be given several times. */
export const USER_LISTS: readonly string[] = ['dnssearch', 'guestfwd', 'hostfwd']

/**
 * What options of `-netdev user` say.
 * @throws VmmError E_NETDEV for an option that does not exist, a value that cannot be, and values that contradict each
 *   other
 */
export function parseUserOptions(id: string, options: readonly UserOption[]): UserNetConfig {
  for (const { key } of options) {
    const reason = Object.hasOwn(USER_REFUSED, key) ? USER_REFUSED[key] : undefined
    if (reason !== undefined) throw bad(key, `Parameter '${key}' is not supported: ${reason}`)
    if (!USER_KEYS.includes(key)) {
      throw bad(key, `Invalid parameter '${key}' of a user network: it has ${USER_KEYS.join(', ')}`)
    }
  }
  const values = new Map(options.map(({ key, value }) => [key, value]))
  const list = (key: string): string[] =>
    options.filter((option) => option.key === key).map(({ value }) => value)
  const [ipv4, ipv6] = [parseIpv4(values), parseIpv6(values)]
  if (ipv4 === undefined && ipv6 === undefined) {
    throw bad('ipv4', "A user network needs IPv4 or IPv6: 'ipv4' and 'ipv6' cannot both be off")
  }
  const config: UserNetConfig = {
    type: 'user',
    id,
    ...(ipv4 && { ipv4 }),
    ...(ipv6 && { ipv6 }),
    restrict: bool(values, 'restrict') ?? false,
    dnssearch: list('dnssearch'),
    ...named(values, 'hostname', 'hostname', 255),
    ...named(values, 'domainname', 'domainname', 255),
    ...named(values, 'tftp-server-name', 'tftpServerName', 255),
    // The field of a BOOTP answer has 128 bytes, the last of which is zero.
    ...named(values, 'bootfile', 'bootfile', 127),
    ...named(values, 'tftp', 'tftp', 4095),
    hostForwards: list('hostfwd').map(parseHostForward),
    guestForwards: list('guestfwd').map(parseGuestForward),
  }
  checkForwards(config)
  return config
}

function bad(key: string, message: string): VmmError {
  return new VmmError('E_NETDEV', message, { fields: { option: key } })
}

function bool(values: ReadonlyMap<string, string>, key: string): boolean | undefined {
  const value = values.get(key)
  if (value === undefined) return undefined
  if (['on', 'yes', 'true', 'y'].includes(value)) return true
  if (['off', 'no', 'false', 'n'].includes(value)) return false
  throw bad(key, `Parameter '${key}' expects 'on' or 'off', not '${value}'`)
}

function named<Name extends string>(
  values: ReadonlyMap<string, string>,
  key: string,
  name: Name,
  limit: number,
): { [Key in Name]?: string } {
  const value = values.get(key)
  if (value === undefined) return {}
  const bytes = Buffer.byteLength(value)
  if (bytes === 0 || bytes > limit || value.includes('\0')) {
    throw bad(key, `Parameter '${key}' has ${bytes} bytes: it can have 1 to ${limit}`)
  }
  // The type of a computed key is a string's.
  const result: { [Key in Name]?: string } = {}
  result[name] = value
  return result
}

/** `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`. */
function parseNet(text: string): { net: number; prefix: number } {
  const [address = '', size] = text.split('/', 2)
  if (!isIPv4(address)) throw bad('net', `Parameter 'net' expects an IPv4 network, not '${text}'`)
  const bits = ipv4Bits(address)
  let prefix = classOf(bits)
  if (size !== undefined && isIPv4(size)) {
    const mask = ipv4Bits(size)
    prefix = Math.clz32(~mask)
    if (ipv4Mask(prefix) !== mask) throw bad('net', `'${size}' in 'net' is no mask of a network`)
  } else if (size !== undefined) {
    prefix = /^\d{1,2}$/.test(size) ? Number(size) : 0
  }
  if (prefix < 4 || prefix > 30) {
    throw bad('net', `The network '${text}' has a prefix of ${size ?? prefix}: it can be 4 to 30`)
  }
  return { net: (bits & ipv4Mask(prefix)) >>> 0, prefix }
}

/** The length that an address has of itself, which QEMU takes when none is given. */
function classOf(bits: number): number {
  if (bits >>> 31 === 0) return 8
  return bits >>> 30 === 2 ? 16 : 24
}

function parseIpv4(values: ReadonlyMap<string, string>): UserIpv4 | undefined {
  const keys = ['net', 'host', 'dns', 'dhcpstart']
  if (
    bool(values, 'ipv4') === false ||
    (bool(values, 'ipv6') === true && !values.has('ipv4') && !keys.some((key) => values.has(key)))
  ) {
    const other = keys.find((key) => values.has(key))
    if (other !== undefined) throw bad(other, `Parameter '${other}' needs IPv4, which is off`)
    return undefined
  }
  const { net, prefix } = parseNet(values.get('net') ?? '10.0.2.0/24')
  const size = 2 ** (32 - prefix)
  const member = (key: string, otherwise: number): number => {
    const text = values.get(key)
    if (text !== undefined && !isIPv4(text)) {
      throw bad(key, `Parameter '${key}' expects an IPv4 address, not '${text}'`)
    }
    const bits = text === undefined ? net + Math.min(otherwise, size - 2) : ipv4Bits(text)
    if (bits <= net || bits >= net + size - 1) {
      throw bad(
        key,
        `'${key}' is ${ipv4Text(bits)}: choose an address of ${ipv4Text(net)}/${prefix}`,
      )
    }
    return bits
  }
  const host = member('host', 2)
  const dns = member('dns', 3)
  const dhcpStart = member('dhcpstart', 15)
  if (host === dns) throw bad('dns', `'host' and 'dns' are both ${ipv4Text(dns)}: they must differ`)
  return {
    net: ipv4Text(net),
    prefix,
    host: ipv4Text(host),
    dns: ipv4Text(dns),
    dhcpStart: ipv4Text(dhcpStart),
  }
}

function parseIpv6(values: ReadonlyMap<string, string>): UserIpv6 | undefined {
  const keys = ['ipv6-net', 'ipv6-prefix', 'ipv6-prefixlen', 'ipv6-host', 'ipv6-dns']
  const other = keys.find((key) => values.has(key))
  if (
    bool(values, 'ipv6') === false ||
    (bool(values, 'ipv4') === true && !values.has('ipv6') && other === undefined)
  ) {
    if (other !== undefined) throw bad(other, `Parameter '${other}' needs IPv6, which is off`)
    return undefined
  }
  if (values.has('ipv6-net') && (values.has('ipv6-prefix') || values.has('ipv6-prefixlen'))) {
    throw bad('ipv6-net', "Use 'ipv6-net' alone, without 'ipv6-prefix' and 'ipv6-prefixlen'")
  }
  const [net6, length6] = (values.get('ipv6-net') ?? '').split('/', 2)
  const text = net6 || (values.get('ipv6-prefix') ?? 'fec0::')
  const length = length6 ?? values.get('ipv6-prefixlen') ?? '64'
  if (!isIPv6(text) || text.includes('%')) throw bad('ipv6-net', `'${text}' is no IPv6 network`)
  const prefix = /^\d{1,3}$/.test(length) ? Number(length) : 0
  if (prefix < 8 || prefix > 126) {
    throw bad('ipv6-net', `The IPv6 prefix has a length of '${length}': it can be 8 to 126`)
  }
  const net = ipv6Bits(text) & ipv6Mask(prefix)
  const member = (key: string, otherwise: bigint): bigint => {
    const address = values.get(key)
    if (address !== undefined && (!isIPv6(address) || address.includes('%'))) {
      throw bad(key, `Parameter '${key}' expects an IPv6 address, not '${address}'`)
    }
    const bits = address === undefined ? net | otherwise : ipv6Bits(address)
    if ((bits & ipv6Mask(prefix)) !== net || bits === net) {
      throw bad(
        key,
        `'${key}' is ${ipv6Text(bits)}: choose an address of ${ipv6Text(net)}/${prefix}`,
      )
    }
    return bits
  }
  const host = member('ipv6-host', 2n)
  const dns = member('ipv6-dns', 3n)
  if (host === dns) {
    throw bad('ipv6-dns', `'ipv6-host' and 'ipv6-dns' are both ${ipv6Text(dns)}: they must differ`)
  }
  return { net: ipv6Text(net), prefix, host: ipv6Text(host), dns: ipv6Text(dns) }
}

function checkForwards(config: UserNetConfig): void {
  const { ipv4, hostForwards, guestForwards } = config
  for (const forward of hostForwards) checkHostForward(config, forward)
  for (const { address } of guestForwards) {
    if (isIPv6(address) || ipv4 === undefined) {
      throw bad(
        'guestfwd',
        `'guestfwd' is for IPv4 addresses of the guest's network, not ${address}`,
      )
    }
    const bits = ipv4Bits(address)
    const net = ipv4Bits(ipv4.net)
    const within = bits > net && bits < net + 2 ** (32 - ipv4.prefix) - 1
    if (!within || address === ipv4.host || address === ipv4.dns) {
      throw bad(
        'guestfwd',
        `'guestfwd' is at ${address}: choose a free address of ${ipv4.net}/${ipv4.prefix}`,
      )
    }
  }
}
