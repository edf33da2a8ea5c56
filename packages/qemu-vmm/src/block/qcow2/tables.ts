import { ioError } from '../errors.ts'
import type { BlockFile } from '../file/protocol.ts'
import { hex, setU64, viewOf } from './bytes.ts'
import { CLAIM_L2, corrupt } from './claims.ts'
import type { Claims } from './claims.ts'
import type { Refcounts } from './refcounts.ts'
import { TableCache } from './table-cache.ts'
import type { Slice } from './table-cache.ts'

/** What the L2 table says of guest clusters. */
export const Kind = { Unallocated: 0, Zero: 1, ZeroAllocated: 2, Data: 3, Compressed: 4 } as const
export type Kind = (typeof Kind)[keyof typeof Kind]

/** A run of guest bytes that are stored in one way, in one place. */
export interface Mapping {
  readonly kind: Kind
  /** Where it is in the file: of the first byte, or of the compressed data. */
  readonly host: number
  readonly length: number
  /** Nobody else uses the clusters: they may be overwritten. */
  readonly inPlace: boolean
  /** Bytes of a compressed cluster in the file. */
  readonly compressedBytes: number
}

/** In the upper halves of entries. */
const COPIED = 0x80000000
const COMPRESSED = 0x40000000
const OFFSET_HIGH = 0x00ffffff
const SECTOR = 512
const L2_CACHE_BYTES = 32 << 20

/** The active L1 table and its L2 tables. */
export class Tables {
  readonly cache: TableCache
  readonly clusterBytes: number
  readonly entriesPerTable: number
  readonly l1: DataView
  readonly l1Entries: number
  readonly l1Offset: number
  readonly #file: BlockFile
  readonly #claims: Claims
  readonly #version: number
  readonly #clusterBits: number
  readonly #entriesPerSlice: number
  /** Sectors of the L1 table that the file does not have yet. */
  readonly #l1Dirty = new Set<number>()

  constructor(file: BlockFile, claims: Claims, l1: Uint8Array, l1Offset: number, version: number) {
    this.#file = file
    this.#claims = claims
    this.#version = version
    this.clusterBytes = claims.clusterBytes
    this.#clusterBits = Math.log2(claims.clusterBytes)
    this.entriesPerTable = claims.clusterBytes / 8
    this.l1 = viewOf(l1)
    this.l1Entries = l1.byteLength / 8
    this.l1Offset = l1Offset
    const sliceBytes = Math.min(claims.clusterBytes, 1 << 16)
    this.cache = new TableCache(file, sliceBytes, L2_CACHE_BYTES)
    this.#entriesPerSlice = sliceBytes / 8
  }

  /** Where the L2 table of an L1 entry is; 0 when there is none. */
  tableOffset(l1Index: number): number {
    const high = this.l1.getUint32(l1Index * 8) & OFFSET_HIGH
    const low = this.l1.getUint32(l1Index * 8 + 4)
    const table = high * 2 ** 32 + (low - (low % SECTOR))
    if (table === 0) return 0
    if (table % this.clusterBytes !== 0) {
      throw corrupt(`L2 table offset ${hex(table)} unaligned (L1 index: ${hex(l1Index)})`)
    }
    if (table + this.clusterBytes > Number.MAX_SAFE_INTEGER || table >= this.#file.sizeBytes) {
      throw corrupt(`L2 table offset ${hex(table)} is outside the file (L1 index: ${hex(l1Index)})`)
    }
    if (!this.#claims.is(table, CLAIM_L2 + l1Index)) {
      throw corrupt(
        `L2 table offset ${hex(table)} overlaps other metadata (L1 index: ${hex(l1Index)})`,
      )
    }
    return table
  }

  #sliceOffset(table: number, index: number): number {
    return table + Math.floor(index / this.#entriesPerSlice) * this.cache.sliceBytes
  }

