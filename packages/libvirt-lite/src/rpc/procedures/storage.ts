import { array, flag, int, nothing, string, struct, uhyper, uint, uuid } from '../codec.ts'
import { poolRef, volumeRef } from '../message.ts'
import { action, query, stream } from './procedure.ts'

const pool = struct({ pool: poolRef })
const poolFlags = struct({ pool: poolRef, flags: uint })
const volume = struct({ vol: volumeRef })
const volumeFlags = struct({ vol: volumeRef, flags: uint })
const xmlFlags = struct({ xml: string, flags: uint })
const xml = struct({ xml: string })
const count = struct({ count: int })
const names = struct({ names: array(string) })
const transfer = struct({ vol: volumeRef, offset: uhyper, length: uhyper, flags: uint })

/** Storage pools and the volumes in them. */
export const STORAGE = {
  CONNECT_NUM_OF_STORAGE_POOLS: query(71, nothing, count),
  CONNECT_LIST_STORAGE_POOLS: query(72, struct({ max: int }), names),
  CONNECT_NUM_OF_DEFINED_STORAGE_POOLS: query(73, nothing, count),
  CONNECT_LIST_DEFINED_STORAGE_POOLS: query(74, struct({ max: int }), names),
  STORAGE_POOL_CREATE_XML: action(76, xmlFlags, pool),
  STORAGE_POOL_DEFINE_XML: action(77, xmlFlags, pool),
  STORAGE_POOL_CREATE: action(78, poolFlags, nothing),
  STORAGE_POOL_BUILD: action(79, poolFlags, nothing),
  STORAGE_POOL_DESTROY: action(80, pool, nothing),
  STORAGE_POOL_DELETE: action(81, poolFlags, nothing),
  STORAGE_POOL_UNDEFINE: action(82, pool, nothing),
  STORAGE_POOL_REFRESH: action(83, poolFlags, nothing),
  STORAGE_POOL_LOOKUP_BY_NAME: query(84, struct({ name: string }), pool),
  STORAGE_POOL_LOOKUP_BY_UUID: query(85, struct({ uuid }), pool),
  STORAGE_POOL_LOOKUP_BY_VOLUME: query(86, volume, pool),
  STORAGE_POOL_GET_INFO: query(
    87,
    pool,
    struct({ state: int, capacity: uhyper, allocation: uhyper, available: uhyper }),
  ),
  STORAGE_POOL_GET_XML_DESC: query(88, poolFlags, xml),
  STORAGE_POOL_GET_AUTOSTART: query(89, pool, struct({ autostart: flag })),
  STORAGE_POOL_SET_AUTOSTART: action(90, struct({ pool: poolRef, autostart: flag }), nothing),
  STORAGE_POOL_NUM_OF_VOLUMES: query(91, pool, count),
  STORAGE_POOL_LIST_VOLUMES: query(92, struct({ pool: poolRef, max: int }), names),
  STORAGE_VOL_CREATE_XML: action(93, struct({ pool: poolRef, xml: string, flags: uint }), volume),
  STORAGE_VOL_DELETE: action(94, volumeFlags, nothing),
  STORAGE_VOL_LOOKUP_BY_NAME: query(95, struct({ pool: poolRef, name: string }), volume),
  STORAGE_VOL_LOOKUP_BY_KEY: query(96, struct({ key: string }), volume),
  STORAGE_VOL_LOOKUP_BY_PATH: query(97, struct({ path: string }), volume),
  STORAGE_VOL_GET_INFO: query(
    98,
    volume,
    struct({ type: int, capacity: uhyper, allocation: uhyper }),
  ),
  STORAGE_VOL_GET_XML_DESC: query(99, volumeFlags, xml),
  STORAGE_VOL_GET_PATH: query(100, volume, struct({ path: string })),
  STORAGE_VOL_CREATE_XML_FROM: action(
    125,
    struct({ pool: poolRef, xml: string, source: volumeRef, flags: uint }),
    volume,
  ),
  STORAGE_POOL_IS_ACTIVE: query(154, pool, struct({ active: flag })),
  STORAGE_POOL_IS_PERSISTENT: query(155, pool, struct({ persistent: flag })),
  STORAGE_VOL_UPLOAD: stream(208, transfer, nothing),
  STORAGE_VOL_DOWNLOAD: stream(209, transfer, nothing),
  STORAGE_VOL_RESIZE: action(
    260,
    struct({ vol: volumeRef, capacity: uhyper, flags: uint }),
    nothing,
  ),
  CONNECT_LIST_ALL_STORAGE_POOLS: query(
    281,
    struct({ needResults: int, flags: uint }),
    struct({ pools: array(poolRef), count: uint }),
  ),
  STORAGE_POOL_LIST_ALL_VOLUMES: query(
    282,
    struct({ pool: poolRef, needResults: int, flags: uint }),
    struct({ volumes: array(volumeRef), count: uint }),
  ),
  STORAGE_VOL_GET_INFO_FLAGS: query(
    378,
    volumeFlags,
    struct({ type: int, capacity: uhyper, allocation: uhyper, flags: uint }),
  ),
} as const
