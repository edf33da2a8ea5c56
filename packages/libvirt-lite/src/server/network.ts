import { createHash } from 'node:crypto'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers, NetworkRef } from '../rpc/index.ts'
import { childNamed, parseXml, textOf } from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'
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
    // What is always there is started already, and starts with the daemon.
    NETWORK_CREATE(asked) {
      check(asked.net)
      throw invalid('network is already active')
    },
    NETWORK_SET_AUTOSTART(asked) {
      check(asked.net)
      if (!asked.autostart) throw permanent()
    },
    NETWORK_DESTROY(asked) {
      check(asked.net)
      throw permanent()
    },
    NETWORK_UNDEFINE(asked) {
      check(asked.net)
      throw permanent()
    },
    NETWORK_DEFINE_XML: ({ xml }) => refuse(xml),
    NETWORK_CREATE_XML: ({ xml }) => refuse(xml),
    NETWORK_GET_DHCP_LEASES({ flags, net: asked }) {
      checkFlags(flags, 0, 'virNetworkGetDHCPLeases')
      check(asked)
      // Each guest has the whole network to itself; what its emulator gave it reaches nobody else.
      return { leases: [], count: 0 }
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

/** A network that guests share needs a bridge, and with it rights that a daemon here does without. */
function refuse(xml: string): never {
  let root: XmlElement
  try {
    root = parseXml(xml)
  } catch (error) {
    const text = `XML error: ${(error as Error).message}`
    throw new VirtError(ErrorCode.XML_ERROR, text, { cause: error })
  }
  if (root.name !== 'network') {
    const text = `XML error: unexpected root element <${root.name}>, expecting <network>`
    throw new VirtError(ErrorCode.XML_ERROR, text)
  }
  const name = childNamed(root, 'name')
  throw new VirtError(
    ErrorCode.CONFIG_UNSUPPORTED,
    `unsupported configuration: network '${name === undefined ? '' : textOf(name).trim()}': there is only '${NAME}', ` +
      'where each guest is behind a router of its own; guests do not share a network here. For other addresses, give a ' +
      "card of type 'user' an <ip>",
  )
}

const invalid = (text: string): VirtError =>
  new VirtError(ErrorCode.OPERATION_INVALID, `Requested operation is not valid: ${text}`)

const permanent = (): VirtError =>
  invalid(`network '${NAME}' is always there: it is a part of each emulator`)

function missing(text: string): VirtError {
  return new VirtError(ErrorCode.NO_NETWORK, `Network not found: ${text}`)
}
