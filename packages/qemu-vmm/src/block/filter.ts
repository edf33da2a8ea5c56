import type { MemoryParts } from 'virtio'
import type { Iovec } from './iovec.ts'
import type { BlockNode } from './node.ts'

/** What devices use of a node. */
export type Filterable = Omit<BlockNode, 'close'>

/**
 * A node in front of another, of which it changes one aspect: who derives from this overrides the requests that it does
 * something to. Writes have no way through by themselves, as every filter has to do with them.
 */
export abstract class Filter<Node extends Filterable = Filterable> {
  protected readonly node: Node

  constructor(node: Node) {
    this.node = node
  }

  get sizeBytes(): number {
    return this.node.sizeBytes
  }
  get readOnly(): boolean {
    return this.node.readOnly
  }
  get logicalBlockBytes(): number {
    return this.node.logicalBlockBytes
  }
  get physicalBlockBytes(): number {
    return this.node.physicalBlockBytes
  }

  readNow(offset: number, target: MemoryParts): boolean {
    return this.node.readNow?.(offset, target) === true
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    return this.node.readv(offset, iov)
  }

  flush(): Promise<void> {
    return this.node.flush()
  }

  discard(offset: number, length: number): Promise<void> {
    return this.node.discard(offset, length)
  }
}
