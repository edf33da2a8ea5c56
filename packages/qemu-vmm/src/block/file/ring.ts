import { constants as os } from 'node:os'
import { openNativeRing } from '../../native/ring.ts'
import type { NativeRing } from '../../native/ring.ts'
import type { Iovec } from '../iovec.ts'

/** Told how a request ended: bytes, or a negative errno. */
export type RingCallback = (result: number) => void

/** Completions that are taken in one call. */
const BATCH = 256

/**
 * Requests to files of the host through io_uring(7). Those between `plug` and `unplug` reach the host together,
 * others one by one.
 */
export class Ring {
  readonly #native: NativeRing
  readonly #callbacks: (RingCallback | undefined)[] = []
  readonly #completions = new Float64Array(2 * BATCH)
  #plugs = 0
  /** Something was queued that the host does not know of. */
  #queued = false
  #retrying = false
  /** Why it is of no use any more: a negative errno. */
  #broken = 0

  /** @throws an error with the `code` of the host, where it allows no ring */
  constructor(native: NativeRing = openNativeRing()) {
    this.#native = native
    native.watch(this.#ready)
  }

  /**
   * Bytes that were read: fewer than there is room for end with the file. What the host has in memory is copied on this
   * thread, unless that is to be done `apart`.
   */
  read(fd: number, offset: number, iov: Iovec, callback: RingCallback, apart = false): void {
    this.#queue(apart ? 3 : 0, fd, offset, iov, callback)
  }

  /** Bytes that were written: all of them. */
  write(fd: number, offset: number, iov: Iovec, callback: RingCallback): void {
    this.#queue(1, fd, offset, iov, callback)
  }

  /** fdatasync(2): 0. */
  flush(fd: number, callback: RingCallback): void {
    this.#queue(2, fd, 0, [], callback)
  }

  /** What is asked until `unplug` may wait for that. Both may be nested. */
  plug(): void {
    this.#plugs++
  }

  unplug(): void {
    if (--this.#plugs === 0 && this.#queued) this.#submit()
  }

  /** Waits for what the host is doing. Requests must have completed; others are forgotten. */
  close(): void {
    this.#broken = -os.errno.EBADF
    this.#native.close()
  }

  #queue(
    operation: 0 | 1 | 2 | 3,
    fd: number,
    offset: number,
    iov: Iovec,
    callback: RingCallback,
  ): void {
    const tag = this.#broken === 0 ? this.#native.queue(operation, fd, offset, iov) : this.#broken
    if (tag < 0) return queueMicrotask(() => callback(tag))
    this.#callbacks[tag] = callback
    this.#queued = true
    if (this.#plugs === 0) this.#submit()
  }

  #submit(): void {
    this.#queued = false
    const result = this.#native.submit()
    if (result < 0) this.#break(result)
    else if (result > 0) this.#submitLater()
  }

  /** The host is short of memory, and nothing of ours is under way that would give some back. */
  #submitLater(): void {
    if (this.#retrying) return
    this.#retrying = true
    setTimeout(() => {
      this.#retrying = false
      if (this.#broken === 0) this.#submit()
    }, 1)
  }

  readonly #ready = (): void => {
    // What the callbacks lead to, in promises mostly, is asked together, too.
    this.plug()
    queueMicrotask(() => this.unplug())
    for (;;) {
      const count = this.#native.take(this.#completions)
      if (count < 0) return this.#break(count)
      for (let i = 0; i < count; i++) {
        const tag = this.#completions[2 * i]!
        const callback = this.#callbacks[tag]
        this.#callbacks[tag] = undefined
        callback?.(this.#completions[2 * i + 1]!)
      }
      if (count < BATCH) return undefined
    }
  }

  /** The host takes nothing more: all that waits fails. */
  #break(errno: number): void {
    if (this.#broken !== 0) return
    this.#broken = errno
    // It ends what it was asked, so that buffers are not used any more when callbacks run.
    this.#native.close()
    const callbacks = this.#callbacks.splice(0)
    for (const callback of callbacks) callback?.(errno)
  }
}

let shared: Ring | undefined
let users = 0

/**
 * The ring of this isolate, which all files share. Each call is followed by one of `releaseRing`.
 * @throws as the constructor
 */
export function sharedRing(): Ring {
  shared ??= new Ring()
  users++
  return shared
}

export function releaseRing(): void {
  if (--users > 0) return
  shared?.close()
  shared = undefined
}

/** The ring that files of this isolate have, if any does. */
export function currentRing(): Ring | undefined {
  return shared
}
