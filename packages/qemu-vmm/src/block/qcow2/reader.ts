import type { BlockFile } from '../file/protocol.ts'
import { iovFrom, iovSlice, iovZero, zeros } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type { FormatNode } from '../node.ts'
import type { CompressedClusters } from './compressed.ts'
import type { Metadata } from './metadata.ts'
import type { Qcow2Parts } from './parts.ts'
import { Kind } from './tables.ts'
import type { Mapping } from './tables.ts'

/** Reads what the tables of an image name. Who calls it has locked the range. */
export class ClusterReader {
  readonly #file: BlockFile
  readonly #metadata: Metadata
  readonly #compressed: CompressedClusters
  readonly #backing: FormatNode | undefined
  readonly #clusterBytes: number

  constructor(parts: Qcow2Parts) {
    this.#file = parts.file
    this.#metadata = parts.metadata
    this.#compressed = parts.compressed
    this.#backing = parts.backing
    this.#clusterBytes = 2 ** parts.header.clusterBits
  }

  /** Fills the buffers, whatever is where. */
  async readRuns(offset: number, iov: Iovec, length: number): Promise<void> {
    const running: Promise<void>[] = []
    let failed: unknown
    try {
      for (let done = 0; done < length;) {
        const mapping = await this.#metadata.tables.mapping(offset + done, length - done)
        running.push(this.readRun(mapping, offset + done, iovSlice(iov, done, mapping.length)))
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

  async readRun(mapping: Mapping, offset: number, iov: Iovec): Promise<void> {
    if (mapping.kind === Kind.Data) return await this.#file.readv(mapping.host, iov)
    if (mapping.kind === Kind.Compressed) {
      const bytes = await this.#compressed.read(mapping)
      const from = offset % this.#clusterBytes
      iovFrom(iov, 0, bytes.subarray(from, from + mapping.length))
      return undefined
    }
    const backing = this.#backing
    let inBacking = 0
    if (mapping.kind === Kind.Unallocated && backing !== undefined && offset < backing.sizeBytes) {
      inBacking = Math.min(mapping.length, backing.sizeBytes - offset)
      await backing.readv(offset, iovSlice(iov, 0, inBacking))
    }
    if (inBacking < mapping.length) iovZero(iov, inBacking, mapping.length - inBacking)
    return undefined
  }

  readsZero(mapping: Mapping): boolean {
    if (mapping.kind === Kind.Zero || mapping.kind === Kind.ZeroAllocated) return true
    return mapping.kind === Kind.Unallocated && this.#backing === undefined
  }

  /** What a part of a cluster reads as now, for a copy of it. */
  async old(offset: number, length: number): Promise<Uint8Array[]> {
    if (length === 0) return []
    const mapping = await this.#metadata.tables.mapping(offset, length)
    if (this.readsZero(mapping)) return zeros(length)
    const bytes = new Uint8Array(length)
    await this.readRun(mapping, offset, [bytes])
    return [bytes]
  }
}
