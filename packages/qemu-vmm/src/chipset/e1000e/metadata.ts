import type { RegisterFile } from '../e1000/register-map.ts'
import { type Packet, be16, hasRightHeader, hasRightSum, isAcknowledgement } from './packet.ts'
import { RFCTL, RXCSUM } from './registers.ts'
import { RXCSUM_PCSD, type RssResult } from './rss.ts'

/** Status and errors of a descriptor (Intel 82574 data sheet, 7.1.4.2 and 7.1.5.2). */
export const STATUS_DD = 0x01
export const STATUS_EOP = 0x02
const STATUS_VP = 0x08
const STATUS_UDPCS = 0x10
const STATUS_TCPCS = 0x20
const STATUS_IPCS = 0x40
const STATUS_IPIDV = 0x200
const STATUS_ACK = 0x8000
const TYPE_SHIFT = 16
const ERROR_TCPE = 0x2000_0000
const ERROR_IPE = 0x4000_0000

/** Kinds of packets. */
const TYPE_OTHER = 0
const TYPE_IPV4 = 1
const TYPE_IPV4_TRANSPORT = 2
const TYPE_IPV6 = 5
const TYPE_IPV6_TRANSPORT = 6

/** RXCSUM and RFCTL (10.2.5.15 and 10.2.5.16). */
const RXCSUM_IP = 0x100
const RXCSUM_TRANSPORT = 0x200
const RFCTL_IPV6_DIS = 0x400
const RFCTL_IPV6_XSUM_DIS = 0x800
export const RFCTL_ACK_DIS = 0x1000
const RFCTL_ACK_DATA_DIS = 0x2000
export const RFCTL_IPFRSP_DIS = 0x4000

/** What the last descriptor of a frame says of it. */
export interface Metadata {
  status: number
  /** The second word: a hash, or the identification of IPv4. */
  hash: number
  /** The type of the hash, and the queue. */
  mrq: number
  tag: number
  isAck: boolean
}

/** Fills in what there is to say of a frame; `tag` is -1 for none. */
export function describe(
  into: Metadata,
  registers: RegisterFile,
  packet: Packet,
  bytes: Uint8Array,
  rss: { readonly isOn: boolean; readonly result: RssResult },
  tag: number,
): void {
  const rfctl = registers[RFCTL >> 2]!
  const rxcsum = registers[RXCSUM >> 2]!
  let status = STATUS_DD | STATUS_EOP
  into.hash = into.mrq = 0
  into.tag = Math.max(0, tag)
  if (tag >= 0) status |= STATUS_VP
  if ((rxcsum & RXCSUM_PCSD) !== 0) {
    if (rss.isOn) {
      into.hash = rss.result.hash
      into.mrq = rss.result.type | (rss.result.queue << 8)
    }
  } else if (packet.ip === 4) {
    status |= STATUS_IPIDV
    into.hash = be16(bytes, packet.l3 + 4)
  }
  into.isAck = isAcknowledgement(packet, bytes, (rfctl & RFCTL_ACK_DATA_DIS) !== 0)
  if (into.isAck) status |= STATUS_ACK
  status |= typeOf(packet, rfctl) << TYPE_SHIFT
  const isChecked = packet.ip === 4 || (packet.ip === 6 && (rfctl & RFCTL_IPV6_XSUM_DIS) === 0)
  into.status = (isChecked ? status | checked(packet, bytes, rxcsum) : status) >>> 0
}

function typeOf(packet: Packet, rfctl: number): number {
  const hasTransport = packet.protocol !== 'other'
  if (packet.ip === 4) return hasTransport ? TYPE_IPV4_TRANSPORT : TYPE_IPV4
  if (packet.ip !== 6 || (rfctl & RFCTL_IPV6_DIS) !== 0) return TYPE_OTHER
  return hasTransport ? TYPE_IPV6_TRANSPORT : TYPE_IPV6
}

function checked(packet: Packet, bytes: Uint8Array, rxcsum: number): number {
  let status = 0
  if ((rxcsum & RXCSUM_IP) !== 0 && packet.ip === 4) {
    status |= hasRightHeader(packet, bytes) ? STATUS_IPCS : STATUS_IPCS | ERROR_IPE
  }
  if ((rxcsum & RXCSUM_TRANSPORT) === 0) return status
  const isRight = hasRightSum(packet, bytes)
  if (isRight === undefined) return status
  status |= packet.protocol === 'udp' ? STATUS_TCPCS | STATUS_UDPCS : STATUS_TCPCS
  return isRight ? status : status | ERROR_TCPE
}