  /** The run that begins at a guest offset, or undefined when its L2 table is not in memory. */
  peek(offset: number, length: number): Mapping | undefined {
    const cs = this.clusterBytes
    const cluster = Math.floor(offset / cs)
    const within = offset - cluster * cs
    const l1Index = Math.floor(cluster / this.entriesPerTable)
    const index = cluster % this.entriesPerTable
    const table = this.tableOffset(l1Index)
    if (table === 0) {
      const rest = (this.entriesPerTable - index) * cs - within
      return run(Kind.Unallocated, 0, Math.min(rest, length), false)
    }
    const slice = this.cache.peek(this.#sliceOffset(table, index))
    if (slice === undefined) return undefined
    const { view } = slice
    const first = index % this.#entriesPerSlice
    const high = view.getUint32(first * 8)
    const low = view.getUint32(first * 8 + 4)
    if ((high & COMPRESSED) !== 0) return this.#compressed(high, low, Math.min(length, cs - within))
    const kind = this.#kind(high, low)
    const inPlace = (high & COPIED) !== 0
    const host = (high & OFFSET_HIGH) * 2 ** 32 + (low - (low % SECTOR))
    const stored = kind === Kind.Data || kind === Kind.ZeroAllocated
    if (stored) this.#judge(host, cluster)
    // As far as the request goes, at most to the end of the slice.
    const most = Math.min(this.#entriesPerSlice - first, Math.ceil((within + length) / cs))
    let count = 1
    for (; count < most; count++) {
      const nextHigh = view.getUint32((first + count) * 8)
      const nextLow = view.getUint32((first + count) * 8 + 4)
      if ((nextHigh & COMPRESSED) !== 0 || this.#kind(nextHigh, nextLow) !== kind) break
      if (!stored) continue
      if (((nextHigh & COPIED) !== 0) !== inPlace) break
      const next = (nextHigh & OFFSET_HIGH) * 2 ** 32 + (nextLow - (nextLow % SECTOR))
      if (next !== host + count * cs || next >= this.#file.sizeBytes) break
    }
    return run(kind, stored ? host + within : 0, Math.min(length, count * cs - within), inPlace)
  }

  /** The run of a request that is all in one, if that is known without reading a table. */
  peekWhole(offset: number, length: number): Mapping | undefined {
    const mapping = this.peek(offset, length)
    return mapping?.length === length ? mapping : undefined
  }

  /** The run that begins at a guest offset. */
  async mapping(offset: number, length: number): Promise<Mapping> {
    for (;;) {
      const mapping = this.peek(offset, length)
      if (mapping !== undefined) return mapping
      await this.load(offset)
    }
  }

  #kind(high: number, low: number): Kind {
    const allocated = (high & OFFSET_HIGH) !== 0 || low >= SECTOR
    if ((low & 1) !== 0 && this.#version >= 3) return allocated ? Kind.ZeroAllocated : Kind.Zero
    return allocated ? Kind.Data : Kind.Unallocated
  }

  #judge(host: number, cluster: number): void {
    if (host % this.clusterBytes !== 0) {
      throw corrupt(
        `Cluster allocation offset ${hex(host)} unaligned (guest cluster ${hex(cluster)})`,
      )
    }
    if (host >= this.#file.sizeBytes || host + this.clusterBytes > Number.MAX_SAFE_INTEGER) {
      throw corrupt(
        `Cluster offset ${hex(host)} is outside the file (guest cluster ${hex(cluster)})`,
      )
    }
  }

  #compressed(high: number, low: number, length: number): Mapping {
    // Bits 0 to x-1 are the offset, x to 61 the number of further sectors; x is 62 - (clusterBits - 8).
    const sectorBits = this.#clusterBits - 8
    const field = (high & 0x3fffffff) >>> 0
    const highBits = 30 - sectorBits
    const host = (field % 2 ** highBits) * 2 ** 32 + low
    const sectors = Math.floor(field / 2 ** highBits)
    const compressedBytes = (sectors + 1) * SECTOR - (host % SECTOR)
    if (host >= this.#file.sizeBytes || host + compressedBytes > Number.MAX_SAFE_INTEGER) {
      throw corrupt(`Compressed cluster offset ${hex(host)} is outside the file`)
    }
    return { kind: Kind.Compressed, host, length, inPlace: false, compressedBytes }
  }

  /** Brings the L2 entries of a guest offset into memory. */
  async load(offset: number): Promise<void> {
    const cluster = Math.floor(offset / this.clusterBytes)
    const table = this.tableOffset(Math.floor(cluster / this.entriesPerTable))
    if (table === 0) return
    await this.cache.load(this.#sliceOffset(table, cluster % this.entriesPerTable))
  }

  /**
   * The slice with a guest cluster's entry, in an L2 table that is ours alone: a missing table is
   * made, a shared one copied. Under the metadata mutex.
   * @param freed told of clusters that are no longer used
   */
  async writable(cluster: number, refcounts: Refcounts, freed: number[]): Promise<Slice> {
    const l1Index = Math.floor(cluster / this.entriesPerTable)
    const old = this.tableOffset(l1Index)
    let table = old
    if (old === 0 || (this.l1.getUint32(l1Index * 8) & COPIED) === 0) {
      const cs = this.clusterBytes
      const taken = await refcounts.allocate(1)
      table = taken.cluster * cs
      const bytes = new Uint8Array(cs)
      if (old !== 0) await this.#file.readv(old, [bytes])
      await this.#file.writev(table, [bytes])
      this.#claims.remove(old, old === 0 ? 0 : cs)
      this.#claims.add(table, cs, CLAIM_L2 + l1Index)
      setU64(this.l1, l1Index * 8, table)
      this.l1.setUint32(l1Index * 8, (this.l1.getUint32(l1Index * 8) | COPIED) >>> 0)
      this.#l1Dirty.add(Math.floor((l1Index * 8) / SECTOR))
      if (old !== 0) {
        this.cache.drop(old, cs)
        freed.push(old / cs)
      }
    }
    const offset = this.#sliceOffset(table, cluster % this.entriesPerTable)
    return this.cache.peek(offset) ?? (await this.cache.load(offset))
  }

  /** Replaces the entry of a guest cluster and tells which host clusters the old one used. */
  replace(slice: Slice, cluster: number, host: number, flags: EntryFlags, freed: number[]): void {
    const at = (cluster % this.#entriesPerSlice) * 8
    const { clusterBytes: cs } = this
    const oldHigh = slice.view.getUint32(at)
    const oldLow = slice.view.getUint32(at + 4)
    if ((oldHigh & COMPRESSED) !== 0) {
      const old = this.#compressed(oldHigh, oldLow, cs)
      const end = Math.floor((old.host + old.compressedBytes - 1) / cs)
      for (let used = Math.floor(old.host / cs); used <= end; used++) freed.push(used)
    } else {
      const old = (oldHigh & OFFSET_HIGH) * 2 ** 32 + (oldLow - (oldLow % SECTOR))
      if (old !== 0 && old !== host) {
        this.#judge(old, cluster)
        freed.push(old / cs)
      }
    }
    this.cache.modify(slice)
    setU64(slice.view, at, host)
    const high = slice.view.getUint32(at)
    if (flags.copied) slice.view.setUint32(at, (high | COPIED) >>> 0)
    if (flags.zero) slice.view.setUint32(at + 4, (slice.view.getUint32(at + 4) | 1) >>> 0)
  }

  /** Replaces the entry of a guest cluster by one for `bytes` packed bytes, both multiples of 512. */
  replacePacked(slice: Slice, cluster: number, host: number, bytes: number, freed: number[]): void {
    const highBits = 30 - (this.#clusterBits - 8)
    const high = Math.floor(host / 2 ** 32)
    if (high >= 2 ** highBits) {
      throw ioError('cannot compress', `a cluster at ${hex(host)}`, { code: 'EFBIG' })
    }
    this.replace(slice, cluster, host, { copied: false, zero: false }, freed)
    const sectors = bytes / SECTOR - 1
    const at = (cluster % this.#entriesPerSlice) * 8
    slice.view.setUint32(at, COMPRESSED + sectors * 2 ** highBits + high)
  }

  /** Makes an L1 entry name no table, and tells which clusters that had. */
  forgetTable(l1Index: number, freed: number[]): void {
    const table = this.tableOffset(l1Index)
    if (table === 0) return
    this.#claims.remove(table, this.clusterBytes)
    this.cache.drop(table, this.clusterBytes)
    setU64(this.l1, l1Index * 8, 0)
    this.#l1Dirty.add(Math.floor((l1Index * 8) / SECTOR))
    freed.push(table / this.clusterBytes)
  }

  /** Sets or clears the flag that an L2 table is used once. */
  setTableCopied(l1Index: number, copied: boolean): void {
    const high = this.l1.getUint32(l1Index * 8)
    const wanted = (copied ? high | COPIED : high & ~COPIED) >>> 0
    if (wanted === high) return
    this.l1.setUint32(l1Index * 8, wanted)
    this.#l1Dirty.add(Math.floor((l1Index * 8) / SECTOR))
  }

  /** How many entries from a guest cluster on are in its slice. */
  entriesLeft(cluster: number): number {
    return this.#entriesPerSlice - (cluster % this.#entriesPerSlice)
  }

  /** Takes the sectors of the L1 table that are to be written now. */
  freezeL1(): readonly L1Sector[] {
    const taken: L1Sector[] = []
    for (const sector of this.#l1Dirty) {
      const at = sector * SECTOR
      const length = Math.min(SECTOR, this.l1.byteLength - at)
      const bytes = new Uint8Array(this.l1.buffer, this.l1.byteOffset + at, length).slice()
      taken.push({ sector, bytes })
    }
    this.#l1Dirty.clear()
    return taken
  }

  async writeL1(sectors: readonly L1Sector[]): Promise<void> {
    for (const { sector, bytes } of sectors) {
      await this.#file.writev(this.l1Offset + sector * SECTOR, [bytes])
    }
  }

  /** Gives back what was taken and not written. */
  l1Again(sectors: readonly L1Sector[]): void {
    for (const { sector } of sectors) this.#l1Dirty.add(sector)
  }
}

export interface EntryFlags {
  readonly copied: boolean
  readonly zero: boolean
}

export interface L1Sector {
  readonly sector: number
  readonly bytes: Uint8Array
}

function run(kind: Kind, host: number, length: number, inPlace: boolean): Mapping {
  return { kind, host, length, inPlace, compressedBytes: 0 }
}
