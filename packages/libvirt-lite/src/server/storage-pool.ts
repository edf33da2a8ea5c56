import type { Handlers, PoolRef } from '../rpc/index.ts'
import { parsePool } from '../storage/definition.ts'
import type { Pool } from '../storage/pool.ts'
import type { Pools } from '../storage/pools.ts'
import { checkFlags } from './check-flags.ts'

/** virStoragePoolState. */
const INACTIVE = 0
const RUNNING = 2

/** Filters of `virConnectListAllStoragePools`, in groups: of each group with any, a pool has one of the given. */
const FILTERS: readonly (readonly [number, (pool: Pool) => boolean])[][] = [
  [
    [1, ({ isActive }) => !isActive],
    [2, ({ isActive }) => isActive],
  ],
  [
    [4, ({ isPersistent }) => isPersistent],
    [8, ({ isPersistent }) => !isPersistent],
  ],
  [
    [16, ({ autostart }) => autostart],
    [32, ({ autostart }) => !autostart],
  ],
]
/** Kinds of pools, of which all here are folders. */
const KIND_FLAGS = 0xfffc0
const KIND_DIR = 0x40
const FILTER_FLAGS = 0x3f | KIND_FLAGS
/** virStoragePoolCreateFlags: build the folder, with or without a look at what is there. */
const CREATE_BUILD = 0b111
const DEFINE_VALIDATE = 1

function matches(pool: Pool, flags: number): boolean {
  if ((flags & KIND_FLAGS) !== 0 && (flags & KIND_DIR) === 0) return false
  return FILTERS.every((group) => {
    const asked = group.filter(([flag]) => (flags & flag) !== 0)
    return asked.length === 0 || asked.some(([, holds]) => holds(pool))
  })
}

const refOf = ({ name, uuid }: Pool): PoolRef => ({ name, uuid })

/** Calls about storage pools. */
export function storagePoolHandlers(pools: Pools): Handlers {
  const names = (active: boolean): string[] =>
    pools.list().flatMap(({ name, isActive }) => (isActive === active ? [name] : []))
  return {
    CONNECT_NUM_OF_STORAGE_POOLS: () => ({ count: names(true).length }),
    CONNECT_LIST_STORAGE_POOLS: ({ max }) => ({ names: names(true).slice(0, max) }),
    CONNECT_NUM_OF_DEFINED_STORAGE_POOLS: () => ({ count: names(false).length }),
    CONNECT_LIST_DEFINED_STORAGE_POOLS: ({ max }) => ({ names: names(false).slice(0, max) }),
    CONNECT_LIST_ALL_STORAGE_POOLS({ needResults, flags }) {
      checkFlags(flags, FILTER_FLAGS, 'virConnectListAllStoragePools')
      const found = pools.list().filter((pool) => matches(pool, flags))
      return { pools: needResults ? found.map(refOf) : [], count: found.length }
    },
    STORAGE_POOL_LOOKUP_BY_NAME: ({ name }) => ({ pool: refOf(pools.named(name)) }),
    STORAGE_POOL_LOOKUP_BY_UUID: ({ uuid }) => ({ pool: refOf(pools.of({ name: '', uuid })) }),
    STORAGE_POOL_LOOKUP_BY_VOLUME: ({ vol }) => ({ pool: refOf(pools.named(vol.pool)) }),
    STORAGE_POOL_GET_INFO({ pool: ref }) {
      const pool = pools.of(ref)
      const { capacity, allocation, available } = pool.space()
      return {
        state: pool.isActive ? RUNNING : INACTIVE,
        capacity: BigInt(capacity),
        allocation: BigInt(allocation),
        available: BigInt(available),
      }
    },
    STORAGE_POOL_GET_XML_DESC({ pool, flags }) {
      checkFlags(flags, 1, 'virStoragePoolGetXMLDesc')
      return { xml: pools.of(pool).describe({ space: flags === 0 }) }
    },
    STORAGE_POOL_GET_AUTOSTART: ({ pool }) => ({ autostart: pools.of(pool).autostart }),
    STORAGE_POOL_SET_AUTOSTART({ pool, autostart }) {
      pools.setAutostart(pools.of(pool), autostart)
    },
    STORAGE_POOL_IS_ACTIVE: ({ pool }) => ({ active: pools.of(pool).isActive }),
    STORAGE_POOL_IS_PERSISTENT: ({ pool }) => ({ persistent: pools.of(pool).isPersistent }),
    STORAGE_POOL_DEFINE_XML({ xml, flags }) {
      checkFlags(flags, DEFINE_VALIDATE, 'virStoragePoolDefineXML')
      return { pool: refOf(pools.define(parsePool(xml))) }
    },
    STORAGE_POOL_CREATE_XML({ xml, flags }) {
      checkFlags(flags, CREATE_BUILD, 'virStoragePoolCreateXML')
      const definition = parsePool(xml)
      return { pool: refOf(pools.create(definition, flags !== 0)) }
    },
    STORAGE_POOL_CREATE({ pool: ref, flags }) {
      checkFlags(flags, CREATE_BUILD, 'virStoragePoolCreate')
      const pool = pools.of(ref)
      if (flags !== 0) pools.build(pool)
      pools.start(pool)
    },
    STORAGE_POOL_BUILD({ pool, flags }) {
      // New; repair and resize of a folder are nothing that could be done.
      checkFlags(flags, 0, 'virStoragePoolBuild')
      pools.build(pools.of(pool))
    },
    STORAGE_POOL_DESTROY({ pool }) {
      pools.stop(pools.of(pool))
    },
    STORAGE_POOL_DELETE({ pool, flags }) {
      checkFlags(flags, 0, 'virStoragePoolDelete')
      pools.remove(pools.of(pool))
    },
    STORAGE_POOL_UNDEFINE({ pool }) {
      pools.undefine(pools.of(pool))
    },
    STORAGE_POOL_REFRESH({ pool, flags }) {
      checkFlags(flags, 0, 'virStoragePoolRefresh')
      pools.refresh(pool)
    },
    STORAGE_POOL_NUM_OF_VOLUMES: ({ pool }) => ({ count: pools.active(pool).volumes().length }),
    STORAGE_POOL_LIST_VOLUMES({ pool, max }) {
      const volumes = pools.active(pool).volumes()
      return { names: volumes.slice(0, max).map(({ name }) => name) }
    },
    STORAGE_POOL_LIST_ALL_VOLUMES({ pool: ref, needResults, flags }) {
      checkFlags(flags, 0, 'virStoragePoolListAllVolumes')
      const pool = pools.active(ref)
      const volumes = pool.volumes()
      const refs = volumes.map(({ name, path }) => ({ pool: pool.name, name, key: path }))
      return { volumes: needResults ? refs : [], count: volumes.length }
    },
  }
}
