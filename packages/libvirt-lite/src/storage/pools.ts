// All storage pools of a daemon, and what of them is kept.
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { removeDurably, writeDurably } from '../daemon/atomic.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { PoolRef } from '../rpc/index.ts'
import type { PoolDefinition } from './definition.ts'
import { parsePool } from './definition.ts'
import { setPermissions } from './permissions.ts'
import { Pool } from './pool.ts'
import { findVolume } from './volume.ts'
import type { Volume } from './volume.ts'

const DEFAULT = 'default'
/** Of a new folder, as libvirt makes it: others may reach a volume that they know, and list none. */
const FOLDER_MODE = 0o711

const invalid = (text: string): VirtError =>
  new VirtError(ErrorCode.OPERATION_INVALID, `Requested operation is not valid: ${text}`)
const noPool = (text: string): VirtError =>
  new VirtError(ErrorCode.NO_STORAGE_POOL, `Storage pool not found: ${text}`)
const noVolume = (text: string): VirtError =>
  new VirtError(ErrorCode.NO_STORAGE_VOL, `Storage volume not found: ${text}`)

/** @throws VirtError, with what is kept as it was */
function save(path: string, text: string): void {
  try {
    writeDurably(path, text)
  } catch (error) {
    const message = `cannot save the storage pool: ${(error as Error).message}`
    throw new VirtError(ErrorCode.SYSTEM_ERROR, message, { cause: error })
  }
}

export interface PoolsOptions {
  /** Folder of definitions. */
  pools: string
  /** Folder of the pool `default`. */
  images: string
  warn(text: string): void
}

/** virStoragePoolEventLifecycleType. */
export const PoolEvent = {
  DEFINED: 0,
  UNDEFINED: 1,
  STARTED: 2,
  STOPPED: 3,
  CREATED: 4,
  DELETED: 5,
} as const

/** Who wants to know what happens to pools. */
export interface PoolListener {
  lifecycle(pool: PoolRef, event: (typeof PoolEvent)[keyof typeof PoolEvent]): void
  /** Somebody asked for a look at what is in it. */
  refresh(pool: PoolRef): void
}

export class Pools {
  readonly #folder: string
  readonly #byUuid = new Map<string, Pool>()
  readonly #listeners: PoolListener[] = []

  /** Reads what is kept; the pool `default` is made where it is not. */
  constructor({ pools, images, warn }: PoolsOptions) {
    this.#folder = pools
    const files = readdirSync(pools)
    for (const file of files.filter((name) => name.endsWith('.xml'))) {
      try {
        const pool = this.#add(parsePool(readFileSync(join(pools, file), 'utf8')), true)
        pool.autostart = files.includes(`${pool.uuid}.autostart`)
        if (pool.autostart) this.start(pool)
      } catch (error) {
        warn(`cannot read the storage pool ${file}: ${(error as Error).message}`)
      }
    }
    if (this.list().some(({ name }) => name === DEFAULT)) return
    const pool = this.define({ name: DEFAULT, path: images })
    this.setAutostart(pool, true)
    this.start(pool)
  }

  listen(listener: PoolListener): void {
    this.#listeners.push(listener)
  }

