import type { BlockFile } from '../file/protocol.ts'
import { viewOf } from './bytes.ts'

/** A piece of an L2 table or of a refcount block. */
export interface Slice {
  /** Where it is in the file. */
  readonly offset: number
  bytes: Uint8Array
  view: DataView
  dirty: boolean
  /** Its bytes are being written: they must not change, a change goes to a copy. */
  writing: boolean
  used: number
}

/** Slices of tables, read when needed, written when told. */
export class TableCache {
  readonly sliceBytes: number
  readonly #file: BlockFile
  readonly #most: number
  readonly #slices = new Map<number, Slice>()
  readonly #loading = new Map<number, Promise<Slice>>()
  #clock = 0
  #dirty = 0

  /** @param mostBytes how much is kept; dirty slices stay, so a flush must follow when it is full */
  constructor(file: BlockFile, sliceBytes: number, mostBytes: number) {
    this.#file = file
    this.sliceBytes = sliceBytes
    this.#most = Math.max(4, Math.floor(mostBytes / sliceBytes))
  }

  /** Most of the cache waits to be written: nothing else can make room. */
  get crowded(): boolean {
    return this.#dirty * 2 > this.#most
  }

  get dirty(): boolean {
    return this.#dirty > 0
  }

  /** The slice when it is in memory. */
  peek(offset: number): Slice | undefined {
    const slice = this.#slices.get(offset)
    if (slice !== undefined) slice.used = ++this.#clock
    return slice
  }

  load(offset: number): Promise<Slice> {
    const slice = this.peek(offset)
    if (slice !== undefined) return Promise.resolve(slice)
    const running = this.#loading.get(offset)
    if (running !== undefined) return running
    const started = this.#read(offset)
    this.#loading.set(offset, started)
    return started
  }

  async #read(offset: number): Promise<Slice> {
    try {
      const bytes = new Uint8Array(this.sliceBytes)
      await this.#file.readv(offset, [bytes])
      return this.peek(offset) ?? this.put(offset, bytes)
    } finally {
      this.#loading.delete(offset)
    }
  }

  /** Enters what the file holds there already. */
  put(offset: number, bytes: Uint8Array): Slice {
    this.#evict()
    const used = ++this.#clock
    const slice = { offset, bytes, view: viewOf(bytes), dirty: false, writing: false, used }
    this.#slices.set(offset, slice)
    return slice
  }

  #evict(): void {
    if (this.#slices.size < this.#most) return
    let oldest: Slice | undefined
    for (const slice of this.#slices.values()) {
      if (slice.dirty || slice.writing) continue
      if (oldest === undefined || slice.used < oldest.used) oldest = slice
    }
    if (oldest !== undefined) this.#slices.delete(oldest.offset)
  }

  /** Announces a change; `bytes` and `view` may be new ones afterwards. */
  modify(slice: Slice): void {
    if (slice.writing) {
      slice.bytes = slice.bytes.slice()
      slice.view = viewOf(slice.bytes)
      slice.writing = false
    }
    if (slice.dirty) return
    slice.dirty = true
    this.#dirty++
    // It may have been evicted while its user waited for something else.
    if (this.#slices.get(slice.offset) !== slice) this.#slices.set(slice.offset, slice)
  }

  /** Forgets a table that is no longer one. */
  drop(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.sliceBytes) {
      const slice = this.#slices.get(at)
      if (slice?.dirty === true) this.#dirty--
      this.#slices.delete(at)
    }
  }

  /** Takes what is to be written now; changes from here on belong to the next time. */
  freeze(): Frozen[] {
    const taken: Frozen[] = []
    if (this.#dirty === 0) return taken
    for (const slice of this.#slices.values()) {
      if (!slice.dirty) continue
      slice.dirty = false
      slice.writing = true
      taken.push({ slice, bytes: slice.bytes })
    }
    this.#dirty = 0
    return taken
  }

  /** Writes what was taken. What fails is dirty again. */
  async write(frozen: readonly Frozen[]): Promise<void> {
    const results = await Promise.allSettled(
      frozen.map(({ slice, bytes }) => this.#file.writev(slice.offset, [bytes])),
    )
    for (const [i, { slice, bytes }] of frozen.entries()) {
      if (results[i]!.status === 'rejected') this.again([frozen[i]!])
      else if (slice.bytes === bytes) slice.writing = false
    }
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  /** Gives back what was taken and not written. */
  again(frozen: readonly Frozen[]): void {
    for (const { slice, bytes } of frozen) {
      if (slice.bytes === bytes) slice.writing = false
      if (this.#slices.get(slice.offset) !== slice || slice.dirty) continue
      slice.dirty = true
      this.#dirty++
    }
  }
}

export interface Frozen {
  readonly slice: Slice
  readonly bytes: Uint8Array
}
