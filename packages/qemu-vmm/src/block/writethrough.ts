import type { MemoryParts } from 'virtio'
import type { Iovec } from './iovec.ts'
import type { Preallocation } from './qcow2/preallocate.ts'
import type { CheckOptions, CheckResult, FormatInfo, FormatNode, MapEntry } from './node.ts'

/** `cache=writethrough` and `directsync`: a write completes when it is stable. */
export class Writethrough implements FormatNode {
  readonly #node: FormatNode

  constructor(node: FormatNode) {
    this.#node = node
  }

  /** What the writes go through to. */
  get inner(): FormatNode {
    return this.#node
  }
  get format(): 'raw' | 'qcow2' {
    return this.#node.format
  }
  get filename(): string {
    return this.#node.filename
  }
  get backing(): FormatNode | undefined {
    return this.#node.backing
  }
  get sizeBytes(): number {
    return this.#node.sizeBytes
  }
  get readOnly(): boolean {
    return this.#node.readOnly
  }
  get logicalBlockBytes(): number {
    return this.#node.logicalBlockBytes
  }
  get physicalBlockBytes(): number {
    return this.#node.physicalBlockBytes
  }

  readNow(offset: number, target: MemoryParts): boolean {
    return this.#node.readNow?.(offset, target) === true
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    return this.#node.readv(offset, iov)
  }

  async writev(offset: number, iov: Iovec): Promise<void> {
    await this.#node.writev(offset, iov)
    await this.#node.flush()
  }

  flush(): Promise<void> {
    return this.#node.flush()
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#node.discard(offset, length)
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.#node.writeZeroes(offset, length, mayUnmap)
    await this.#node.flush()
  }

  info(): FormatInfo {
    return this.#node.info()
  }

  map(offset: number, length: number): Promise<MapEntry> {
    return this.#node.map(offset, length)
  }

  resize(sizeBytes: number, preallocation?: Preallocation): Promise<void> {
    return this.#node.resize(sizeBytes, preallocation)
  }

  async empty(): Promise<void> {
    await this.#node.empty?.()
  }

  check(options?: CheckOptions): Promise<CheckResult | undefined> {
    return this.#node.check(options)
  }

  close(): Promise<void> {
    return this.#node.close()
  }
}
