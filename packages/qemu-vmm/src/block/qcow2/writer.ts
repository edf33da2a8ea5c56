import type { BlockFile, FileCopy } from '../file/protocol.ts'
import { iovSlice, zeros } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type { CompressedClusters } from './compressed.ts'
import type { Metadata } from './metadata.ts'
import type { Qcow2Parts } from './parts.ts'
import type { ClusterReader } from './reader.ts'
import { Kind } from './tables.ts'
import type { Mapping } from './tables.ts'

/** What a range of whole clusters becomes: zeros that keep their storage or not, or as if never written. */
export type Dropped = 'zero-kept' | 'zero' | 'unallocated'

/** Takes clusters and makes the tables name them. Who calls it has locked the clusters. */
export class ClusterWriter {
  readonly #file: BlockFile
  readonly #metadata: Metadata
  readonly #compressed: CompressedClusters
  readonly #reader: ClusterReader
  readonly #clusterBytes: number
  readonly #version: number

  constructor(parts: Qcow2Parts, reader: ClusterReader) {
    this.#file = parts.file
    this.#metadata = parts.metadata
    this.#compressed = parts.compressed
    this.#reader = reader
    this.#clusterBytes = 2 ** parts.header.clusterBits
    this.#version = parts.header.version
  }

  async writeRuns(offset: number, iov: Iovec, length: number): Promise<void> {
    const { claims, tables } = this.#metadata
    for (let done = 0; done < length;) {
      const at = offset + done
      const mapping = await tables.mapping(at, length - done)
      if (mapping.kind === Kind.Data && mapping.inPlace) {
        claims.mustBeFree(mapping.host, mapping.length)
        await this.#file.writev(mapping.host, iovSlice(iov, done, mapping.length))
        done += mapping.length
      } else {
        done += await this.#writeNew(at, iovSlice(iov, done, mapping.length), mapping)
      }
    }
  }

