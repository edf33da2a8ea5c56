import type { MemoryParts } from 'virtio'
import { BlockError } from '../errors.ts'
import type { BlockFile } from '../file/protocol.ts'
import { iovFrom, iovLength, iovSlice, iovZero, zeros } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type {
  CheckOptions,
  CheckResult,
  FormatInfo,
  FormatNode,
  MapEntry,
  SnapshotInfo,
} from '../node.ts'
import { RangeLocks } from '../range-locks.ts'
import { readOnlyError } from '../raw/raw-node.ts'
import { checkImage } from './check.ts'
import type { CompressedClusters } from './compressed.ts'
import type { Qcow2Header } from './header.ts'
import { readHeader } from './read-header.ts'
import { describe, mapEntry } from './info.ts'
import type { Metadata } from './metadata.ts'
import { setCorrupt } from './header-bits.ts'
import type { Qcow2Options, Qcow2Parts } from './parts.ts'
import { settle } from './settle.ts'
import { Kind } from './tables.ts'
import type { Mapping } from './tables.ts'

/** A qcow2 image, version 2 or 3. */
export class Qcow2Node implements FormatNode {
  readonly format = 'qcow2'
  readonly filename: string
  readonly backing: FormatNode | undefined
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly logicalBlockBytes: number = 512
  readonly physicalBlockBytes: number = 512
  readonly #file: BlockFile
  readonly #header: Qcow2Header
  readonly #metadata: Metadata
  readonly #compressed: CompressedClusters
  readonly #snapshots: readonly SnapshotInfo[]
  readonly #unmap: boolean
  readonly #clusterBytes: number
  readonly #locks = new RangeLocks()
  /** The image was found corrupt: nothing more is done to it. */
  #broken: BlockError | undefined

  constructor(parts: Qcow2Parts, options: Qcow2Options) {
    this.#file = parts.file
    this.#header = parts.header
    this.#metadata = parts.metadata
    this.#compressed = parts.compressed
    this.#snapshots = parts.snapshots
    this.backing = parts.backing
    this.filename = parts.file.filename
    this.sizeBytes = parts.header.sizeBytes
    this.readOnly = parts.file.readOnly
    this.#clusterBytes = 2 ** parts.header.clusterBits
    this.#unmap = options.unmap
  }

