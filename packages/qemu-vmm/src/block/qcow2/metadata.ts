import type { BlockFile } from '../file/protocol.ts'
import { Mutex } from '../range-locks.ts'
import { getU64, viewOf } from './bytes.ts'
import {
  CLAIM_HEADER,
  CLAIM_L1,
  CLAIM_L2,
  CLAIM_REFCOUNT_BLOCK,
  CLAIM_REFCOUNT_TABLE,
  CLAIM_SNAPSHOT_TABLE,
  Claims,
} from './claims.ts'
import type { Qcow2Header } from './header.ts'
import { Refcounts } from './refcounts.ts'
import { Tables } from './tables.ts'

/** So many clusters wait to be freed at most before the tables are written. */
const MOST_FREED = 4096

/**
 * All tables of an image, and the order in which they reach the file.
 *
 * A refcount is in the file before anything that relies on it, data before the L2 entry that names
 * it, an L2 table before its L1 entry, with barriers between. A refcount is taken back only after
 * the entry that counted is gone from the file. A crash at any point leaks clusters at worst.
 */
export class Metadata {
  readonly claims: Claims
  readonly refcounts: Refcounts
  readonly tables: Tables
  /** Guards what takes several steps: allocation and changes of tables. */
  readonly mutex: Mutex = new Mutex()
  /** Clusters whose last use ended; their refcounts go down after the next write of the tables. */
  freed: number[] = []
  readonly #file: BlockFile
  readonly #onFreed: (offset: number, length: number) => Promise<unknown>
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined

  private constructor(
    file: BlockFile,
    claims: Claims,
    refcounts: Refcounts,
    tables: Tables,
    onFreed: (offset: number, length: number) => Promise<unknown>,
  ) {
    this.#file = file
    this.claims = claims
    this.refcounts = refcounts
    this.tables = tables
    this.#onFreed = onFreed
  }

  /** @param onFreed gives storage back; called when nothing names the range any more */
  static async load(
    file: BlockFile,
    header: Qcow2Header,
    onFreed: (offset: number, length: number) => Promise<unknown>,
  ): Promise<Metadata> {
    const cs = 2 ** header.clusterBits
    const claims = new Claims(cs)
    claims.add(0, cs, CLAIM_HEADER)
    const tableBytes = new Uint8Array(header.refcountTableClusters * cs)
    await file.readv(header.refcountTableOffset, [tableBytes])
    const l1 = new Uint8Array(header.l1Entries * 8)
    await file.readv(header.l1Offset, [l1])
    claims.add(header.refcountTableOffset, tableBytes.byteLength, CLAIM_REFCOUNT_TABLE)
    claims.add(header.l1Offset, l1.byteLength, CLAIM_L1)
    claims.add(header.snapshotsOffset, header.snapshots * 40, CLAIM_SNAPSHOT_TABLE)
    const table = new Float64Array(tableBytes.byteLength / 8)
    const view = viewOf(tableBytes)
    for (let i = 0; i < table.length; i++) {
      const offset = getU64(view, i * 8)
      table[i] = offset - (offset % 512)
      if (table[i] !== 0 && table[i]! < file.sizeBytes) {
        claims.add(table[i]!, cs, CLAIM_REFCOUNT_BLOCK)
      }
    }
    const tables = new Tables(file, claims, l1, header.l1Offset, header.version)
    for (let i = 0; i < header.l1Entries; i++) {
      const offset =
        (tables.l1.getUint32(i * 8) & 0x00ffffff) * 2 ** 32 + tables.l1.getUint32(i * 8 + 4)
      if (offset >= 512 && offset < file.sizeBytes)
        claims.add(offset - (offset % 512), cs, CLAIM_L2 + i)
    }
    const place = { tableOffset: header.refcountTableOffset, table, order: header.refcountOrder }
    const refcounts = new Refcounts(file, claims, place)
    return new Metadata(file, claims, refcounts, tables, onFreed)
  }

  /** Enough waits that it should be written before more is added. */
  get crowded(): boolean {
    return (
      this.tables.cache.crowded || this.refcounts.cache.crowded || this.freed.length > MOST_FREED
    )
  }

  /** Writes all tables and makes them, and all completed writes of data, stable. */
  flush(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#write().finally(() => (this.#running = undefined))
      return this.#running
    }
    // What completed since the running one began is for the next one.
    this.#queued ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#queued = undefined
        return this.flush()
      })
    return this.#queued
  }

  async #write(): Promise<void> {
    const refcounts = this.refcounts.cache.freeze()
    const l2 = this.tables.cache.freeze()
    const l1 = this.tables.freezeL1()
    const { freed } = this
    this.freed = []
    try {
      await this.refcounts.cache.write(refcounts)
      // This is also the barrier between refcounts and data and what names them.
      await this.#file.flush()
      if (l2.length > 0) {
        await this.tables.cache.write(l2)
        await this.#file.flush()
      }
      if (l1.length > 0) {
        await this.tables.writeL1(l1)
        await this.#file.flush()
      }
    } catch (error) {
      // Whatever of it was written may be written again.
      this.refcounts.cache.again(refcounts)
      this.tables.cache.again(l2)
      this.tables.l1Again(l1)
      this.freed = freed.concat(this.freed)
      throw error
    }
    if (freed.length > 0) await this.mutex.run(() => this.#release(freed))
  }

  async #release(freed: number[]): Promise<void> {
    const cs = this.claims.clusterBytes
    let start = -1
    let end = -1
    const unused = async (): Promise<void> => {
      if (start >= 0) await this.#onFreed(start * cs, (end - start) * cs)
    }
    for (const cluster of freed.toSorted((a, b) => a - b)) {
      if ((await this.refcounts.add(cluster, -1)) > 0) continue
      if (cluster !== end) {
        await unused()
        start = cluster
      }
      end = cluster + 1
    }
    await unused()
  }
}
