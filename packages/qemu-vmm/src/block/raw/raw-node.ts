import type { MemoryParts } from 'virtio'
import { BlockError } from '../errors.ts'
import type { BlockFile, FileCopy } from '../file/protocol.ts'
import { iovLength, iovSlice, iovTo } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type { BytePlace, FormatInfo, FormatNode, MapEntry } from '../node.ts'
import { probeBytes } from '../probe.ts'
import type { Preallocation } from '../qcow2/preallocate.ts'

export interface RawOptions {
  /** `discard=unmap`: discards give storage back. */
  readonly unmap: boolean
  /** The format was guessed: the first sector must not become that of another format. */
  readonly probed: boolean
}

const SECTOR = 512

/** The raw format: the bytes of the file are those of the disk. */
export class RawNode implements FormatNode {
  readonly format = 'raw'
  readonly filename: string
  readonly backing: undefined = undefined
  sizeBytes: number
  readonly readOnly: boolean
  readonly logicalBlockBytes: number
  readonly physicalBlockBytes: number
  readonly #file: BlockFile
  readonly #options: RawOptions

  constructor(file: BlockFile, options: RawOptions) {
    this.#file = file
    this.#options = options
    this.filename = file.filename
    this.readOnly = file.readOnly
    this.sizeBytes = Math.ceil(file.sizeBytes / SECTOR) * SECTOR
    this.logicalBlockBytes = file.logicalBlockBytes
    this.physicalBlockBytes = file.physicalBlockBytes
  }

  readNow(offset: number, target: MemoryParts): boolean {
    return this.#file.readNow?.(offset, target) === true
  }

  place(offset: number): BytePlace {
    return { file: this.#file, offset }
  }

  fill(offset: number, copy: FileCopy): Promise<number> {
    if (this.readOnly || this.#options.probed) return Promise.resolve(0)
    try {
      return Promise.resolve(this.#file.copyNow?.(offset, copy) ?? 0)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    return this.#file.readv(offset, iov)
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    if (this.readOnly || (this.#options.probed && offset < SECTOR)) return false
    return this.#file.writeNow?.(offset, source) === true
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    if (this.readOnly) return Promise.reject(readOnlyError(this.filename))
    if (this.#options.probed && offset < SECTOR) return this.#writeFirst(offset, iov)
    return this.#file.writev(offset, iov)
  }

  /** A guest could otherwise turn its disk into an image that names files of the host. */
  async #writeFirst(offset: number, iov: Iovec): Promise<void> {
    const head = new Uint8Array(SECTOR)
    await this.#file.readv(0, [head])
    const length = Math.min(iovLength(iov), SECTOR - offset)
    iovTo(iovSlice(iov, 0, length), head.subarray(offset, offset + length))
    const format = probeBytes(head)
    if (format !== 'raw') {
      throw new BlockError(
        'E_BLOCK_IO',
        `A write to block 0 of '${this.filename}' would make it a ${format} image, and its format ` +
          `was guessed: give format=raw to allow it`,
        { errno: 'EPERM', fields: { filename: this.filename, format } },
      )
    }
    await this.#file.writev(offset, iov)
  }

  flush(): Promise<void> {
    return this.#file.flush()
  }

  async discard(offset: number, length: number): Promise<void> {
    if (this.readOnly) throw readOnlyError(this.filename)
    if (this.#options.unmap) await this.#file.punchHole(offset, length)
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    if (this.readOnly) return Promise.reject(readOnlyError(this.filename))
    return this.#file.writeZeroes(offset, length, mayUnmap && this.#options.unmap)
  }

  info(): FormatInfo {
    return {}
  }

  async map(offset: number, length: number): Promise<MapEntry> {
    const found = await this.#file.allocation(offset, length)
    const { data } = found
    const rest = { present: true, zero: !data, data, compressed: false, offset }
    return { start: offset, length: found.length, depth: 0, ...rest }
  }

  async resize(sizeBytes: number, preallocation: Preallocation = 'off'): Promise<void> {
    if (this.readOnly) throw readOnlyError(this.filename)
    const old = this.#file.sizeBytes
    if (preallocation === 'metadata') {
      throw new BlockError('E_BLOCK_OPTION', 'Unsupported preallocation mode: metadata', {
        errno: 'ENOTSUP',
      })
    }
    await this.#file.truncate(sizeBytes)
    this.sizeBytes = Math.ceil(this.#file.sizeBytes / SECTOR) * SECTOR
    if (preallocation === 'off' || sizeBytes <= old) return
    const filled = preallocation === 'falloc' && (await this.#file.allocate(old, sizeBytes - old))
    if (!filled) await this.#file.writeZeroes(old, sizeBytes - old, false)
  }

  check(): Promise<undefined> {
    return Promise.resolve(undefined)
  }

  async close(): Promise<void> {
    try {
      await this.#file.flush()
    } finally {
      await this.#file.close()
    }
  }
}

export function readOnlyError(filename: string): BlockError {
  return new BlockError('E_BLOCK_IO', `'${filename}' is read-only`, {
    errno: 'EPERM',
    fields: { filename },
  })
}