  readNow(offset: number, target: MemoryParts): boolean {
    const { length } = target
    if (this.#broken !== undefined || !this.#locks.isFree(offset, offset + length)) return false
    try {
      const mapping = this.#metadata.tables.peekWhole(offset, length)
      return mapping?.kind === Kind.Data && this.#file.readNow?.(mapping.host, target) === true
    } catch {
      // An impossible entry, of which `readv` tells more.
      return false
    }
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    const lock = this.#locks.acquire(offset, offset + length, false)
    const done = (): void => this.#locks.release(lock)
    let reading: Promise<void>
    try {
      const mapping =
        lock.ready === undefined ? this.#metadata.tables.peekWhole(offset, length) : undefined
      if (mapping?.kind === Kind.Data) reading = this.#file.readv(mapping.host, iov)
      else reading = this.#readRuns(offset, iov, length, lock.ready)
    } catch (error) {
      reading = Promise.reject(error)
    }
    return settle(reading, done)
  }

  async #readRuns(
    offset: number,
    iov: Iovec,
    length: number,
    ready: Promise<unknown> | undefined,
  ): Promise<void> {
    if (ready !== undefined) await ready
    const running: Promise<void>[] = []
    let failed: unknown
    try {
      for (let done = 0; done < length;) {
        const mapping = await this.#metadata.tables.mapping(offset + done, length - done)
        running.push(this.#readRun(mapping, offset + done, iovSlice(iov, done, mapping.length)))
        done += mapping.length
      }
    } catch (error) {
      failed = error
    }
    // The buffers belong to the caller again afterwards, so all must have ended.
    for (const result of await Promise.allSettled(running)) {
      if (result.status === 'rejected') failed ??= result.reason
    }
    if (failed !== undefined) throw failed
  }

  async #readRun(mapping: Mapping, offset: number, iov: Iovec): Promise<void> {
    if (mapping.kind === Kind.Data) return await this.#file.readv(mapping.host, iov)
    if (mapping.kind === Kind.Compressed) {
      const bytes = await this.#compressed.read(mapping)
      const from = offset % this.#clusterBytes
      iovFrom(iov, 0, bytes.subarray(from, from + mapping.length))
      return undefined
    }
    const { backing } = this
    let inBacking = 0
    if (mapping.kind === Kind.Unallocated && backing !== undefined && offset < backing.sizeBytes) {
      inBacking = Math.min(mapping.length, backing.sizeBytes - offset)
      await backing.readv(offset, iovSlice(iov, 0, inBacking))
    }
    if (inBacking < mapping.length) iovZero(iov, inBacking, mapping.length - inBacking)
    return undefined
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    if (this.readOnly) return Promise.reject(readOnlyError(this.filename))
    const lock = this.#locks.acquire(offset, offset + length, false)
    let writing: Promise<void> | undefined
    try {
      const mapping =
        lock.ready === undefined ? this.#metadata.tables.peekWhole(offset, length) : undefined
      if (mapping?.kind === Kind.Data && mapping.inPlace) {
        this.#metadata.claims.mustBeFree(mapping.host, length)
        writing = this.#file.writev(mapping.host, iov)
      }
    } catch (error) {
      writing = Promise.reject(error)
    }
    if (writing !== undefined) {
      const done = (): void => this.#locks.release(lock)
      return settle(writing, done).catch((error: unknown) => this.#judge(error))
    }
    this.#locks.release(lock)
    return this.#alone(offset, length, () => this.#writeRuns(offset, iov, length))
  }

  /** Runs with no other request to the same clusters. */
  async #alone(offset: number, length: number, work: () => Promise<void>): Promise<void> {
    const cs = this.#clusterBytes
    const end = Math.ceil((offset + length) / cs) * cs
    const lock = this.#locks.acquire(offset - (offset % cs), end, true)
    try {
      if (lock.ready !== undefined) await lock.ready
      if (this.#broken !== undefined) throw this.#broken
      await work()
    } catch (error) {
      await this.#judge(error)
    } finally {
      this.#locks.release(lock)
    }
    if (this.#metadata.crowded) await this.#metadata.flush()
  }

  /** An impossible entry met on the way of a write: no more writes, and the image says so. */
  async #judge(reason: unknown): Promise<never> {
    if (reason instanceof BlockError && reason.code === 'E_BLOCK_CORRUPT' && !this.readOnly) {
      if (this.#broken === undefined) {
        this.#broken = new BlockError(
          'E_BLOCK_CORRUPT',
          `${reason.message}; image '${this.filename}' marked as corrupt`,
          { errno: 'EIO', cause: reason },
        )
        await setCorrupt(this.#file, this.#header)
      }
      throw this.#broken
    }
    throw reason
  }

  async #writeRuns(offset: number, iov: Iovec, length: number): Promise<void> {
    const { claims } = this.#metadata
    for (let done = 0; done < length;) {
      const at = offset + done
      const mapping = await this.#metadata.tables.mapping(at, length - done)
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
      const skip = taken.fresh && this.#readsZero(mapping)
      const before = skip ? [] : await this.#old(first * cs, head)
      const after = skip ? [] : await this.#old(first * cs + tailFrom, tail)
      const data = iovSlice(iov, 0, length)
      const whole = skip || head + tail === 0 ? data : [...before, ...data, ...after]
      await this.#file.writev(skip ? host + head : host, whole)
    } catch (error) {
      if (!reused) await this.#giveBack(taken.cluster, taken.count)
      throw error
    }
    // If this fails in the middle, some entries name the clusters already: they are not given back.
    await this.#link(first, taken.count, host, false)
    return length
  }

