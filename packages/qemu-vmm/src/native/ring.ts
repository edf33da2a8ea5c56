/** The addon's io_uring. */

import { addon } from './addon.ts'

/** What the addon exports. Its Rust sources say what each call does. */
export interface NativeRing {
  /** Calls `onReady` from the event loop while there are completions to be taken. */
  watch(onReady: () => void): void
  /**
   * A request's tag, or a negative errno. `operation`: 0 reads, 1 writes, 2 is fdatasync(2), 3 reads on a thread of the
   * kernel. The buffers are kept, and must not change, until the completion was taken.
   */
  queue(
    operation: 0 | 1 | 2 | 3,
    fd: number,
    offset: number,
    buffers: readonly Uint8Array[],
  ): number
  /** 1 when it must be called again for some of what was queued, 0, or a negative errno: the ring is of no use any more. */
  submit(): number
  /** How many pairs of tag and result (bytes, or a negative errno) were put into `completions`; or as `submit`. */
  take(completions: Float64Array): number
  /** Waits for what the host is doing, and forgets all requests. */
  close(): void
}

interface RingModule {
  IoRing: new () => NativeRing
  ioRingRefusal(): string | null
  clearNonblock(fd: number): void
}

/**
 * A ring of this isolate.
 * @throws an error whose `code` is that of the host where it allows none; VmmError E_NO_ADDON when the addon was not built
 */
export function openNativeRing(): NativeRing {
  return new (addon<RingModule>().IoRing)()
}

/** Why this process can have no ring; undefined when it can. */
export function ringRefusal(): string | undefined {
  return addon<RingModule>().ioRingRefusal() ?? undefined
}

/** Makes requests to a file wait that was opened with `O_NONBLOCK`. */
export function clearNonblock(fd: number): void {
  addon<RingModule>().clearNonblock(fd)
}
