import type { Piece, Plan } from './plan.ts'
import type { Source } from './source.ts'
import type { Store } from './store.ts'

/**
 * What is in memory is copied twice, into a buffer and out of it, by one thread in pieces that the cache of its processor holds:
 * that is as quick as two threads are that hand pieces to each other, and does not need a second processor.
 */
export const CACHED_CHUNK: number = 512 << 10

/**
 * Copies what the host has of the source in memory. Resolves to whether that was all; if not, the plan goes on with something
 * that the host has to wait for.
 */
export async function copyCached(
  source: Source,
  store: Store,
  plan: Plan,
  done: (piece: Piece) => void,
): Promise<boolean> {
  const buffer = new Uint8Array(plan.chunkBytes)
  for (;;) {
    const piece = await plan.next()
    if (piece === undefined) return true
    const { at, length, data } = piece
    const bytes = buffer.subarray(0, length)
    if (data && !source.readNow(at, bytes)) {
      plan.putBack(piece)
      return false
    }
    await store.put(piece, bytes)
    done(piece)
  }
}
