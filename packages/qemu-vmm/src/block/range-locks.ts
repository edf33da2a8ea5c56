/** A request that holds, or waits for, a range. */
export interface RangeLock {
  readonly start: number
  readonly end: number
  readonly exclusive: boolean
  /** Called at the release. */
  waiters: (() => void)[] | undefined
  /** Set when all earlier conflicting requests are gone; undefined when it never had to wait. */
  readonly ready: Promise<unknown> | undefined
}

/**
 * Orders requests to overlapping ranges: shared ones run together, an exclusive one runs alone.
 * Each waits for all earlier requests that it conflicts with, so nobody starves and no cycle is
 * possible.
 */
export class RangeLocks {
  readonly #shared: RangeLock[] = []
  readonly #exclusive: RangeLock[] = []

  /** Whether a shared lock of the range could be had at once. */
  isFree(start: number, end: number): boolean {
    return !this.#exclusive.some((other) => other.start < end && start < other.end)
  }

  /** Takes the range, or queues for it: await `ready` when it is there. */
  acquire(start: number, end: number, exclusive: boolean): RangeLock {
    let waits: Promise<void>[] | undefined
    if (this.#exclusive.length > 0) waits = conflicts(this.#exclusive, start, end, waits)
    if (exclusive) waits = conflicts(this.#shared, start, end, waits)
    const lock: RangeLock = {
      start,
      end,
      exclusive,
      waiters: undefined,
      ready: waits === undefined ? undefined : Promise.all(waits),
    }
    ;(exclusive ? this.#exclusive : this.#shared).push(lock)
    return lock
  }

  release(lock: RangeLock): void {
    const list = lock.exclusive ? this.#exclusive : this.#shared
    const last = list.pop()!
    if (last !== lock) list[list.indexOf(lock)] = last
    if (lock.waiters !== undefined) for (const wake of lock.waiters) wake()
  }
}

function conflicts(
  list: readonly RangeLock[],
  start: number,
  end: number,
  waits: Promise<void>[] | undefined,
): Promise<void>[] | undefined {
  let all = waits
  for (let i = 0; i < list.length; i++) {
    const other = list[i]!
    if (other.start >= end || start >= other.end) continue
    all ??= []
    all.push(new Promise((resolve) => (other.waiters ??= []).push(resolve)))
  }
  return all
}

/** Lets one asynchronous section run at a time, in the order of the calls. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve()
  #holders = 0

  /** Whether a section runs or waits. */
  get busy(): boolean {
    return this.#holders > 0
  }

  run<T>(section: () => Promise<T>): Promise<T> {
    this.#holders++
    const result = this.#tail.then(section)
    this.#tail = result.then(
      () => void this.#holders--,
      () => void this.#holders--,
    )
    return result
  }
}
