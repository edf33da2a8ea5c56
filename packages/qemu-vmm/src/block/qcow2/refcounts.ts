import { BlockError } from '../errors.ts'
import type { BlockFile } from '../file/protocol.ts'
import { hex, setU64, viewOf } from './bytes.ts'
import { CLAIM_REFCOUNT_BLOCK, CLAIM_REFCOUNT_TABLE, corrupt } from './claims.ts'
import type { Claims } from './claims.ts'
import { MAX_REFTABLE_BYTES } from './header.ts'
import { maxRefcount, readRefcount, writeRefcount } from './refcount-bits.ts'
import { TableCache } from './table-cache.ts'

/** Clusters that were just taken. */
export interface Allocation {
  /** Index of the first. */
  readonly cluster: number
  readonly count: number
  /** They read as zeros: the file never reached that far. */
  readonly fresh: boolean
}

export interface RefcountPlace {
  readonly tableOffset: number
  /** Offsets of the refcount blocks, 0 for those that do not exist. */
  readonly table: Float64Array
  readonly order: number
}

const CACHE_BYTES = 4 << 20
/** Offsets in L1 and L2 entries have 56 bits; doubles have 53, and so has everything in between. */
const MAX_FILE_BYTES = 2 ** 53

/**
 * How often each host cluster is used. Calls must not overlap, the image's metadata mutex sees to
 * that; changes are in the cache until it is written.
 */
export class Refcounts {
  readonly cache: TableCache
  readonly clusterBytes: number
  readonly order: number
  readonly perBlock: number
  table: Float64Array
  tableOffset: number
  readonly #file: BlockFile
  readonly #claims: Claims
  /** No cluster below is free. */
  #hint = 0
  /** From this cluster on the file was never written. */
  #freshFrom: number

  constructor(file: BlockFile, claims: Claims, place: RefcountPlace) {
    this.#file = file
    this.#claims = claims
    this.clusterBytes = claims.clusterBytes
    this.table = place.table
    this.tableOffset = place.tableOffset
    this.order = place.order
    this.perBlock = (claims.clusterBytes * 8) >> place.order
    this.cache = new TableCache(file, Math.min(claims.clusterBytes, 1 << 16), CACHE_BYTES)
    this.#freshFrom = file.zeroInit ? Math.ceil(file.sizeBytes / claims.clusterBytes) : Infinity
  }

  /** How many times a cluster is used. */
  async get(cluster: number): Promise<number> {
    const index = Math.floor(cluster / this.perBlock)
    const block = index < this.table.length ? this.table[index]! : 0
    if (block === 0) return 0
    const { slice, at } = await this.#slice(block, cluster)
    return readRefcount(slice.view, at, this.order)
  }

  /** The same without waiting; undefined when the table's part is not in memory. */
  peek(cluster: number): number | undefined {
    const index = Math.floor(cluster / this.perBlock)
    const block = index < this.table.length ? this.table[index]! : 0
    if (block === 0) return 0
    const perSlice = (this.cache.sliceBytes * 8) >> this.order
    const within = cluster % this.perBlock
    const offset = block + Math.floor(within / perSlice) * this.cache.sliceBytes
    const slice = this.cache.peek(offset)
    return slice === undefined ? undefined : readRefcount(slice.view, within % perSlice, this.order)
  }

