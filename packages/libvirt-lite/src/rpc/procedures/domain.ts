import {
  array,
  chars,
  flag,
  hyper,
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
import { domainRef } from '../message.ts'
import { typedParam } from '../typed-param.ts'
import { action, query, stream } from './procedure.ts'

const dom = struct({ dom: domainRef })
const domFlags = struct({ dom: domainRef, flags: uint })
const domXml = struct({ dom: domainRef, xml: string })
const domXmlFlags = struct({ dom: domainRef, xml: string, flags: uint })
const count = struct({ count: int })
const text = struct({ xml: string })
const domPathFlags = struct({ dom: domainRef, path: string, flags: uint })
const paramsAndCount = struct({ params: array(typedParam, 64), count: int })
const vcpuInfo = struct({ number: uint, state: int, cpuTime: uhyper, cpu: int })
const snapshot = struct({ name: string, dom: domainRef })
const record = struct({ dom: domainRef, params: array(typedParam, 4096) })
const filesystem = struct({
  mountpoint: string,
  name: string,
  type: string,
  aliases: array(string, 256),
})
const address = struct({ type: int, address: string, prefix: uint })
const guestInterface = struct({
  name: string,
  hwaddr: optional(string),
  addresses: array(address, 2048),
})

/** Domains: finding, asking, starting and stopping them. */
export const DOMAIN = {
  DOMAIN_ATTACH_DEVICE: action(8, domXml, nothing),
  DOMAIN_CREATE: action(9, dom, nothing),
  DOMAIN_CREATE_XML: action(10, struct({ xml: string, flags: uint }), dom),
  DOMAIN_DEFINE_XML: action(11, text, dom),
  DOMAIN_DESTROY: action(12, dom, nothing),
  DOMAIN_DETACH_DEVICE: action(13, domXml, nothing),
  DOMAIN_GET_XML_DESC: query(14, domFlags, text),
  DOMAIN_GET_AUTOSTART: query(15, dom, struct({ autostart: flag })),
  DOMAIN_GET_INFO: query(
    16,
    dom,
    struct({
      state: int,
      /** KiB. */
      maxMemory: uhyper,
      /** KiB. */
      memory: uhyper,
      vcpus: int,
      /** Nanoseconds. */
      cpuTime: uhyper,
    }),
  ),
  DOMAIN_GET_MAX_MEMORY: query(17, dom, struct({ memory: uhyper })),
  DOMAIN_GET_MAX_VCPUS: query(18, dom, count),
  DOMAIN_GET_OS_TYPE: query(19, dom, struct({ type: string })),
  DOMAIN_GET_VCPUS: query(
    20,
    struct({ dom: domainRef, maxInfo: int, mapLength: int }),
    struct({ info: array(vcpuInfo), maps: opaque(8_388_608) }),
  ),
  CONNECT_LIST_DEFINED_DOMAINS: query(21, struct({ max: int }), struct({ names: array(string) })),
  DOMAIN_LOOKUP_BY_ID: query(22, struct({ id: int }), dom),
  DOMAIN_LOOKUP_BY_NAME: query(23, struct({ name: string }), dom),
  DOMAIN_LOOKUP_BY_UUID: query(24, struct({ uuid }), dom),
  CONNECT_NUM_OF_DEFINED_DOMAINS: query(25, nothing, count),
  DOMAIN_PIN_VCPU: action(
    26,
    struct({ dom: domainRef, vcpu: uint, cpumap: opaque(2048) }),
    nothing,
  ),
  DOMAIN_REBOOT: action(27, domFlags, nothing),
  DOMAIN_RESUME: action(28, dom, nothing),
  DOMAIN_SET_AUTOSTART: action(29, struct({ dom: domainRef, autostart: flag }), nothing),
  DOMAIN_SET_MAX_MEMORY: action(30, struct({ dom: domainRef, memory: uhyper }), nothing),
  DOMAIN_SET_MEMORY: action(31, struct({ dom: domainRef, memory: uhyper }), nothing),
  DOMAIN_SET_VCPUS: action(32, struct({ dom: domainRef, count: uint }), nothing),
  DOMAIN_SHUTDOWN: action(33, dom, nothing),
  DOMAIN_SUSPEND: action(34, dom, nothing),
  DOMAIN_UNDEFINE: action(35, dom, nothing),
  CONNECT_LIST_DOMAINS: query(37, struct({ max: int }), struct({ ids: array(int) })),
  CONNECT_NUM_OF_DOMAINS: query(51, nothing, count),
  DOMAIN_BLOCK_STATS: query(
    64,
    struct({ dom: domainRef, path: string }),
    struct({
      readRequests: hyper,
      readBytes: hyper,
      writeRequests: hyper,
      writeBytes: hyper,
      errors: hyper,
    }),
  ),
  DOMAIN_INTERFACE_STATS: query(
    65,
    struct({ dom: domainRef, device: string }),
    struct({
      rxBytes: hyper,
      rxPackets: hyper,
      rxErrors: hyper,
      rxDropped: hyper,
      txBytes: hyper,
      txPackets: hyper,
      txErrors: hyper,
      txDropped: hyper,
    }),
  ),
  DOMAIN_GET_SECURITY_LABEL: query(121, dom, struct({ label: chars(4097), enforcing: int })),
  CONNECT_DOMAIN_XML_TO_NATIVE: action(
    136,
    struct({ format: string, xml: string, flags: uint }),
    struct({ config: string }),
  ),
  DOMAIN_IS_ACTIVE: query(150, dom, struct({ active: flag })),
  DOMAIN_IS_PERSISTENT: query(151, dom, struct({ persistent: flag })),
  DOMAIN_MEMORY_STATS: query(
    159,
    struct({ dom: domainRef, max: uint, flags: uint }),
    struct({ stats: array(struct({ tag: int, value: uhyper }), 1024) }),
  ),
  DOMAIN_ATTACH_DEVICE_FLAGS: action(160, domXmlFlags, nothing),
  DOMAIN_DETACH_DEVICE_FLAGS: action(161, domXmlFlags, nothing),
  DOMAIN_UPDATE_DEVICE_FLAGS: action(174, domXmlFlags, nothing),
  DOMAIN_ABORT_JOB: action(164, dom, nothing),
  DOMAIN_GET_JOB_INFO: query(
    163,
    dom,
    struct({
      type: int,
      timeElapsed: uhyper,
      timeRemaining: uhyper,
      dataTotal: uhyper,
      dataProcessed: uhyper,
      dataRemaining: uhyper,
      memTotal: uhyper,
      memProcessed: uhyper,
      memRemaining: uhyper,
      fileTotal: uhyper,
      fileProcessed: uhyper,
      fileRemaining: uhyper,
    }),
  ),
  DOMAIN_GET_JOB_STATS: query(298, domFlags, struct({ type: int, params: array(typedParam, 64) })),
  DOMAIN_HAS_MANAGED_SAVE_IMAGE: query(183, domFlags, struct({ result: int })),
  DOMAIN_SNAPSHOT_NUM: query(187, domFlags, count),
  DOMAIN_SNAPSHOT_LOOKUP_BY_NAME: query(
    189,
    struct({ dom: domainRef, name: string, flags: uint }),
    struct({ snapshot }),
  ),
  DOMAIN_HAS_CURRENT_SNAPSHOT: query(190, domFlags, struct({ result: int })),
  DOMAIN_GET_BLOCK_INFO: query(
    194,
    domPathFlags,
    struct({ allocation: uhyper, capacity: uhyper, physical: uhyper }),
  ),
  DOMAIN_CREATE_WITH_FLAGS: action(196, domFlags, dom),
  DOMAIN_SET_VCPUS_FLAGS: action(
    199,
    struct({ dom: domainRef, count: uint, flags: uint }),
    nothing,
  ),
  DOMAIN_SET_MEMORY_FLAGS: action(
    204,
    struct({ dom: domainRef, memory: uhyper, flags: uint }),
    nothing,
  ),
  DOMAIN_BLOCK_RESIZE: action(
    251,
    struct({ dom: domainRef, path: string, size: uhyper, flags: uint }),
    nothing,
  ),
  DOMAIN_GET_DISK_ERRORS: query(
    263,
    struct({ dom: domainRef, max: uint, flags: uint }),
    struct({ errors: array(struct({ disk: string, error: int }), 256), count: int }),
  ),
  DOMAIN_PIN_EMULATOR: action(
    279,
    struct({ dom: domainRef, cpumap: opaque(2048), flags: uint }),
    nothing,
  ),
  DOMAIN_GET_EMULATOR_PIN_INFO: query(
    280,
    struct({ dom: domainRef, mapLength: int, flags: uint }),
    struct({ maps: opaque(8_388_608), result: int }),
  ),
  DOMAIN_GET_IOTHREAD_INFO: query(
    351,
    domFlags,
    struct({ info: array(struct({ id: uint, map: opaque(2048) }), 16_384), count: uint }),
  ),
  DOMAIN_SET_METADATA: action(
    264,
    struct({
      dom: domainRef,
      type: int,
      metadata: optional(string),
      key: optional(string),
      uri: optional(string),
      flags: uint,
    }),
    nothing,
  ),
  DOMAIN_SET_MEMORY_STATS_PERIOD: action(
    308,
    struct({ dom: domainRef, period: int, flags: uint }),
    nothing,
  ),
  DOMAIN_SET_VCPU: action(
    384,
    struct({ dom: domainRef, cpumap: string, state: int, flags: uint }),
    nothing,
  ),
  DOMAIN_DETACH_DEVICE_ALIAS: action(
    392,
    struct({ dom: domainRef, alias: string, flags: uint }),
    nothing,
  ),
  DOMAIN_GET_VCPUS_FLAGS: query(200, domFlags, count),
  DOMAIN_OPEN_CONSOLE: stream(
    201,
    struct({ dom: domainRef, device: optional(string), flags: uint }),
    nothing,
  ),
  DOMAIN_IS_UPDATED: query(202, dom, struct({ updated: flag })),
  DOMAIN_SCREENSHOT: stream(
    211,
    struct({ dom: domainRef, screen: uint, flags: uint }),
    struct({ mime: optional(string) }),
  ),
  DOMAIN_GET_STATE: query(212, domFlags, struct({ state: int, reason: int })),
  DOMAIN_PIN_VCPU_FLAGS: action(
    225,
    struct({ dom: domainRef, vcpu: uint, cpumap: opaque(2048), flags: uint }),
    nothing,
  ),
  DOMAIN_SEND_KEY: action(
    226,
    struct({
      dom: domainRef,
      codeset: uint,
      holdTime: uint,
      keycodes: array(uint, 16),
      flags: uint,
    }),
    nothing,
  ),
  DOMAIN_GET_CONTROL_INFO: query(
    229,
    domFlags,
    struct({
      state: uint,
      details: uint,
      /** Milliseconds. */
      stateTime: uhyper,
    }),
  ),
  DOMAIN_GET_VCPU_PIN_INFO: query(
    230,
    struct({ dom: domainRef, count: int, mapLength: int, flags: uint }),
    struct({ maps: opaque(8_388_608), count: int }),
  ),
  DOMAIN_UNDEFINE_FLAGS: action(231, domFlags, nothing),
  DOMAIN_DESTROY_FLAGS: action(234, domFlags, nothing),
  DOMAIN_BLOCK_STATS_FLAGS: query(
    243,
    struct({ dom: domainRef, path: string, max: int, flags: uint }),
    paramsAndCount,
  ),
  DOMAIN_RESET: action(245, domFlags, nothing),
  DOMAIN_SHUTDOWN_FLAGS: action(258, domFlags, nothing),
  DOMAIN_GET_METADATA: query(
    265,
    struct({ dom: domainRef, type: int, uri: optional(string), flags: uint }),
    struct({ metadata: string }),
  ),
  // The guest's agent is asked, and may do something for it: no clients that may only read.
  DOMAIN_GET_HOSTNAME: action(277, domFlags, struct({ hostname: string })),
  DOMAIN_GET_TIME: action(337, domFlags, struct({ seconds: hyper, nanoseconds: uint })),
  DOMAIN_GET_FSINFO: action(349, domFlags, struct({ info: array(filesystem, 256), count: uint })),
  DOMAIN_GET_GUEST_INFO: action(
    418,
    struct({ dom: domainRef, types: uint, flags: uint }),
    struct({ params: array(typedParam, 2048) }),
  ),
  CONNECT_LIST_ALL_DOMAINS: query(
    273,
    struct({ needResults: int, flags: uint }),
    struct({ domains: array(domainRef), count: uint }),
  ),
  DOMAIN_LIST_ALL_SNAPSHOTS: query(
    274,
    struct({ dom: domainRef, needResults: int, flags: uint }),
    struct({ snapshots: array(snapshot), count: int }),
  ),
  CONNECT_GET_ALL_DOMAIN_STATS: query(
    344,
    struct({ domains: array(domainRef), stats: uint, flags: uint }),
    struct({ records: array(record) }),
  ),
  DOMAIN_DEFINE_XML_FLAGS: action(350, struct({ xml: string, flags: uint }), dom),
  DOMAIN_INTERFACE_ADDRESSES: query(
    353,
    struct({ dom: domainRef, source: uint, flags: uint }),
    struct({ interfaces: array(guestInterface, 2048) }),
  ),
  DOMAIN_RENAME: action(
    358,
    struct({ dom: domainRef, name: optional(string), flags: uint }),
    struct({ result: int }),
  ),
  DOMAIN_GET_MESSAGES: query(426, domFlags, struct({ messages: array(string) })),
} as const

/** Procedures of the program for what only QEMU has. */
export const QEMU = {
  MONITOR_COMMAND: action(
    1,
    struct({ dom: domainRef, command: string, flags: uint }),
    struct({ result: string }),
  ),
} as const
