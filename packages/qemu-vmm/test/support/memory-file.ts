import type { MemoryParts } from 'virtio'
import { BlockError } from '../../src/block/errors.ts'
import type { BlockFile } from '../../src/block/file/protocol.ts'
import type { Iovec } from '../../src/block/iovec.ts'

interface Write {
  readonly offset: number
  readonly bytes: Uint8Array
}

/** A file in memory that can lose what was not flushed, and fail when told to. */
export class MemoryFile implements BlockFile {
  readonly filename = 'memory'
  readonly readOnly: boolean
  readonly zeroInit = true
  readonly logicalBlockBytes = 512
  readonly physicalBlockBytes = 512
  sizeBytes: number
  reads = 0
  /** Bytes of all writes, also of those over each other. */
  writtenBytes = 0
  /** Called before each write with its place; what it returns is the errno that the write fails with. */
  fail: ((offset: number, length: number) => string | undefined) | undefined
  #bytes: Uint8Array
  #stable: Uint8Array
  #pending: Write[] = []

  constructor(contents: Uint8Array = new Uint8Array(0), readOnly: boolean = false) {
    this.#bytes = contents.slice()
    this.#stable = contents.slice()
    this.sizeBytes = contents.byteLength
    this.readOnly = readOnly
  }

  get contents(): Uint8Array {
    return this.#bytes.slice(0, this.sizeBytes)
  }

  /** What a crash leaves: all flushed writes, and some of the others. */
  crash(keep: () => boolean): MemoryFile {
    const file = new MemoryFile(this.#stable)
    for (const { offset, bytes } of this.#pending) if (keep()) file.#put(offset, bytes)
    file.#settle()
    return file
  }

  readNow(offset: number, { buffers, parts, count }: MemoryParts): boolean {
    let at = offset
    for (let part = 0; part < count; part++) {
      const [buffer = 0, from = 0, length = 0] = parts.subarray(3 * part)
      if (at + length > this.sizeBytes) return false
      buffers[buffer]!.set(this.#bytes.subarray(at, at + length), from)
      at += length
    }
    return true
  }

  async readv(offset: number, iov: Iovec): Promise<void> {
    this.reads++
    await Promise.resolve()
    let at = offset
    for (const part of iov) {
      part.fill(0)
      part.set(
        this.#bytes.subarray(
          Math.min(at, this.sizeBytes),
          Math.min(at + part.byteLength, this.sizeBytes),
        ),
      )
      at += part.byteLength
    }
  }

  writeNow(offset: number, { buffers, parts, count, length }: MemoryParts): boolean {
    if (this.fail?.(offset, length) !== undefined || offset + length > this.sizeBytes) return false
    let at = offset
    for (let part = 0; part < count; part++) {
      const [buffer = 0, from = 0, here = 0] = parts.subarray(3 * part)
      const bytes = buffers[buffer]!.slice(from, from + here)
      this.#put(at, bytes)
      this.#pending.push({ offset: at, bytes })
      at += here
    }
    return true
  }

  async writev(offset: number, iov: Iovec): Promise<void> {
    await Promise.resolve()
    const bytes = new Uint8Array(Buffer.concat(iov))
    const errno = this.fail?.(offset, bytes.byteLength)
    if (errno !== undefined) throw new BlockError('E_BLOCK_IO', `write: ${errno}`, { errno })
    this.writtenBytes += bytes.byteLength
    this.#put(offset, bytes)
    this.#pending.push({ offset, bytes })
  }

  #put(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.byteLength
    if (end > this.#bytes.byteLength) {
      const larger = new Uint8Array(end * 2)
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes.set(bytes, offset)
    this.sizeBytes = Math.max(this.sizeBytes, end)
  }

  #settle(): void {
    this.#stable = this.contents
    this.#pending = []
  }

  async flush(): Promise<void> {
    await Promise.resolve()
    this.#settle()
  }

  async punchHole(offset: number, length: number): Promise<boolean> {
    const end = Math.min(offset + length, this.sizeBytes)
    if (end > offset) await this.writev(offset, [new Uint8Array(end - offset)])
    return true
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.writev(offset, [new Uint8Array(length)])
  }

  allocate(): Promise<boolean> {
    return Promise.resolve(true)
  }

  truncate(sizeBytes: number): Promise<void> {
    if (sizeBytes > this.sizeBytes) this.#put(sizeBytes, new Uint8Array(0))
    this.sizeBytes = sizeBytes
    this.#settle()
    return Promise.resolve()
  }

  allocation(_offset: number, length: number): Promise<{ data: boolean; length: number }> {
    return Promise.resolve({ data: true, length })
  }

  storedBytes(): Promise<number> {
    return Promise.resolve(this.sizeBytes)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
