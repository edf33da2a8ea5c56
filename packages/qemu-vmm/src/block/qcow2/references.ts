import type { BlockFile } from '../file/protocol.ts'
import type { CheckResult } from '../node.ts'
import { hex, viewOf } from './bytes.ts'
import type { Qcow2Header } from './header.ts'
import type { Metadata } from './metadata.ts'
import type { Snapshot } from './snapshots.ts'

/** An entry whose flag "copied" does not say what the refcounts say, and how it should be. */
export interface CopiedError {
  readonly level: 'L1' | 'L2'
  readonly table: number
  readonly entry: number
  readonly at: number
  readonly bytes: Uint8Array
}

/** So many tables are read at most: snapshots could name the same ones again and again. */
const MOST_TABLES = 1 << 22
const MOST_COPIED_ERRORS = 1 << 16
const COPIED = 0x80000000

/** How often each host cluster is named in an image's tables. */
export class ReferenceCounter {
  readonly counts: Uint32Array
  /** The last cluster that is in use. */
  highest: number = 0
  readonly #file: BlockFile
  readonly #header: Qcow2Header
  readonly #clusterBytes: number
  readonly #result: CheckResult
  readonly #report: (line: string) => void
  #tables = 0
  #nextHost = -1

  constructor(
    file: BlockFile,
    header: Qcow2Header,
    clusters: number,
    result: CheckResult,
    report: (line: string) => void,
  ) {
    this.#file = file
    this.#header = header
    this.#clusterBytes = 2 ** header.clusterBits
    this.counts = new Uint32Array(clusters)
    this.#result = result
    this.#report = report
  }

  /** Counts everything that the header leads to. */
  async countImage(metadata: Metadata, snapshots: readonly Snapshot[]): Promise<void> {
    const header = this.#header
    const cs = this.#clusterBytes
    this.#use(0, cs, 'header')
    this.#use(header.refcountTableOffset, header.refcountTableClusters * cs, 'refcount table')
    for (const [index, block] of metadata.refcounts.table.entries()) {
      if (block === 0) continue
      if (block % cs !== 0) this.#corrupt(`ERROR refcount block ${index} is not cluster aligned`)
      else this.#use(block, cs, `refcount block ${index}`)
    }
    this.#use(header.snapshotsOffset, await this.#snapshotBytes(header), 'snapshot table')
    this.#use(header.l1Offset, header.l1Entries * 8, 'L1 table')
    await this.#countL1(metadata.tables.l1, true)
    for (const snapshot of snapshots) {
      const length = snapshot.l1Entries * 8
      if (!this.#use(snapshot.l1Offset, length, `L1 table of snapshot ${snapshot.id}`)) continue
      const l1 = new Uint8Array(length)
      await this.#file.readv(snapshot.l1Offset, [l1])
      await this.#countL1(viewOf(l1), false)
    }
  }

  async #snapshotBytes(header: Qcow2Header): Promise<number> {
    let at = header.snapshotsOffset
    for (let i = 0; i < header.snapshots; i++) {
      at = Math.ceil(at / 8) * 8
      const fixed = new Uint8Array(40)
      await this.#file.readv(at, [fixed])
      const view = viewOf(fixed)
      at += 40 + view.getUint32(36) + view.getUint16(12) + view.getUint16(14)
    }
    return at - header.snapshotsOffset
  }

