import type { MemoryParts } from 'virtio'
import { iovLength } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type { BlockNode } from '../node.ts'
import { type Direction, Member, type ThrottleGroup } from './group.ts'

type Limited = Omit<BlockNode, 'close'>

/** A node whose reads and writes wait where they are too much for a group's limits. */
export class Throttled implements Limited {
  readonly #node: Limited
  readonly #member = new Member()
  #group: ThrottleGroup | undefined

  constructor(node: Limited) {
    this.#node = node
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

  get group(): ThrottleGroup | undefined {
    return this.#group
  }

  /** Belongs to another group, or to none. What waits begins at once. */
  setGroup(group: ThrottleGroup | undefined): void {
    if (group === this.#group) return
    this.#group?.leave(this.#member)
    this.#group = group
    group?.join(this.#member)
  }

  /** What waits begins at once: the machine ends, or the device is gone. */
  release(): void {
    this.#group?.release(this.#member)
  }

  readNow(offset: number, target: MemoryParts): boolean {
    const { readNow } = this.#node
    if (readNow === undefined) return false
    if (this.#group === undefined) return readNow.call(this.#node, offset, target)
    // Who reads what the host has not in memory comes again, and is counted then.
    if (!this.#group.wouldAdmit('read')) return false
    if (!readNow.call(this.#node, offset, target)) return false
    this.#group.count('read', target.length)
    return true
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    return this.#enter('read', iovLength(iov), () => this.#node.readv(offset, iov))
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    return this.#enter('write', iovLength(iov), () => this.#node.writev(offset, iov))
  }

  flush(): Promise<void> {
    return this.#node.flush()
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#node.discard(offset, length)
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#enter('write', length, () => this.#node.writeZeroes(offset, length, mayUnmap))
  }

  #enter(direction: Direction, bytes: number, request: () => Promise<void>): Promise<void> {
    const group = this.#group
    if (group === undefined) return request()
    return group.enter(this.#member, direction, bytes).then(request)
  }
}