  /** Writes to clusters of which none can be overwritten, as many as can be had in a row. */
  async #writeNew(offset: number, iov: Iovec, mapping: Mapping): Promise<number> {
    const { mutex, refcounts, claims } = this.#metadata
    const reader = this.#reader
    const cs = this.#clusterBytes
    const first = Math.floor(offset / cs)
    const head = offset - first * cs
    const wanted = Math.ceil((head + mapping.length) / cs)
    const reused = mapping.kind === Kind.ZeroAllocated && mapping.inPlace
    const taken = reused
      ? { cluster: Math.floor(mapping.host / cs), count: wanted, fresh: false }
      : await mutex.run(() => refcounts.allocate(wanted))
    const length = Math.min(mapping.length, taken.count * cs - head)
    const host = taken.cluster * cs
    try {
      if (reused) claims.mustBeFree(host, taken.count * cs)
      const tailFrom = head + length
      const tail = taken.count * cs - tailFrom
      const skip = taken.fresh && reader.readsZero(mapping)
      const before = skip ? [] : await reader.old(first * cs, head)
      const after = skip ? [] : await reader.old(first * cs + tailFrom, tail)
      const data = iovSlice(iov, 0, length)
      const whole = skip || head + tail === 0 ? data : [...before, ...data, ...after]
      await this.#file.writev(skip ? host + head : host, whole)
    } catch (error) {
      if (!reused) await this.#giveBack(taken.cluster, taken.count)
      throw error
    }
    // If this fails in the middle, some entries name the clusters already: they are not given back.
    await this.link(first, taken.count, host, false)
    return length
  }

  /**
   * Gives clusters that were never written storage at the end of the file, with bytes of another file. Resolves to how many
   * bytes those are; what was taken for more is given back.
   */
  async fill(offset: number, copy: FileCopy): Promise<number> {
    const { mutex, refcounts, tables } = this.#metadata
    const cs = this.#clusterBytes
    if (offset % cs !== 0 || this.#file.copyNow === undefined) return 0
    const mapping = await tables.mapping(offset, copy.length)
    if (mapping.kind !== Kind.Unallocated || !this.#reader.readsZero(mapping)) return 0
    const taken = await mutex.run(() => refcounts.allocate(Math.ceil(mapping.length / cs)))
    let filled = 0
    let used = 0
    try {
      // Others may hold what someone has written there.
      if (taken.fresh) {
        const length = Math.min(mapping.length, taken.count * cs)
        filled = this.#file.copyNow(taken.cluster * cs, { ...copy, length })
        used = Math.ceil(filled / cs)
      }
    } finally {
      if (used < taken.count) await this.#giveBack(taken.cluster + used, taken.count - used)
    }
    if (used > 0) await this.link(offset / cs, used, taken.cluster * cs, false)
    return filled
  }

  async #giveBack(cluster: number, count: number): Promise<void> {
    const { mutex, refcounts } = this.#metadata
    // What cannot be given back leaks.
    await mutex
      .run(async () => {
        for (let i = 0; i < count; i++) await refcounts.add(cluster + i, -1)
      })
      .catch(() => {})
  }

  /** Makes L2 entries name clusters: host clusters in a row, or zeros without storage when `host` is 0. */
  link(first: number, count: number, host: number, zero: boolean): Promise<void> {
    const { mutex, tables, refcounts } = this.#metadata
    return mutex.run(async () => {
      for (let i = 0; i < count;) {
        const freed: number[] = []
        const slice = await tables.writable(first + i, refcounts, freed)
        const end = Math.min(count, i + tables.entriesLeft(first + i))
        const flags = { copied: host !== 0, zero }
        for (; i < end; i++) {
          const to = host === 0 ? 0 : host + i * this.#clusterBytes
          tables.replace(slice, first + i, to, flags, freed)
        }
        if (freed.length > 0) {
          this.#compressed.forget()
          for (const cluster of freed) this.#metadata.freed.push(cluster)
        }
      }
    })
  }

  /** Writes zeros where something else may be. */
  async zeroBytes(start: number, end: number): Promise<void> {
    for (let at = start; at < end;) {
      const mapping = await this.#metadata.tables.mapping(at, Math.min(end - at, 1 << 20))
      if (!this.#reader.readsZero(mapping)) {
        await this.writeRuns(at, zeros(mapping.length), mapping.length)
      }
      at += mapping.length
    }
  }

  /** Takes the data of whole clusters away. */
  async drop(start: number, end: number, how: Dropped): Promise<void> {
    const cs = this.#clusterBytes
    const zero = this.#version >= 3 && how !== 'unallocated'
    for (let at = start; at < end;) {
      const mapping = await this.#metadata.tables.mapping(at, end - at)
      const { kind } = mapping
      const count = Math.ceil(mapping.length / cs)
      const stored = kind === Kind.Data || kind === Kind.ZeroAllocated
      if (how === 'unallocated') {
        if (kind !== Kind.Unallocated) await this.link(at / cs, count, 0, false)
      } else if (how === 'zero-kept' && zero && stored && mapping.inPlace) {
        if (kind === Kind.Data) await this.link(at / cs, count, mapping.host, true)
      } else if (!this.#reader.readsZero(mapping) || kind === Kind.ZeroAllocated) {
        await this.link(at / cs, count, 0, zero)
      }
      at += mapping.length
      if (this.#metadata.crowded) await this.#metadata.flush()
    }
  }

  /**
   * Gives whole clusters that were never written storage that reads as zeros.
   * @param stored asks the host for the storage: by its file system, or by writing
   */
  async preallocate(start: number, end: number, stored: 'no' | 'falloc' | 'full'): Promise<void> {
    const { mutex, refcounts } = this.#metadata
    const cs = this.#clusterBytes
    for (let at = start; at < end;) {
      const wanted = Math.min(Math.ceil((end - at) / cs), 1 << 14)
      const taken = await mutex.run(() => refcounts.allocate(wanted))
      const host = taken.cluster * cs
      const length = taken.count * cs
      if (stored === 'full' || !taken.fresh) await this.#file.writeZeroes(host, length, false)
      if (stored === 'falloc' && !(await this.#file.allocate(host, length))) {
        await this.#file.writeZeroes(host, length, false)
      }
      // A fresh cluster may lie behind the end of the file, where an entry must not point.
      if (host + length > this.#file.sizeBytes) await this.#file.truncate(host + length)
      await this.link(at / cs, taken.count, host, false)
      at += length
      if (this.#metadata.crowded) await this.#metadata.flush()
    }
  }
}