  #readsZero(mapping: Mapping): boolean {
    if (mapping.kind === Kind.Zero || mapping.kind === Kind.ZeroAllocated) return true
    return mapping.kind === Kind.Unallocated && this.backing === undefined
  }

  /** What a part of a cluster reads as now, for a copy of it. */
  async #old(offset: number, length: number): Promise<Uint8Array[]> {
    if (length === 0) return []
    const mapping = await this.#metadata.tables.mapping(offset, length)
    if (this.#readsZero(mapping)) return zeros(length)
    const bytes = new Uint8Array(length)
    await this.#readRun(mapping, offset, [bytes])
    return [bytes]
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
  #link(first: number, count: number, host: number, zero: boolean): Promise<void> {
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

  async flush(): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken
    if (this.readOnly) return
    await this.#metadata.flush().catch((error: unknown) => this.#judge(error))
  }

  async writeCompressed(offset: number, cluster: Uint8Array): Promise<void> {
    const cs = this.#clusterBytes
    if (offset % cs !== 0 || cluster.byteLength !== cs) {
      throw new BlockError('E_BLOCK_OPTION', `only clusters of ${cs} bytes can be compressed`)
    }
    if (this.readOnly) throw readOnlyError(this.filename)
    const packed = await this.#compressed.pack(cluster)
    const length = Math.min(cs, this.sizeBytes - offset)
    if (packed === undefined) return await this.writev(offset, [cluster.subarray(0, length)])
    const write = (): Promise<void> => this.#compressed.write(this.#metadata, offset / cs, packed)
    return await this.#alone(offset, length, write)
  }

  async discard(offset: number, length: number): Promise<void> {
    if (this.readOnly) throw readOnlyError(this.filename)
    if (this.#broken !== undefined) throw this.#broken
    // Without zero clusters a discard would bring the backing file's bytes back.
    if (!this.#unmap || (this.#header.version < 3 && this.backing !== undefined)) return
    const cs = this.#clusterBytes
    const start = Math.ceil(offset / cs) * cs
    let end = offset + length
    if (end < this.sizeBytes) end -= end % cs
    if (end > start) await this.#alone(start, end - start, () => this.#drop(start, end))
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    if (this.readOnly) throw readOnlyError(this.filename)
    if (this.#broken !== undefined) throw this.#broken
    await this.#alone(offset, length, async () => {
      const cs = this.#clusterBytes
      const end = offset + length
      const whole = this.#header.version >= 3 || this.backing === undefined
      const bodyStart = whole ? Math.ceil(offset / cs) * cs : end
      const bodyEnd = end < this.sizeBytes ? end - (end % cs) : end
      if (bodyStart >= bodyEnd) return await this.#zeroBytes(offset, end)
      await this.#zeroBytes(offset, bodyStart)
      await this.#drop(bodyStart, bodyEnd, !mayUnmap)
      return await this.#zeroBytes(bodyEnd, end)
    })
  }

  /** Writes zeros where something else may be. */
  async #zeroBytes(start: number, end: number): Promise<void> {
    for (let at = start; at < end;) {
      const mapping = await this.#metadata.tables.mapping(at, Math.min(end - at, 1 << 20))
      if (!this.#readsZero(mapping)) {
        await this.#writeRuns(at, zeros(mapping.length), mapping.length)
      }
      at += mapping.length
    }
  }

  /** Makes whole clusters read as zeros, without storage unless they have it and keep it. */
  async #drop(start: number, end: number, keep: boolean = false): Promise<void> {
    const cs = this.#clusterBytes
    for (let at = start; at < end;) {
      const mapping = await this.#metadata.tables.mapping(at, end - at)
      const count = Math.ceil(mapping.length / cs)
      const stored = mapping.kind === Kind.Data || mapping.kind === Kind.ZeroAllocated
      const zero = this.#header.version >= 3
      if (keep && zero && stored && mapping.inPlace) {
        if (mapping.kind === Kind.Data) await this.#link(at / cs, count, mapping.host, true)
      } else if (!this.#readsZero(mapping) || mapping.kind === Kind.ZeroAllocated) {
        await this.#link(at / cs, count, 0, zero)
      }
      at += mapping.length
      if (this.#metadata.crowded) await this.#metadata.flush()
    }
  }

  info(): FormatInfo {
    return describe(this.#header, this.#snapshots)
  }

  async map(offset: number, length: number): Promise<MapEntry> {
    return await mapEntry(await this.#metadata.tables.mapping(offset, length), offset, this.backing)
  }

  async check(options: CheckOptions = {}): Promise<CheckResult> {
    if (options.repair !== undefined) {
      throw new BlockError('E_BLOCK_OPTION', 'an image is repaired before it is opened, not in use')
    }
    if (!this.readOnly) await this.flush()
    // What the last flush freed is in the file after one more.
    if (!this.readOnly && this.#metadata.refcounts.cache.dirty) await this.flush()
    // The refcount table may have moved since the image was opened.
    return await checkImage(this.#file, await readHeader(this.#file), options)
  }

  async close(): Promise<void> {
    try {
      if (!this.readOnly && this.#broken === undefined) {
        await this.#metadata.flush()
        // The first one has found what to free, the second one writes that.
        if (this.#metadata.refcounts.cache.dirty) await this.#metadata.flush()
      }
    } finally {
      try {
        await this.#file.close()
      } finally {
        await this.backing?.close()
      }
    }
  }
}
