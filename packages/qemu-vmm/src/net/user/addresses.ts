import { isIPv4, isIPv6 } from 'node:net'

/** The 32 bits of an IPv4 address. */
export function ipv4Bits(address: string): number {
  return address.split('.').reduce((bits, part) => bits * 256 + Number(part), 0)
}

export function ipv4Text(bits: number): string {
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 255).join('.')
}

export function ipv4Mask(prefix: number): number {
  return prefix === 0 ? 0 : (-1 << (32 - prefix)) >>> 0
}

/** The 128 bits of an IPv6 address without zone. */
export function ipv6Bits(address: string): bigint {
  const [head = '', tail] = address.split('::')
  const words = (part: string): string[] =>
    part === ''
      ? []
      : part.split(':').flatMap((word) => (word.includes('.') ? embedded(word) : [word]))
  const first = words(head)
  const last = tail === undefined ? [] : words(tail)
  const zeroes = Array.from({ length: 8 - first.length - last.length }, () => '0')
  return [...first, ...zeroes, ...last].reduce(
    (bits, word) => (bits << 16n) | BigInt(Number.parseInt(word, 16)),
    0n,
  )
}

function embedded(address: string): string[] {
  const bits = ipv4Bits(address)
  return [(bits >>> 16).toString(16), (bits & 0xffff).toString(16)]
}

export function ipv6Text(bits: bigint): string {
  const words = Array.from({ length: 8 }, (_, at) => (bits >> BigInt(112 - 16 * at)) & 0xffffn)
  return words.map((word) => word.toString(16)).join(':')
}

export function ipv6Mask(prefix: number): bigint {
  return ((1n << 128n) - 1n) ^ ((1n << BigInt(128 - prefix)) - 1n)
}

/** An address with its port, as the addon reads it. */
export function endpoint(address: string, port: number): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`
}

export { isIPv4, isIPv6 }
