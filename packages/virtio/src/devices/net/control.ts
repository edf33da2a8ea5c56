import type { DeviceContext } from '../../model.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import {
  MAC_BYTES,
  VIRTIO_NET_CTRL_ANNOUNCE,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MAC_TABLE_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_VLAN,
  VIRTIO_NET_CTRL_VLAN_ADD,
  VIRTIO_NET_CTRL_VLAN_DEL,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
} from './protocol.ts'
import type { NetFilter } from './rx-filter.ts'

const HEADER_BYTES = 2
/** More addresses than that nobody reads: they do not fit in the table anyway. */
const MAX_TABLE_BYTES = 65 * MAC_BYTES

/** What commands of the control queue change. */
export interface NetControlTarget {
  readonly filter: NetFilter
  /** False where there are not that many. */
  setPairs(pairs: number): boolean
  /** False for offloads that were not negotiated. */
  setGuestOffloads(offloads: bigint): boolean
  announced(): void
}

/** Carries out one command (VirtIO 1.2, section 5.1.6.5); false is answered with an error. */
export function netControl(
  context: DeviceContext,
  target: NetControlTarget,
  chain: DescriptorChain,
): boolean {
  const { filter } = target
  const readable = chain.readableBytes - HEADER_BYTES
  const header = new Uint8Array(HEADER_BYTES)
  chain.read(0, header)
  const [kind, command] = [header[0]!, header[1]!]
  /** The argument, when it has exactly this many bytes. */
  const argument = (bytes: number): DataView | undefined => {
    if (readable !== bytes) return undefined
    const data = new Uint8Array(bytes)
    chain.read(HEADER_BYTES, data)
    return new DataView(data.buffer)
  }
  switch (kind) {
    case VIRTIO_NET_CTRL_RX: {
      const isBasic = command <= VIRTIO_NET_CTRL_RX_ALLMULTI
      const on = argument(1)
      if (on === undefined) return false
      if (!context.hasFeature(isBasic ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA))
        return false
      return filter.setFlag(command, on.getUint8(0) !== 0)
    }
    case VIRTIO_NET_CTRL_MAC:
      if (command === VIRTIO_NET_CTRL_MAC_TABLE_SET) {
        return context.hasFeature(VIRTIO_NET_F_CTRL_RX) && setTables(filter, chain)
      }
      if (command !== VIRTIO_NET_CTRL_MAC_ADDR_SET || readable !== MAC_BYTES) return false
      if (!context.hasFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) return false
      chain.read(HEADER_BYTES, filter.mac)
      return true
    case VIRTIO_NET_CTRL_VLAN: {
      const id = argument(2)?.getUint16(0, true)
      if (id === undefined || !context.hasFeature(VIRTIO_NET_F_CTRL_VLAN)) return false
      if (command !== VIRTIO_NET_CTRL_VLAN_ADD && command !== VIRTIO_NET_CTRL_VLAN_DEL) return false
      return filter.setVlan(id, command === VIRTIO_NET_CTRL_VLAN_ADD)
    }
    case VIRTIO_NET_CTRL_ANNOUNCE:
      if (command !== VIRTIO_NET_CTRL_ANNOUNCE_ACK) return false
      if (!context.hasFeature(VIRTIO_NET_F_GUEST_ANNOUNCE)) return false
      target.announced()
      return true
    case VIRTIO_NET_CTRL_MQ: {
      const pairs = argument(2)?.getUint16(0, true)
      if (pairs === undefined || command !== VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) return false
      return context.hasFeature(VIRTIO_NET_F_MQ) && target.setPairs(pairs)
    }
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS: {
      const offloads = argument(8)?.getBigUint64(0, true)
      if (offloads === undefined || command !== VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) return false
      return (
        context.hasFeature(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) && target.setGuestOffloads(offloads)
      )
    }
    default:
      return false
  }
}

/** Two tables, each a number of addresses and those; all or nothing is taken. */
function setTables(filter: NetFilter, chain: DescriptorChain): boolean {
  const tables: Uint8Array[] = []
  const count = new DataView(new ArrayBuffer(4))
  let offset = HEADER_BYTES
  for (let i = 0; i < 2; i++) {
    if (chain.read(offset, new Uint8Array(count.buffer)) < 4) return false
    offset += 4
    const bytes = count.getUint32(0, true) * MAC_BYTES
    if (offset + bytes > chain.readableBytes) return false
    const table = new Uint8Array(Math.min(bytes, MAX_TABLE_BYTES))
    chain.read(offset, table)
    offset += bytes
    tables.push(table)
  }
  if (offset !== chain.readableBytes) return false
  filter.setTables(tables[0]!, tables[1]!)
  return true
}