  async #slice(block: number, cluster: number) {
    this.#judgeBlock(block)
    const perSlice = (this.cache.sliceBytes * 8) >> this.order
    const index = cluster % this.perBlock
    const at = index % perSlice
    const offset = block + Math.floor(index / perSlice) * this.cache.sliceBytes
    const slice = this.cache.peek(offset) ?? (await this.cache.load(offset))
    return { slice, at }
  }

  #judgeBlock(block: number): void {
    if (block % this.clusterBytes !== 0) {
      throw corrupt(`Refblock offset ${hex(block)} unaligned`)
    }
    if (block + this.clusterBytes > MAX_FILE_BYTES || block >= this.#file.sizeBytes) {
      throw corrupt(`Refblock offset ${hex(block)} is outside the file`)
    }
    if (!this.#claims.is(block, CLAIM_REFCOUNT_BLOCK)) {
      throw corrupt(`Refblock offset ${hex(block)} overlaps with other metadata`)
    }
  }

  /** Adds to the refcount of a cluster whose block exists. Resolves to the new value. */
  async add(cluster: number, delta: number): Promise<number> {
    const index = Math.floor(cluster / this.perBlock)
    const block = index < this.table.length ? this.table[index]! : 0
    if (block === 0) {
      throw corrupt(`cluster ${hex(cluster * this.clusterBytes)} is in use and has no refcount`)
    }
    const { slice, at } = await this.#slice(block, cluster)
    const value = readRefcount(slice.view, at, this.order) + delta
    if (value < 0) {
      throw corrupt(`refcount of cluster ${hex(cluster * this.clusterBytes)} would be ${value}`)
    }
    if (value > maxRefcount(this.order)) throw tooMany(this.order)
    this.cache.modify(slice)
    writeRefcount(slice.view, at, this.order, value)
    if (value === 0) this.#hint = Math.min(this.#hint, cluster)
    return value
  }

  /** Takes up to `count` free clusters in a row, at least one. */
  async allocate(count: number): Promise<Allocation> {
    let first = this.#hint
    for (;;) {
      while ((this.peek(first) ?? (await this.get(first))) !== 0) first++
      if ((first + 1) * this.clusterBytes > MAX_FILE_BYTES) throw tooLarge()
      if (!(await this.#describe(first))) break
      first++
    }
    const index = Math.floor(first / this.perBlock)
    let length = 1
    while (length < count) {
      const next = first + length
      // The next refcount block may not exist; its clusters are for another call.
      if (Math.floor(next / this.perBlock) !== index) break
      if ((this.peek(next) ?? (await this.get(next))) !== 0) break
      length++
    }
    this.#claims.mustBeFree(first * this.clusterBytes, length * this.clusterBytes)
    for (let i = 0; i < length; i++) await this.add(first + i, 1)
    this.#hint = first + length
    const fresh = first >= this.#freshFrom
    this.#reach(first + length)
    return { cluster: first, count: length, fresh }
  }

  /** Takes exactly `count` free clusters in a row, for a table that must be in one piece. */
  async allocateRow(count: number): Promise<Allocation> {
    const tooShort: Allocation[] = []
    let row = await this.allocate(count)
    while (row.count < count) {
      const next = await this.allocate(count - row.count)
      if (next.cluster === row.cluster + row.count) {
        row = { ...row, count: row.count + next.count, fresh: row.fresh && next.fresh }
      } else {
        tooShort.push(row)
        row = next
      }
    }
    for (const { cluster, count: length } of tooShort) {
      for (let i = 0; i < length; i++) await this.add(cluster + i, -1)
    }
    return row
  }

  /** Gives up the last refcount blocks while they describe no cluster but their own. Nothing waits to be written. */
  async dropEmptyBlocks(): Promise<void> {
    for (let index = this.table.length - 1; index > 0; index--) {
      const block = this.table[index]!
      if (block === 0) continue
      const own = block / this.clusterBytes
      for (let cluster = index * this.perBlock; cluster < (index + 1) * this.perBlock; cluster++) {
        const count = this.peek(cluster) ?? (await this.get(cluster))
        if (count !== 0 && !(cluster === own && count === 1)) return
      }
      await this.#file.writev(this.tableOffset + index * 8, [new Uint8Array(8)])
      this.table[index] = 0
      this.#claims.remove(block, this.clusterBytes)
      this.cache.drop(block, this.clusterBytes)
      if (Math.floor(own / this.perBlock) !== index) await this.add(own, -1)
    }
  }

  #reach(end: number): void {
    if (this.#freshFrom !== Infinity && end > this.#freshFrom) this.#freshFrom = end
  }

  /**
   * Sees to it that a free cluster has a refcount block. A missing one is put into that very cluster.
   * @returns whether the cluster was taken for it
   */
  async #describe(cluster: number): Promise<boolean> {
    const index = Math.floor(cluster / this.perBlock)
    if (index >= this.table.length) {
      await this.#growTable(cluster)
      return true
    }
    if (this.table[index] !== 0) return false
    const offset = cluster * this.clusterBytes
    this.#claims.mustBeFree(offset, this.clusterBytes)
    const block = new Uint8Array(this.clusterBytes)
    writeRefcount(viewOf(block), cluster % this.perBlock, this.order, 1)
    await this.#file.writev(offset, [block])
    // The table must not name a block that a crash takes away.
    await this.#file.flush()
    const entry = new Uint8Array(8)
    setU64(viewOf(entry), 0, offset)
    await this.#file.writev(this.tableOffset + index * 8, [entry])
    this.table[index] = offset
    this.#claims.add(offset, this.clusterBytes, CLAIM_REFCOUNT_BLOCK)
    this.#reach(cluster + 1)
    return true
  }

  /**
   * Makes a larger refcount table at `start`, a cluster behind all that the present table can
   * describe, together with the blocks that describe the new clusters.
   */
  async #growTable(start: number): Promise<void> {
    const cs = this.clusterBytes
    const firstBlock = Math.floor(start / this.perBlock)
    let blocks = 1
    let tableClusters = 0
    for (;;) {
      const entries = Math.max(Math.ceil(this.table.length * 1.5), firstBlock + blocks)
      tableClusters = Math.ceil((entries * 8) / cs)
      const last = Math.floor((start + blocks + tableClusters - 1) / this.perBlock)
      if (last - firstBlock + 1 <= blocks) break
      blocks = last - firstBlock + 1
    }
    if (tableClusters * cs > MAX_REFTABLE_BYTES) throw tooLarge()
    this.#claims.mustBeFree(start * cs, (blocks + tableClusters) * cs)
    const table = new Float64Array((tableClusters * cs) / 8)
    table.set(this.table)
    const bytes = new Uint8Array((blocks + tableClusters) * cs)
    for (let i = 0; i < blocks; i++) table[firstBlock + i] = (start + i) * cs
    for (let cluster = start; cluster < start + blocks + tableClusters; cluster++) {
      const block = Math.floor(cluster / this.perBlock) - firstBlock
      const view = viewOf(bytes.subarray(block * cs, (block + 1) * cs))
      writeRefcount(view, cluster % this.perBlock, this.order, 1)
    }
    const view = viewOf(bytes.subarray(blocks * cs))
    for (let i = 0; i < table.length; i++) setU64(view, i * 8, table[i]!)
    await this.#file.writev(start * cs, [bytes])
    await this.#file.flush()
    const pointer = new Uint8Array(12)
    setU64(viewOf(pointer), 0, (start + blocks) * cs)
    viewOf(pointer).setUint32(8, tableClusters)
    await this.#file.writev(48, [pointer])
    await this.#file.flush()
    const old = { offset: this.tableOffset, length: this.table.length * 8 }
    this.table = table
    this.tableOffset = (start + blocks) * cs
    this.#claims.remove(old.offset, old.length)
    this.#claims.add(start * cs, blocks * cs, CLAIM_REFCOUNT_BLOCK)
    this.#claims.add(this.tableOffset, tableClusters * cs, CLAIM_REFCOUNT_TABLE)
    this.#reach(start + blocks + tableClusters)
    for (let at = 0; at < old.length; at += cs) await this.add((old.offset + at) / cs, -1)
  }
}

function tooMany(order: number): BlockError {
  return new BlockError(
    'E_BLOCK_OPTION',
    `refcount_bits=${1 << order} lets a cluster be used ${maxRefcount(order)} times at most: ` +
      'delete snapshots, or convert the image to one with wider refcounts',
    { errno: 'EINVAL' },
  )
}

function tooLarge(): BlockError {
  const message = 'the image file cannot grow: its refcount table has reached its limit'
  return new BlockError('E_BLOCK_IO', message, { errno: 'EFBIG' })
}