  async #countL1(l1: DataView, active: boolean): Promise<void> {
    const cs = this.#clusterBytes
    for (let at = 0; at < l1.byteLength; at += 8) {
      const table = offsetOf(l1.getUint32(at), l1.getUint32(at + 4))
      if (table === 0) continue
      if (table % cs !== 0) {
        this.#corrupt(`ERROR l2_offset=${hex(table)}: Table is not cluster aligned`)
        continue
      }
      if (!this.#use(table, cs, `L2 table of L1 entry ${at / 8}`)) continue
      if (++this.#tables > MOST_TABLES) {
        if (this.#tables === MOST_TABLES + 1) this.#result.checkErrors++
        continue
      }
      const bytes = new Uint8Array(cs)
      await this.#file.readv(table, [bytes])
      this.#countL2(viewOf(bytes), active)
    }
  }

  #countL2(l2: DataView, active: boolean): void {
    const cs = this.#clusterBytes
    const sectorBits = this.#header.clusterBits - 8
    this.#nextHost = -1
    for (let at = 0; at < l2.byteLength; at += 8) {
      const high = l2.getUint32(at)
      const low = l2.getUint32(at + 4)
      if (high === 0 && low === 0) continue
      if ((high & 0x40000000) !== 0) {
        const field = high & 0x3fffffff
        const host = (field % 2 ** (30 - sectorBits)) * 2 ** 32 + low
        const bytes = (Math.floor(field / 2 ** (30 - sectorBits)) + 1) * 512 - (host % 512)
        const first = host - (host % cs)
        // The count of sectors may reach behind the end: only what begins in the file is used.
        const end = Math.min(host + bytes, Math.max(host + 1, this.counts.length * cs))
        this.#use(first, end - first, 'compressed cluster')
        if (active) {
          this.#result.allocatedClusters++
          this.#result.compressedClusters++
          // Compressed clusters are fragmented by their nature, as QEMU counts.
          this.#result.fragmentedClusters++
          this.#nextHost = -1
        }
        continue
      }
      const host = offsetOf(high, low)
      if (host === 0) continue
      if (host % cs !== 0) {
        this.#corrupt(`ERROR offset=${hex(host)}: Data cluster is not properly aligned`)
        continue
      }
      this.#use(host, cs, 'data cluster')
      if (!active) continue
      this.#result.allocatedClusters++
      if (this.#nextHost !== -1 && this.#nextHost !== host) this.#result.fragmentedClusters++
      this.#nextHost = host + cs
    }
  }

  #use(offset: number, length: number, what: string): boolean {
    if (length === 0) return true
    const cs = this.#clusterBytes
    const end = Math.ceil((offset + length) / cs)
    if (offset % cs !== 0 || end > this.counts.length) {
      this.#corrupt(`ERROR ${what} at ${hex(offset)} is outside the file or unaligned`)
      return false
    }
    for (let cluster = offset / cs; cluster < end; cluster++) {
      this.counts[cluster]!++
      this.touch(cluster)
    }
    return true
  }

  touch(cluster: number): void {
    if (cluster > this.highest) this.highest = cluster
  }

  #corrupt(line: string): void {
    this.#report(line)
    this.#result.corruptions++
  }

  /** Entries of the active tables with the wrong flag. */
  async copiedErrors(metadata: Metadata): Promise<CopiedError[]> {
    const found: CopiedError[] = []
    const cs = this.#clusterBytes
    const { l1, l1Offset } = metadata.tables
    /** The refcount of what an entry names where it matters, or -1; a promise where a table must be read. */
    const countOf = (view: DataView, at: number, level: 'L1' | 'L2'): number | Promise<number> => {
      const high = view.getUint32(at)
      if (level === 'L2' && (high & 0x40000000) !== 0) return -1
      const host = offsetOf(high, view.getUint32(at + 4))
      if (host === 0 || host % cs !== 0 || host / cs >= this.counts.length) return -1
      const { refcounts } = metadata
      return refcounts.peek(host / cs) ?? refcounts.get(host / cs).catch(() => -1)
    }
    const judge = async (view: DataView, at: number, level: 'L1' | 'L2', table: number) => {
      const known = countOf(view, at, level)
      const count = typeof known === 'number' ? known : await known
      const high = view.getUint32(at)
      if (isRight(count, high)) return
      const bytes = new Uint8Array(8)
      const fixed = viewOf(bytes)
      fixed.setUint32(0, count === 1 ? (high | COPIED) >>> 0 : (high & ~COPIED) >>> 0)
      fixed.setUint32(4, view.getUint32(at + 4))
      if (found.length < MOST_COPIED_ERRORS) {
        found.push({ level, table, entry: at / 8, at: table + at, bytes })
      }
    }
    for (let at = 0; at < l1.byteLength; at += 8) {
      const table = offsetOf(l1.getUint32(at), l1.getUint32(at + 4))
      if (table === 0) continue
      await judge(l1, at, 'L1', l1Offset)
      if (table % cs !== 0 || table / cs >= this.counts.length) continue
      const bytes = new Uint8Array(cs)
      await this.#file.readv(table, [bytes])
      const view = viewOf(bytes)
      for (let entry = 0; entry < cs; entry += 8) {
        const high = view.getUint32(entry)
        if (high === 0 && view.getUint32(entry + 4) === 0) continue
        // Nearly all are right, and known to be so without waiting.
        const count = countOf(view, entry, 'L2')
        if (typeof count === 'number' && isRight(count, high)) continue
        await judge(view, entry, 'L2', table)
      }
    }
    return found
  }
}

/** Whether the flag says what the refcount says; where that is unknown, nothing is wrong. */
function isRight(count: number, high: number): boolean {
  return count < 0 || ((high & COPIED) !== 0) === (count === 1)
}

function offsetOf(high: number, low: number): number {
  return (high & 0x00ffffff) * 2 ** 32 + (low - (low % 512))
}