  list(): Pool[] {
    return [...this.#byUuid.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The pool that a client means. @throws VirtError */
  of({ uuid, name }: PoolRef): Pool {
    const pool = this.#byUuid.get(uuid)
    if (pool === undefined) throw noPool(`no storage pool with matching uuid '${uuid}' (${name})`)
    return pool
  }

  named(name: string): Pool {
    const pool = this.list().find((one) => one.name === name)
    if (pool === undefined) throw noPool(`no storage pool with matching name '${name}'`)
    return pool
  }

  /** Like `of`, of one that runs. */
  active(ref: PoolRef): Pool {
    const pool = this.of(ref)
    if (!pool.isActive) throw invalid(`storage pool '${pool.name}' is not active`)
    return pool
  }

  /** A volume of a pool that runs. @throws VirtError */
  volume(pool: Pool, name: string): Volume {
    const volume = findVolume(pool.path, name)
    if (volume === undefined) throw noVolume(`no storage vol with matching name '${name}'`)
    return volume
  }

  /** The volume with a path, in whichever pool that runs. @throws VirtError */
  at(path: string): { pool: Pool; volume: Volume } {
    const whole = resolve(path)
    for (const pool of this.list()) {
      if (!pool.isActive || dirname(whole) !== pool.path) continue
      const volume = findVolume(pool.path, whole.slice(pool.path.length + 1))
      if (volume !== undefined) return { pool, volume }
    }
    throw noVolume(`no storage vol with matching path '${path}'`)
  }

  /** Keeps a definition. @throws VirtError where its name, UUID or folder is another pool's, and where it cannot be saved */
  define(definition: PoolDefinition): Pool {
    const before = this.#byUuid.size
    const persistent = new Set(this.list().filter(({ isPersistent }) => isPersistent))
    const pool = this.#add(definition, true)
    try {
      save(this.#file(pool, 'xml'), pool.describe({ space: false }))
    } catch (error) {
      // What is not kept is as it was.
      if (this.#byUuid.size > before) this.#byUuid.delete(pool.uuid)
      else pool.isPersistent = persistent.has(pool)
      throw error
    }
    this.#tell(pool, PoolEvent.DEFINED)
    return pool
  }

  /** A pool that is there until it is stopped. */
  create(definition: PoolDefinition, build: boolean): Pool {
    const before = this.#byUuid.size
    const pool = this.#add(definition, false)
    const isNew = this.#byUuid.size > before
    try {
      if (build) this.#makeFolder(pool)
      this.start(pool)
    } catch (error) {
      if (isNew) this.#byUuid.delete(pool.uuid)
      throw error
    }
    return pool
  }

  start(pool: Pool): void {
    if (pool.isActive) throw invalid(`storage pool '${pool.name}' is already active`)
    if (!existsSync(pool.path) || !statSync(pool.path).isDirectory()) {
      const text = `cannot open directory '${pool.path}': there is none; 'virsh pool-build' makes it`
      throw new VirtError(ErrorCode.SYSTEM_ERROR, text)
    }
    pool.isActive = true
    this.#tell(pool, PoolEvent.STARTED)
  }

  /** Each question looks at the folder as it is: nothing is to be done. @throws VirtError for one that does not run */
  refresh(ref: PoolRef): void {
    const { name, uuid } = this.active(ref)
    for (const listener of this.#listeners) listener.refresh({ name, uuid })
  }

  /** Makes the folder; one that is there gets what the definition says, and keeps the rest. @throws VirtError */
  build(pool: Pool): void {
    this.#makeFolder(pool)
    this.#tell(pool, PoolEvent.CREATED)
  }

  #makeFolder(pool: Pool): void {
    const { permissions } = pool
    try {
      const isNew = mkdirSync(pool.path, { recursive: true }) !== undefined
      setPermissions(pool.path, isNew ? { mode: FOLDER_MODE, ...permissions } : permissions)
    } catch (error) {
      if (error instanceof VirtError) throw error
      const text = `cannot create '${pool.path}': ${(error as Error).message}`
      throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
    }
  }

  stop(pool: Pool): void {
    if (!pool.isActive) throw invalid(`storage pool '${pool.name}' is not active`)
    pool.isActive = false
    if (!pool.isPersistent) this.#byUuid.delete(pool.uuid)
    this.#tell(pool, PoolEvent.STOPPED)
  }

  /** Removes the folder, which has to be empty. @throws VirtError */
  remove(pool: Pool): void {
    if (pool.isActive) throw invalid(`storage pool '${pool.name}' is still active`)
    try {
      rmdirSync(pool.path)
    } catch (error) {
      const text = `failed to remove pool '${pool.path}': ${(error as Error).message}`
      throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
    }
    this.#tell(pool, PoolEvent.DELETED)
  }

  undefine(pool: Pool): void {
    if (pool.isActive) throw invalid(`storage pool '${pool.name}' is still active`)
    removeDurably(this.#file(pool, 'autostart'))
    removeDurably(this.#file(pool, 'xml'))
    this.#byUuid.delete(pool.uuid)
    this.#tell(pool, PoolEvent.UNDEFINED)
  }

  #tell({ name, uuid }: Pool, event: Parameters<PoolListener['lifecycle']>[1]): void {
    for (const listener of this.#listeners) listener.lifecycle({ name, uuid }, event)
  }

  setAutostart(pool: Pool, autostart: boolean): void {
    if (!pool.isPersistent) throw invalid('pool has no config file')
    const mark = this.#file(pool, 'autostart')
    if (autostart) save(mark, '')
    else removeDurably(mark)
    pool.autostart = autostart
  }

  #file({ uuid }: Pool, ending: string): string {
    return join(this.#folder, `${uuid}.${ending}`)
  }

  #add(definition: PoolDefinition, isPersistent: boolean): Pool {
    const { name, uuid = randomUUID(), path } = definition
    const folder = resolve(path)
    for (const other of this.list()) {
      const isSame = other.name === name && other.uuid === uuid
      if (isSame && other.path === folder) {
        other.isPersistent ||= isPersistent
        return other
      }
      if (other.uuid === uuid || other.name === name) {
        const text = `pool '${other.name}' is already defined with uuid ${other.uuid}`
        throw new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`)
      }
      if (other.path === folder) {
        const text = `Storage source conflict with pool: '${other.name}'`
        throw new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`)
      }
    }
    const pool = new Pool({ ...definition, uuid, path: folder }, isPersistent)
    this.#byUuid.set(uuid, pool)
    return pool
  }
}
