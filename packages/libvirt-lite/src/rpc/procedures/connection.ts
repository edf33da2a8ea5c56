import {
  array,
  charArray,
  chars,
  flag,
  int,
  nothing,
  opaque,
  optional,
  string,
  struct,
  uhyper,
  uint,
  uuid,
} from '../codec.ts'
import { action, query } from './procedure.ts'

const stat = struct({ field: string, value: uhyper })
const listing = struct({ needResults: int, flags: uint })
const nameAndMac = struct({ name: string, mac: string })

const authTypes = array(int, 20)
const securityModel = struct({ model: chars(257), doi: chars(257) })

/** The connection itself, and the host. */
export const CONNECTION = {
  CONNECT_OPEN: query(1, struct({ uri: optional(string), flags: uint }), nothing),
  CONNECT_CLOSE: query(2, nothing, nothing),
  CONNECT_GET_TYPE: query(3, nothing, struct({ type: string })),
  CONNECT_GET_VERSION: query(4, nothing, struct({ version: uhyper })),
  CONNECT_GET_MAX_VCPUS: query(5, struct({ type: optional(string) }), struct({ count: int })),
  NODE_GET_INFO: query(
    6,
    nothing,
    struct({
      model: charArray(32),
      /** KiB. */
      memory: uhyper,
      cpus: int,
      mhz: int,
      nodes: int,
      sockets: int,
      cores: int,
      threads: int,
    }),
  ),
  CONNECT_GET_CAPABILITIES: query(7, nothing, struct({ xml: string })),
  CONNECT_GET_HOSTNAME: query(59, nothing, struct({ hostname: string })),
  CONNECT_SUPPORTS_FEATURE: query(60, struct({ feature: int }), struct({ supported: int })),
  AUTH_LIST: query(66, nothing, struct({ types: authTypes })),
  NODE_GET_FREE_MEMORY: query(102, nothing, struct({ bytes: uhyper })),
  CONNECT_GET_URI: query(110, nothing, struct({ uri: string })),
  NODE_NUM_OF_DEVICES: query(
    111,
    struct({ capability: optional(string), flags: uint }),
    struct({ count: int }),
  ),
  NODE_LIST_DEVICES: query(
    112,
    struct({ capability: optional(string), max: int, flags: uint }),
    struct({ names: array(string) }),
  ),
  NODE_GET_SECURITY_MODEL: query(122, nothing, securityModel),
  CONNECT_IS_SECURE: query(149, nothing, struct({ secure: flag })),
  CONNECT_GET_LIB_VERSION: query(157, nothing, struct({ version: uhyper })),
  CONNECT_DOMAIN_EVENT_REGISTER: query(105, nothing, struct({ registered: int })),
  CONNECT_DOMAIN_EVENT_DEREGISTER: query(106, nothing, struct({ registered: int })),
  CONNECT_DOMAIN_EVENT_REGISTER_ANY: query(167, struct({ event: int }), nothing),
  CONNECT_DOMAIN_EVENT_DEREGISTER_ANY: query(168, struct({ event: int }), nothing),
  NODE_GET_CPU_STATS: query(
    227,
    struct({ cpu: int, max: int, flags: uint }),
    struct({ stats: array(stat, 16), count: int }),
  ),
  NODE_GET_MEMORY_STATS: query(
    228,
    struct({ max: int, cell: int, flags: uint }),
    struct({ stats: array(stat, 16), count: int }),
  ),
  CONNECT_LIST_ALL_INTERFACES: query(
    284,
    listing,
    struct({ interfaces: array(nameAndMac), count: uint }),
  ),
  CONNECT_LIST_ALL_NWFILTERS: query(
    286,
    listing,
    struct({ filters: array(struct({ name: string, uuid })), count: uint }),
  ),
  CONNECT_LIST_ALL_SECRETS: query(
    287,
    listing,
    struct({
      secrets: array(struct({ uuid, usageType: int, usageId: string })),
      count: uint,
    }),
  ),
  CONNECT_BASELINE_CPU: query(
    162,
    struct({ cpus: array(string, 256), flags: uint }),
    struct({ xml: string }),
  ),
  CONNECT_BASELINE_HYPERVISOR_CPU: action(
    394,
    struct({
      emulator: optional(string),
      arch: optional(string),
      machine: optional(string),
      type: optional(string),
      cpus: array(string, 256),
      flags: uint,
    }),
    struct({ xml: string }),
  ),
  CONNECT_GET_CPU_MODEL_NAMES: query(
    312,
    struct({ arch: string, needResults: int, flags: uint }),
    struct({ models: array(string, 8192), count: int }),
  ),
  CONNECT_LIST_ALL_NODE_DEVICES: query(
    285,
    listing,
    struct({ devices: array(struct({ name: string })), count: uint }),
  ),
  NODE_GET_CPU_MAP: query(
    293,
    struct({ needMap: int, needOnline: int, flags: uint }),
    struct({ map: opaque(2048), online: uint, count: int }),
  ),
  CONNECT_DOMAIN_XML_TO_NATIVE: action(
    136,
    struct({ format: string, xml: string, flags: uint }),
    struct({ native: string }),
  ),
  // It runs the emulator that it names.
  CONNECT_GET_DOMAIN_CAPABILITIES: action(
    342,
    struct({
      emulator: optional(string),
      arch: optional(string),
      machine: optional(string),
      type: optional(string),
      flags: uint,
    }),
    struct({ xml: string }),
  ),
  CONNECT_REGISTER_CLOSE_CALLBACK: query(360, nothing, nothing),
  CONNECT_UNREGISTER_CLOSE_CALLBACK: query(361, nothing, nothing),
} as const
