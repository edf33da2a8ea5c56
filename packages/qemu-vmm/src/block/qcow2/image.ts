import type { MemoryParts } from 'virtio'
import { BlockError } from '../errors.ts'
import type { FileCopy } from '../file/protocol.ts'
import { iovLength } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type {
  BytePlace,
  CheckOptions,
  CheckResult,
  FormatInfo,
  FormatNode,
  MapEntry,
} from '../node.ts'
import type { Preallocation } from './preallocate.ts'
import { RangeLocks } from '../range-locks.ts'
import { readOnlyError } from '../raw/raw-node.ts'
import { checkImage } from './check.ts'
import { describe, isSparse, mapEntry } from './info.ts'
import { loadParts } from './load-parts.ts'
import { setCorrupt } from './header-bits.ts'
import type { Qcow2Options, Qcow2Parts } from './parts.ts'
import { ClusterReader } from './reader.ts'
import { readHeader } from './read-header.ts'
import { forgetTables, growImage, shrinkImage } from './resize.ts'
import { settle } from './settle.ts'
import type { Snapshot } from './snapshots.ts'
import { loadStructure, settleTables, truncateTail, unsupported } from './structure.ts'
import type { Structure } from './structure.ts'
import { Kind } from './tables.ts'
import { ClusterWriter } from './writer.ts'

/** A qcow2 image, version 2 or 3. */
export class Qcow2Node implements FormatNode {
  readonly format = 'qcow2'
  readonly filename: string
  readonly backing: FormatNode | undefined
  readonly readOnly: boolean
  readonly logicalBlockBytes: number = 512
  readonly physicalBlockBytes: number = 512
  readonly #options: Qcow2Options
  readonly #clusterBytes: number
  readonly #locks = new RangeLocks()
  #parts: Qcow2Parts
  #reader: ClusterReader
  #writer: ClusterWriter
  /** The image was found corrupt: nothing more is done to it. */
  #broken: BlockError | undefined
  /** Its clusters are mostly holes of the file, so the file is asked what is zeros. */
  #sparse: boolean | undefined

  constructor(parts: Qcow2Parts, options: Qcow2Options) {
    this.#parts = parts
    this.#options = options
    this.#reader = new ClusterReader(parts)
    this.#writer = new ClusterWriter(parts, this.#reader)
    this.backing = parts.backing
    this.filename = parts.file.filename
    this.readOnly = parts.file.readOnly
    this.#clusterBytes = 2 ** parts.header.clusterBits
  }

  get sizeBytes(): number {
    return this.#parts.header.sizeBytes
  }

  get snapshots(): readonly Snapshot[] {
    return this.#parts.snapshots
  }

  readNow(offset: number, target: MemoryParts): boolean {
    const place = this.place(offset, target.length)
    return place?.file.readNow?.(place.offset, target) === true
  }

