import { array, flag, hyper, int, nothing, optional, string, struct, uint, uuid } from '../codec.ts'
import { networkRef } from '../message.ts'
import { action, query } from './procedure.ts'

const net = struct({ net: networkRef })
const xml = struct({ xml: string })
const count = struct({ count: int })
const names = struct({ names: array(string) })
const max = struct({ max: int })
const lease = struct({
  interface: string,
  /** Seconds since 1970. */
  expiry: hyper,
  type: int,
  mac: optional(string),
  iaid: optional(string),
  address: string,
  prefix: uint,
  hostname: optional(string),
  clientId: optional(string),
})

/** Networks that domains connect to. */
export const NETWORK = {
  CONNECT_LIST_DEFINED_NETWORKS: query(36, max, names),
  CONNECT_LIST_NETWORKS: query(38, max, names),
  NETWORK_CREATE: action(39, net, nothing),
  NETWORK_CREATE_XML: action(40, xml, net),
  NETWORK_DEFINE_XML: action(41, xml, net),
  NETWORK_DESTROY: action(42, net, nothing),
  NETWORK_GET_XML_DESC: query(43, struct({ net: networkRef, flags: uint }), xml),
  NETWORK_GET_AUTOSTART: query(44, net, struct({ autostart: flag })),
  NETWORK_GET_BRIDGE_NAME: query(45, net, struct({ name: string })),
  NETWORK_LOOKUP_BY_NAME: query(46, struct({ name: string }), net),
  NETWORK_LOOKUP_BY_UUID: query(47, struct({ uuid }), net),
  NETWORK_SET_AUTOSTART: action(48, struct({ net: networkRef, autostart: flag }), nothing),
  NETWORK_UNDEFINE: action(49, net, nothing),
  CONNECT_NUM_OF_DEFINED_NETWORKS: query(50, nothing, count),
  CONNECT_NUM_OF_NETWORKS: query(52, nothing, count),
  NETWORK_IS_ACTIVE: query(152, net, struct({ active: flag })),
  NETWORK_IS_PERSISTENT: query(153, net, struct({ persistent: flag })),
  CONNECT_LIST_ALL_NETWORKS: query(
    283,
    struct({ needResults: int, flags: uint }),
    struct({ networks: array(networkRef), count: uint }),
  ),
  NETWORK_GET_DHCP_LEASES: query(
    341,
    struct({ net: networkRef, mac: optional(string), needResults: int, flags: uint }),
    struct({ leases: array(lease, 65_536), count: uint }),
  ),
} as const
