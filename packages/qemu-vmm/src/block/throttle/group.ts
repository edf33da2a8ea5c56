import { Bucket } from './bucket.ts'
import { LIMIT_NAMES } from './limits.ts'
import type { LimitName, ThrottleLimits } from './limits.ts'

export type Direction = 'read' | 'write'

/** Time and timers, which tests have their own of. */
export interface ThrottleClock {
  nowNs(): number
  /** Calls back after so many milliseconds, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void
}

interface Request {
  readonly bytes: number
  readonly begin: () => void
}

/** A drive of a group, with what waits of it. */
export class Member {
  readonly waiting: Readonly<Record<Direction, Request[]>> = { read: [], write: [] }
}

/**
 * Drives that share limits. What is too much for them waits, in the order of each drive, and the drives take turns.
 */
export class ThrottleGroup {
  readonly name: string
  readonly #clock: ThrottleClock
  readonly #members: Member[] = []
  #limits: ThrottleLimits = { limits: {} }
  #buckets = new Map<LimitName, Bucket>()
  #leakedNs: number
  readonly #timers: Partial<Record<Direction, () => void>> = {}

  constructor(name: string, clock: ThrottleClock) {
    this.name = name
    this.#clock = clock
    this.#leakedNs = clock.nowNs()
  }

  get limits(): ThrottleLimits {
    return this.#limits
  }

  get size(): number {
    return this.#members.length
  }

  /** Other limits, which were checked. What waits is judged by them; what was done before is forgotten. */
  setLimits(limits: ThrottleLimits): void {
    this.#limits = limits
    this.#buckets = new Map()
    for (const name of LIMIT_NAMES) {
      const limit = limits.limits[name]
      if (limit !== undefined && limit.average > 0) this.#buckets.set(name, new Bucket(limit))
    }
    this.#leakedNs = this.#clock.nowNs()
    for (const direction of ['read', 'write'] as const) {
      this.#timers[direction]?.()
      delete this.#timers[direction]
      this.#dispatch(direction)
    }
  }

  join(member: Member): void {
    this.#members.push(member)
  }

  /** What waits of a drive begins at once: it leaves, or somebody must not wait for it. */
  release(member: Member): void {
    for (const direction of ['read', 'write'] as const) {
      for (const { bytes, begin } of member.waiting[direction].splice(0)) {
        this.#fill(direction, bytes)
        begin()
      }
    }
  }

  leave(member: Member): void {
    this.release(member)
    const at = this.#members.indexOf(member)
    if (at >= 0) this.#members.splice(at, 1)
  }

  /** Whether a request may begin now. */
  wouldAdmit(direction: Direction): boolean {
    if (this.#buckets.size === 0) return true
    if (this.#members.some(({ waiting }) => waiting[direction].length > 0)) return false
    return this.#wait(direction) === 0
  }

  /** Counts a request that began. */
  count(direction: Direction, bytes: number): void {
    this.#fill(direction, bytes)
  }

  /** Resolves when a request may begin, which counts then. */
  enter(member: Member, direction: Direction, bytes: number): Promise<void> {
    return new Promise((resolve) => {
      member.waiting[direction].push({ bytes, begin: resolve })
      this.#dispatch(direction)
    })
  }

  /** Begins what may begin, and sets the clock for the rest. */
  #dispatch(direction: Direction): void {
    if (this.#timers[direction] !== undefined) return
    for (;;) {
      const member = this.#members.find(({ waiting }) => waiting[direction].length > 0)
      if (member === undefined) return
      const wait = this.#wait(direction)
      if (wait > 0) {
        // A timer that rings early would find that it must wait once more.
        this.#timers[direction] = this.#clock.after(Math.ceil(wait * 1000), () => {
          delete this.#timers[direction]
          this.#dispatch(direction)
        })
        return
      }
      const request = member.waiting[direction].shift()!
      // It is the turn of the others.
      this.#members.splice(this.#members.indexOf(member), 1)
      this.#members.push(member)
      this.#fill(direction, request.bytes)
      request.begin()
    }
  }

  #of(direction: Direction): Bucket[] {
    const names = ['bps-total', `bps-${direction}`, 'iops-total', `iops-${direction}`] as const
    return names.flatMap((name) => this.#buckets.get(name) ?? [])
  }

  #wait(direction: Direction): number {
    const now = this.#clock.nowNs()
    const seconds = (now - this.#leakedNs) / 1e9
    this.#leakedNs = now
    for (const bucket of this.#buckets.values()) bucket.leak(seconds)
    return Math.max(0, ...this.#of(direction).map((bucket) => bucket.wait()))
  }

  #fill(direction: Direction, bytes: number): void {
    const { iopsSize = 0 } = this.#limits
    const requests = iopsSize > 0 && bytes > iopsSize ? bytes / iopsSize : 1
    for (const name of ['bps-total', `bps-${direction}`] as const) {
      this.#buckets.get(name)?.fill(bytes)
    }
    for (const name of ['iops-total', `iops-${direction}`] as const) {
      this.#buckets.get(name)?.fill(requests)
    }
  }
}
