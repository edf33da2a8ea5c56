import { flag, int, string, struct, uint, uuid } from '../codec.ts'
import { query } from './procedure.ts'

const named = struct({ name: string })
const text = struct({ xml: string })
const card = struct({ name: string, mac: string })
const secret = struct({ uuid, usageType: int, usageId: string })
const filter = struct({ name: string, uuid })

/** Devices and interfaces of the host, secrets and filters: finding them, and asking them. */
export const ABSENT = {
  NODE_DEVICE_LOOKUP_BY_NAME: query(113, named, struct({ device: named })),
  NODE_DEVICE_GET_XML_DESC: query(114, struct({ name: string, flags: uint }), text),
  NODE_DEVICE_IS_ACTIVE: query(436, struct({ device: named }), struct({ active: flag })),
  INTERFACE_LOOKUP_BY_NAME: query(128, named, struct({ card })),
  INTERFACE_IS_ACTIVE: query(156, struct({ card }), struct({ active: flag })),
  SECRET_LOOKUP_BY_UUID: query(141, struct({ uuid }), struct({ secret })),
  NWFILTER_LOOKUP_BY_NAME: query(175, named, struct({ filter })),
  NWFILTER_LOOKUP_BY_UUID: query(176, struct({ uuid }), struct({ filter })),
} as const
