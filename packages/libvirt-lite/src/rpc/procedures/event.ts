import { array, hyper, int, optional, string, struct, uhyper, uuid } from '../codec.ts'
import { domainRef, networkRef, poolRef } from '../message.ts'
import { typedParam } from '../typed-param.ts'
import { query } from './procedure.ts'

const callback = struct({ callbackId: int })

/** Registering for events; they come as messages, see {@link EVENT_MESSAGES}. */
export const EVENT = {
  CONNECT_NETWORK_EVENT_REGISTER_ANY: query(
    313,
    struct({ event: int, net: optional(networkRef) }),
    callback,
  ),
  CONNECT_NETWORK_EVENT_DEREGISTER_ANY: query(314, callback, struct({})),
  CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: query(
    316,
    struct({ event: int, dom: optional(domainRef) }),
    callback,
  ),
  CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY: query(317, callback, struct({})),
  CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY: query(
    368,
    struct({ event: int, pool: optional(poolRef) }),
    callback,
  ),
  CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY: query(369, callback, struct({})),
  CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY: query(
    374,
    struct({ event: int, device: optional(struct({ name: string })) }),
    callback,
  ),
  CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY: query(375, callback, struct({})),
  CONNECT_SECRET_EVENT_REGISTER_ANY: query(
    380,
    struct({ event: int, secret: optional(struct({ uuid, usageType: int, usageId: string })) }),
    callback,
  ),
  CONNECT_SECRET_EVENT_DEREGISTER_ANY: query(381, callback, struct({})),
} as const

/** A lifecycle event's facts; `event` and `detail` are libvirt's numbers. */
const change = struct({ dom: domainRef, event: int, detail: int })

const device = struct({ callbackId: int, dom: domainRef, alias: string })

/** The messages that tell of events, with the procedure number that each is sent under. */
export const EVENT_MESSAGES = {
  /** To clients that registered without callback ids. */
  DOMAIN_EVENT_LIFECYCLE: { number: 107, codec: change },
  DOMAIN_EVENT_REBOOT: { number: 169, codec: struct({ dom: domainRef }) },
  DOMAIN_EVENT_CALLBACK_LIFECYCLE: {
    number: 318,
    codec: struct({ callbackId: int, message: change }),
  },
  DOMAIN_EVENT_CALLBACK_REBOOT: {
    number: 319,
    codec: struct({ callbackId: int, message: struct({ dom: domainRef }) }),
  },
  DOMAIN_EVENT_CALLBACK_RTC_CHANGE: {
    number: 320,
    /** `offset` is in seconds. */
    codec: struct({ callbackId: int, message: struct({ dom: domainRef, offset: hyper }) }),
  },
  DOMAIN_EVENT_CALLBACK_DISK_CHANGE: {
    number: 327,
    codec: struct({
      callbackId: int,
      dom: domainRef,
      oldPath: optional(string),
      newPath: optional(string),
      alias: string,
      reason: int,
    }),
  },
  DOMAIN_EVENT_CALLBACK_TRAY_CHANGE: {
    number: 328,
    codec: struct({ callbackId: int, dom: domainRef, alias: string, reason: int }),
  },
  DOMAIN_EVENT_CALLBACK_BALLOON_CHANGE: {
    number: 331,
    /** `actual` is in KiB. */
    codec: struct({ callbackId: int, dom: domainRef, actual: uhyper }),
  },
  DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED: { number: 333, codec: device },
  DOMAIN_EVENT_CALLBACK_TUNABLE: {
    number: 346,
    codec: struct({ callbackId: int, dom: domainRef, params: array(typedParam, 2048) }),
  },
  DOMAIN_EVENT_CALLBACK_DEVICE_ADDED: { number: 354, codec: device },
  DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED: { number: 367, codec: device },
  DOMAIN_EVENT_CALLBACK_METADATA_CHANGE: {
    number: 379,
    codec: struct({ callbackId: int, dom: domainRef, type: int, uri: optional(string) }),
  },
  STORAGE_POOL_EVENT_LIFECYCLE: {
    number: 370,
    codec: struct({ callbackId: int, pool: poolRef, event: int, detail: int }),
  },
  STORAGE_POOL_EVENT_REFRESH: { number: 373, codec: struct({ callbackId: int, pool: poolRef }) },
  NETWORK_EVENT_LIFECYCLE: {
    number: 315,
    codec: struct({ callbackId: int, net: networkRef, event: int, detail: int }),
  },
} as const
