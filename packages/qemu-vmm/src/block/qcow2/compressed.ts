import type { BlockFile } from '../file/protocol.ts'
import { hex } from './bytes.ts'
import { corrupt } from './claims.ts'
import { codecOf } from './codecs.ts'
import type { Codec, CompressionType } from './codecs.ts'
import type { Metadata } from './metadata.ts'
import { maxRefcount } from './refcount-bits.ts'
import type { Refcounts } from './refcounts.ts'
import type { Mapping } from './tables.ts'

const KEPT = 4
const SECTOR = 512

/**
 * Unpacks compressed clusters and keeps the last few, because guests read them in pieces; packs
 * those that are written as such.
 */
export class CompressedClusters {
  readonly #file: BlockFile
  readonly #clusterBytes: number
  readonly #codec: Codec
  readonly #kept = new Map<number, Uint8Array>()
  /** Where the last packed cluster ended, if in the middle of a host cluster of packed ones. */
  #next = 0

  constructor(file: BlockFile, clusterBytes: number, compression: CompressionType) {
    this.#codec = codecOf(compression)
    this.#file = file
    this.#clusterBytes = clusterBytes
  }

  /** The whole cluster; it must not be changed. */
  async read(mapping: Mapping): Promise<Uint8Array> {
    const found = this.#kept.get(mapping.host)
    if (found !== undefined) return found
    const packed = new Uint8Array(mapping.compressedBytes)
    await this.#file.readv(mapping.host, [packed])
    const bytes = await this.#codec.unpack(packed, this.#clusterBytes).catch((cause: unknown) => {
      throw corrupt(
        `Compressed cluster at ${hex(mapping.host)} cannot be unpacked: ${String(cause)}`,
      )
    })
    if (this.#kept.size >= KEPT) this.#kept.delete(this.#kept.keys().next().value!)
    this.#kept.set(mapping.host, bytes)
    return bytes
  }

  /** Their places in the file were freed and may be written again. */
  forget(): void {
    this.#kept.clear()
    this.#next = 0
  }

  /** A cluster packed to whole sectors; undefined when that saves nothing. */
  async pack(cluster: Uint8Array): Promise<Uint8Array | undefined> {
    const packed = await this.#codec.pack(cluster)
    if (packed === undefined) return undefined
    const bytes = Math.ceil(packed.byteLength / SECTOR) * SECTOR
    if (bytes >= this.#clusterBytes) return undefined
    const sectors = new Uint8Array(bytes)
    sectors.set(packed)
    return sectors
  }

  /** Stores what {@link pack} returned for a guest cluster that no other request uses. */
  async write(metadata: Metadata, cluster: number, packed: Uint8Array): Promise<void> {
    const { mutex, refcounts, tables } = metadata
    const host = await mutex.run(() => this.#place(packed.byteLength, refcounts))
    try {
      await this.#file.writev(host, [packed])
    } catch (error) {
      // What cannot be given back leaks.
      await mutex.run(() => this.#giveBack(host, packed.byteLength, refcounts)).catch(() => {})
      throw error
    }
    await mutex.run(async () => {
      const freed: number[] = []
      const slice = await tables.writable(cluster, refcounts, freed)
      tables.replacePacked(slice, cluster, host, packed.byteLength, freed)
      if (freed.length > 0) this.forget()
      for (const one of freed) metadata.freed.push(one)
    })
  }

  /**
   * Room behind the last packed cluster, or else in a new host cluster. Each packed cluster is a
   * use of the one or two host clusters that it is in.
   */
  async #place(bytes: number, refcounts: Refcounts): Promise<number> {
    const cs = this.#clusterBytes
    const open = Math.floor(this.#next / cs)
    const room = this.#next === 0 ? 0 : (open + 1) * cs - this.#next
    const shared = room > 0 && (await refcounts.get(open)) < maxRefcount(refcounts.order)
    const taken = shared && bytes <= room ? undefined : (await refcounts.allocate(1)).cluster
    const follows = shared && (taken === undefined || taken === open + 1)
    const host = follows ? this.#next : taken! * cs
    if (follows) await refcounts.add(open, 1)
    const end = host + bytes
    this.#next = end % cs === 0 ? 0 : end
    return host
  }

  async #giveBack(host: number, bytes: number, refcounts: Refcounts): Promise<void> {
    const cs = this.#clusterBytes
    this.forget()
    for (let at = host - (host % cs); at < host + bytes; at += cs) await refcounts.add(at / cs, -1)
  }
}
