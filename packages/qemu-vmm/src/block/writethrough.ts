import { Filter } from './filter.ts'
import type { Iovec } from './iovec.ts'
import type { Preallocation } from './qcow2/preallocate.ts'
import type { CheckOptions, CheckResult, FormatInfo, FormatNode, MapEntry } from './node.ts'

/** `cache=writethrough` and `directsync`: a write completes when it is stable. */
export class Writethrough extends Filter<FormatNode> implements FormatNode {
  /** What the writes go through to. */
  get inner(): FormatNode {
    return this.node
  }
  get format(): 'raw' | 'qcow2' {
    return this.node.format
  }
  get filename(): string {
    return this.node.filename
  }
  get backing(): FormatNode | undefined {
    return this.node.backing
  }

  async writev(offset: number, iov: Iovec): Promise<void> {
    await this.node.writev(offset, iov)
    await this.node.flush()
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    await this.node.writeZeroes(offset, length, mayUnmap)
    await this.node.flush()
  }

  info(): FormatInfo {
    return this.node.info()
  }

  map(offset: number, length: number): Promise<MapEntry> {
    return this.node.map(offset, length)
  }

  resize(sizeBytes: number, preallocation?: Preallocation): Promise<void> {
    return this.node.resize(sizeBytes, preallocation)
  }

  async empty(): Promise<void> {
    await this.node.empty?.()
  }

  check(options?: CheckOptions): Promise<CheckResult | undefined> {
    return this.node.check(options)
  }

  close(): Promise<void> {
    return this.node.close()
  }
}
