import type { MemoryParts } from 'virtio'
import { Filter } from '../filter.ts'
import type { Filterable } from '../filter.ts'
import { iovLength } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import { type Direction, Member, type ThrottleGroup } from './group.ts'

/** A node whose reads and writes wait where they are too much for a group's limits. */
export class Throttled extends Filter implements Filterable {
  readonly #member = new Member()
  #group: ThrottleGroup | undefined

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

  override readNow(offset: number, target: MemoryParts): boolean {
    const node = this.node
    if (node.readNow === undefined) return false
    return this.#now('read', target.length, () => node.readNow!(offset, target))
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    const node = this.node
    if (node.writeNow === undefined) return false
    return this.#now('write', source.length, () => node.writeNow!(offset, source))
  }

  override readv(offset: number, iov: Iovec): Promise<void> {
    return this.#enter('read', iovLength(iov), () => this.node.readv(offset, iov))
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    return this.#enter('write', iovLength(iov), () => this.node.writev(offset, iov))
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#enter('write', length, () => this.node.writeZeroes(offset, length, mayUnmap))
  }

  #now(direction: Direction, bytes: number, request: () => boolean): boolean {
    const group = this.#group
    if (group === undefined) return request()
    // What cannot be done at once comes again, and is counted then.
    if (!group.wouldAdmit(direction) || !request()) return false
    group.count(direction, bytes)
    return true
  }

  #enter(direction: Direction, bytes: number, request: () => Promise<void>): Promise<void> {
    const group = this.#group
    if (group === undefined) return request()
    return group.enter(this.#member, direction, bytes).then(request)
  }
}
