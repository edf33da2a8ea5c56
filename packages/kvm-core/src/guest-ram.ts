import type { GuestRam } from './api/memory.ts'
import { KvmError, native } from './errors.ts'
import type { NativeRam } from './native/addon.ts'
import { addon } from './native/loader.ts'

const segmentBytes = 2 ** 30

/** A mapping in this isolate, with the ArrayBuffers that were made of it. */
export class GuestRamImpl implements GuestRam {
  readonly size: number
  readonly backing: 'anon' | 'memfd' | 'hugetlb' | 'file'
  readonly fd: number
  readonly segments: number
  readonly segmentBytes: number = segmentBytes
  readonly key: number
  /** The addon's object, for `setUserMemoryRegion`. */
  readonly handle: NativeRam
  readonly #segments: ArrayBuffer[] = []
  #windows: WeakRef<ArrayBuffer>[] = []
  #detached = false

  constructor(handle: NativeRam) {
    this.handle = handle
    this.size = handle.size
    this.key = handle.key
    this.backing = handle.backing
    this.fd = handle.fd
    this.segments = Math.ceil(this.size / segmentBytes)
  }

  segment(index: number): ArrayBuffer {
    const known = this.#segments[index]
    if (known !== undefined) return known
    if (!Number.isInteger(index) || index < 0 || index >= this.segments) {
      throw new KvmError('EFAULT', `segment ${index} is not one of 0 to ${this.segments - 1}`)
    }
    this.#check()
    const offset = index * segmentBytes
    const len = Math.min(segmentBytes, this.size - offset)
    const made = native(() => this.handle.window(offset, len))
    this.#segments[index] = made
    return made
  }

  window(offset: number, len: number): ArrayBuffer {
    this.#check()
    const made = native(() => this.handle.window(offset, len))
    if (this.#windows.length >= 64) {
      this.#windows = this.#windows.filter((ref) => ref.deref() !== undefined)
    }
    this.#windows.push(new WeakRef(made))
    return made
  }

  markWritten(offset: number, len: number): void {
    native(() => this.handle.markWritten(offset, len))
  }

  populate(): void {
    native(() => this.handle.populate())
  }

  hugeBytes(): number {
    return native(() => this.handle.hugeBytes())
  }

  residentBytes(): number {
    return native(() => this.handle.residentBytes())
  }

  detach(): void {
    this.#detached = true
    const windows = this.#windows.flatMap((ref) => ref.deref() ?? [])
    for (const buffer of [...Object.values(this.#segments), ...windows]) {
      if (buffer.byteLength > 0) addon().detachBuffer(buffer)
    }
    this.#segments.length = 0
    this.#windows = []
    this.handle.release()
  }

  [Symbol.dispose](): void {
    this.detach()
  }

  #check(): void {
    if (this.#detached) throw new KvmError('EBADF', 'this isolate has detached the RAM')
  }
}
