import type { MemoryParts } from 'virtio'

import type { Drive } from '../../src/machine/drive.ts'

/** A disk in memory: each byte tells its sector until it is written. */
export class FakeDrive implements Drive {
  readonly bytes: Uint8Array
  readonly readOnly: boolean
  readonly logicalBlockBytes = 512
  readonly physicalBlockBytes = 4096
  flushes = 0
  discards: [number, number][] = []
  /** Requests fail with this. */
  error: Error | undefined
  /** Requests at once are answered, too. */
  now = false
  /** Requests wait for this. */
  gate: Promise<void> = Promise.resolve()

  constructor(sizeBytes: number, readOnly: boolean = false) {
    this.bytes = new Uint8Array(sizeBytes)
    this.readOnly = readOnly
    for (let i = 0; i < sizeBytes; i++) this.bytes[i] = (i >> 9) + (i & 0xff)
  }

  get sizeBytes(): number {
    return this.bytes.length
  }

  readNow(offset: number, { buffers, parts, count }: MemoryParts): boolean {
    if (!this.now) return false
    let at = offset
    for (let i = 0; i < count; i++) {
      const length = parts[3 * i + 2]!
      buffers[parts[3 * i]!]!.set(this.bytes.subarray(at, at + length), parts[3 * i + 1])
      at += length
    }
    return true
  }

  async readv(offset: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.#turn(offset, iov)
    let at = offset
    for (const part of iov) {
      part.set(this.bytes.subarray(at, at + part.length))
      at += part.length
    }
  }

  async writev(offset: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.#turn(offset, iov)
    let at = offset
    for (const part of iov) {
      this.bytes.set(part, at)
      at += part.length
    }
  }

  async flush(): Promise<void> {
    await this.gate
    if (this.error !== undefined) throw this.error
    this.flushes++
  }

  async discard(offset: number, length: number): Promise<void> {
    await Promise.resolve()
    this.discards.push([offset, length])
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await Promise.resolve()
    this.bytes.fill(0, offset, offset + length)
  }

  async #turn(offset: number, iov: readonly Uint8Array[]): Promise<void> {
    await this.gate
    if (this.error !== undefined) throw this.error
    const length = iov.reduce((sum, part) => sum + part.length, 0)
    if (offset < 0 || offset % 512 !== 0 || length % 512 !== 0) throw new Error('not aligned')
    if (offset + length > this.bytes.length) throw new Error('outside the disk')
  }
}
