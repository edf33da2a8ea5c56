import { createHash } from 'node:crypto'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers, NetworkRef } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'

const NAME = 'default'

/** Filters of `virConnectListAllNetworks` in pairs: of each that is given, the network has to be one. */
const FILTERS = [
  { is: 2, isNot: 1 }, // active, inactive
  { is: 4, isNot: 8 }, // persistent, transient
  { is: 16, isNot: 32 }, // autostart or not
]
const FILTER_FLAGS = 63

/**
 * The network `default`: each guest on it is behind a router of its own in its emulator, which needs no rights and no other
 * program. It is always there and cannot be changed.
 */
export function networkHandlers(stateDir: string): Handlers {
  // The same for one daemon at all times, and another for each: clients compare networks of several hosts by it.
  const hex = createHash('sha256').update(`network ${stateDir}`).digest('hex')
  const uuid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  const net: NetworkRef = { name: NAME, uuid }
  const check = (asked: NetworkRef): void => {
    if (asked.uuid !== uuid)
      throw missing(`no network with matching uuid '${asked.uuid}' (${asked.name})`)
  }
  return {
    CONNECT_LIST_ALL_NETWORKS({ needResults, flags }) {
      checkFlags(flags, FILTER_FLAGS, 'virConnectListAllNetworks')
      const isListed = FILTERS.every(({ is, isNot }) => (flags & isNot) === 0 || (flags & is) !== 0)
      const networks = isListed ? [net] : []
      return { networks: needResults ? networks : [], count: networks.length }
    },
    CONNECT_NUM_OF_NETWORKS: () => ({ count: 1 }),
    CONNECT_LIST_NETWORKS: ({ max }) => ({ names: max > 0 ? [NAME] : [] }),
    CONNECT_NUM_OF_DEFINED_NETWORKS: () => ({ count: 0 }),
    CONNECT_LIST_DEFINED_NETWORKS: () => ({ names: [] }),
    NETWORK_LOOKUP_BY_NAME({ name }) {
      if (name !== NAME) throw missing(`no network with matching name '${name}'`)
      return { net }
    },
    NETWORK_LOOKUP_BY_UUID(asked) {
      if (asked.uuid !== uuid) throw missing(`no network with matching uuid '${asked.uuid}'`)
      return { net }
    },
    NETWORK_GET_XML_DESC(asked) {
      checkFlags(asked.flags, 1, 'virNetworkGetXMLDesc')
      check(asked.net)
      return { xml: describe(uuid) }
    },
    NETWORK_IS_ACTIVE(asked) {
      check(asked.net)
      return { active: true }
    },
    NETWORK_IS_PERSISTENT(asked) {
      check(asked.net)
      return { persistent: true }
    },
    NETWORK_GET_AUTOSTART(asked) {
      check(asked.net)
      return { autostart: true }
    },
    NETWORK_GET_BRIDGE_NAME(asked) {
      check(asked.net)
      throw new VirtError(
        ErrorCode.INTERNAL_ERROR,
        `internal error: network '${NAME}' does not have a bridge name: it is in user mode`,
      )
    },
  }
}

/** The addresses are those of QEMU's user-mode network and of ours. */
function describe(uuid: string): string {
  return `<network>
  <!-- In user mode: every guest has this network to itself, in its emulator. There is no bridge. -->
  <name>${NAME}</name>
  <uuid>${uuid}</uuid>
  <forward mode='nat'/>
  <ip address='10.0.2.2' netmask='255.255.255.0'>
    <dhcp>
      <range start='10.0.2.15' end='10.0.2.15'/>
    </dhcp>
  </ip>
</network>
`
}

function missing(text: string): VirtError {
  return new VirtError(ErrorCode.NO_NETWORK, `Network not found: ${text}`)
}