  place(offset: number, length: number): BytePlace | undefined {
    if (this.#broken !== undefined || !this.#locks.isFree(offset, offset + length)) return undefined
    const { metadata, file } = this.#parts
    try {
      const mapping = metadata.tables.peekWhole(offset, length)
      return mapping?.kind === Kind.Data ? { file, offset: mapping.host } : undefined
    } catch {
      // An impossible entry, of which a request tells more.
      return undefined
    }
  }

  async fill(offset: number, copy: FileCopy): Promise<number> {
    this.#mustBeWritable()
    let filled = 0
    await this.#alone(offset, copy.length, async () => {
      filled = await this.#writer.fill(offset, copy)
    })
    return filled
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    const lock = this.#locks.acquire(offset, offset + length, false)
    const done = (): void => this.#locks.release(lock)
    let reading: Promise<void>
    try {
      if (lock.ready !== undefined) {
        reading = lock.ready.then(() => this.#reader.readRuns(offset, iov, length))
      } else {
        const { metadata, file } = this.#parts
        const mapping = metadata.tables.peekWhole(offset, length)
        if (mapping?.kind === Kind.Data) reading = file.readv(mapping.host, iov)
        else reading = this.#reader.readRuns(offset, iov, length)
      }
    } catch (error) {
      reading = Promise.reject(error)
    }
    return settle(reading, done)
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    const { length } = source
    if (this.#broken !== undefined || this.readOnly) return false
    if (!this.#locks.isFree(offset, offset + length)) return false
    const { metadata, file } = this.#parts
    try {
      const mapping = metadata.tables.peekWhole(offset, length)
      if (mapping?.kind !== Kind.Data || !mapping.inPlace) return false
      metadata.claims.mustBeFree(mapping.host, length)
      return file.writeNow?.(mapping.host, source) === true
    } catch {
      // As in `place`.
      return false
    }
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (this.#broken !== undefined) return Promise.reject(this.#broken)
    if (this.readOnly) return Promise.reject(readOnlyError(this.filename))
    const lock = this.#locks.acquire(offset, offset + length, false)
    const { metadata, file } = this.#parts
    let writing: Promise<void> | undefined
    try {
      const mapping =
        lock.ready === undefined ? metadata.tables.peekWhole(offset, length) : undefined
      if (mapping?.kind === Kind.Data && mapping.inPlace) {
        metadata.claims.mustBeFree(mapping.host, length)
        writing = file.writev(mapping.host, iov)
      }
    } catch (error) {
      writing = Promise.reject(error)
    }
    if (writing !== undefined) {
      const done = (): void => this.#locks.release(lock)
      return settle(writing, done).catch((error: unknown) => this.#judge(error))
    }
    this.#locks.release(lock)
    return this.#alone(offset, length, () => this.#writer.writeRuns(offset, iov, length))
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
    if (this.#parts.metadata.crowded) await this.#parts.metadata.flush()
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
        await setCorrupt(this.#parts.file, this.#parts.header)
      }
      throw this.#broken
    }
    throw reason
  }

  async flush(): Promise<void> {
    if (this.#broken !== undefined) throw this.#broken
    if (this.readOnly) return
    await this.#parts.metadata.flush().catch((error: unknown) => this.#judge(error))
  }

  async writeCompressed(offset: number, cluster: Uint8Array): Promise<void> {
    const cs = this.#clusterBytes
    if (offset % cs !== 0 || cluster.byteLength !== cs) {
      throw new BlockError('E_BLOCK_OPTION', `only clusters of ${cs} bytes can be compressed`)
    }
    this.#mustBeWritable()
    const packed = await this.#parts.compressed.pack(cluster)
    const length = Math.min(cs, this.sizeBytes - offset)
    if (packed === undefined) return await this.writev(offset, [cluster.subarray(0, length)])
    return await this.#alone(offset, length, () => {
      const { compressed, metadata } = this.#parts
      return compressed.write(metadata, offset / cs, packed)
    })
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#mustBeWritable()
    // Without zero clusters a discard would bring the backing file's bytes back.
    const { version } = this.#parts.header
    if (!this.#options.unmap || (version < 3 && this.backing !== undefined)) return
    const cs = this.#clusterBytes
    const start = Math.ceil(offset / cs) * cs
    let end = offset + length
    if (end < this.sizeBytes) end -= end % cs
    if (end > start) {
      await this.#alone(start, end - start, () => this.#writer.drop(start, end, 'zero'))
    }
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    this.#mustBeWritable()
    await this.#alone(offset, length, async () => {
      const cs = this.#clusterBytes
      const end = offset + length
      const whole = this.#parts.header.version >= 3 || this.backing === undefined
      const bodyStart = whole ? Math.ceil(offset / cs) * cs : end
      const bodyEnd = end < this.sizeBytes ? end - (end % cs) : end
      const writer = this.#writer
      if (bodyStart >= bodyEnd) return await writer.zeroBytes(offset, end)
      await writer.zeroBytes(offset, bodyStart)
      await writer.drop(bodyStart, bodyEnd, mayUnmap ? 'zero' : 'zero-kept')
      return await writer.zeroBytes(bodyEnd, end)
    })
  }

  /**
   * Changes more than clusters: nothing else runs meanwhile, and all tables are loaded again
   * afterwards.
   */
  async restructure(change: (image: Structure) => Promise<void>): Promise<void> {
    this.#mustBeWritable()
    const lock = this.#locks.acquire(0, Infinity, true)
    try {
      if (lock.ready !== undefined) await lock.ready
      const { file, metadata } = this.#parts
      await metadata.flush()
      if (metadata.refcounts.cache.dirty) await metadata.flush()
      try {
        await change(await loadStructure(file, this.#options))
      } finally {
        this.#parts = await loadParts(file, await readHeader(file), this.backing, this.#options)
        this.#reader = new ClusterReader(this.#parts)
        this.#writer = new ClusterWriter(this.#parts, this.#reader)
        this.#sparse = undefined
      }
    } catch (error) {
      await this.#judge(error)
    } finally {
      this.#locks.release(lock)
    }
  }

  /** @throws BlockError E_BLOCK_OPTION where snapshots do not know how large the disk was */
  mustBeResizable(): void {
    if (this.#parts.header.version < 3 && this.snapshots.length > 0) {
      throw unsupported("Can't resize a v2 image which has snapshots")
    }
  }

  async resize(sizeBytes: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.#mustBeWritable()
    const old = this.sizeBytes
    this.mustBeResizable()
    const cs = this.#clusterBytes
    const up = (bytes: number): number => Math.ceil(bytes / cs) * cs
    if (sizeBytes < old) {
      await this.#alone(sizeBytes, old - sizeBytes, async () => {
        await this.#writer.zeroBytes(sizeBytes, Math.min(up(sizeBytes), old))
        await this.#writer.drop(up(sizeBytes), up(old), 'unallocated')
      })
      return await this.restructure((image) => shrinkImage(image, sizeBytes))
    }
    await this.restructure((image) => growImage(image, sizeBytes))
    if (preallocation !== 'off') {
      const stored = preallocation === 'metadata' ? 'no' : preallocation
      const from = up(old)
      const work = (): Promise<void> => this.#writer.preallocate(from, up(sizeBytes), stored)
      if (up(sizeBytes) > from) await this.#alone(from, sizeBytes - from, work)
    }
    // What the backing file has there never was on this disk.
    const shown = Math.min(sizeBytes, this.backing?.sizeBytes ?? 0)
    if (shown > old) await this.writeZeroes(old, shown - old, preallocation === 'off')
    return undefined
  }

  async empty(): Promise<void> {
    this.#mustBeWritable()
    const end = Math.ceil(this.sizeBytes / this.#clusterBytes) * this.#clusterBytes
    await this.#alone(0, end, () => this.#writer.drop(0, end, 'unallocated'))
    await this.restructure(async (image) => {
      await forgetTables(image, 0)
      await settleTables(image)
      await truncateTail(image)
    })
  }

  info(): FormatInfo {
    return describe(this.#parts.header, this.#parts.snapshots)
  }

  async map(offset: number, length: number): Promise<MapEntry> {
    const { file, metadata } = this.#parts
    this.#sparse ??= await isSparse(file, metadata)
    const mapping = await metadata.tables.mapping(offset, length)
    return await mapEntry(mapping, offset, this.backing, this.#sparse ? file : undefined)
  }

  async check(options: CheckOptions = {}): Promise<CheckResult> {
    if (options.repair !== undefined) {
      throw new BlockError('E_BLOCK_OPTION', 'an image is repaired before it is opened, not in use')
    }
    const { file, metadata } = this.#parts
    if (!this.readOnly) await this.flush()
    // What the last flush freed is in the file after one more.
    if (!this.readOnly && metadata.refcounts.cache.dirty) await this.flush()
    // The refcount table may have moved since the image was opened.
    return await checkImage(file, await readHeader(file), options)
  }

  #mustBeWritable(): void {
    if (this.readOnly) throw readOnlyError(this.filename)
    if (this.#broken !== undefined) throw this.#broken
  }

  async close(): Promise<void> {
    const { file, metadata } = this.#parts
    try {
      if (!this.readOnly && this.#broken === undefined) {
        await metadata.flush()
        // The first one has found what to free, the second one writes that.
        if (metadata.refcounts.cache.dirty) await metadata.flush()
      }
    } finally {
      try {
        await file.close()
      } finally {
        await this.backing?.close()
      }
    }
  }
}
