import type { FormatNode } from '../../block/index.ts'
import type { Piece, Plan } from './plan.ts'
import type { Source } from './source.ts'
import type { Store } from './store.ts'

/**
 * What is in memory is copied twice, into a buffer and out of it, by one thread in pieces that the cache of its processor holds.
 * Two threads that hand pieces to each other are little faster, and much slower where one processor has something else to do.
 */
const BUFFER_BYTES = 512 << 10
/** So much is stored at a time: each time the target gives storage, and names it, once. */
const FILL_BYTES = 16 << 20

export interface CachedCopy {
  readonly source: Source
  readonly target: FormatNode
  readonly store: Store
  readonly plan: Plan
  /** Blocks of so many bytes that are all zeros are not stored; 0 stores all. */
  readonly sparseBytes: number
  readonly done: (piece: Piece) => void
}

/**
 * Copies what the host has of the source in memory. Resolves to whether that was all; if not, the plan goes on with something
 * that the host has to wait for.
 */
export async function copyCached(copy: CachedCopy, buffer: Uint8Array): Promise<boolean> {
  const { plan, store, done } = copy
  for (;;) {
    const piece = await plan.next(FILL_BYTES)
    if (piece === undefined) return true
    const { at, length, data } = piece
    let copied = length
    if (data) copied = await copySome(copy, piece, buffer)
    else await store.put(piece, buffer.subarray(0, 0))
    if (copied < length) plan.putBack({ at: at + copied, length: length - copied, data })
    if (copied === 0) return false
    done({ at, length: copied, data })
  }
}

/** Copies the beginning of a piece that has data. Resolves to how many bytes: none when the host has to wait for the first. */
async function copySome(copy: CachedCopy, piece: Piece, buffer: Uint8Array): Promise<number> {
  const { source, store, sparseBytes } = copy
  const filled = await fill(copy, piece, buffer)
  if (filled === piece.length) return filled
  // What is not stored anew, or begins with zeros.
  const at = piece.at + filled
  const step = Math.max(BUFFER_BYTES, sparseBytes)
  const length = Math.min(piece.length - filled, step - (at % step))
  const bytes = buffer.subarray(0, length)
  if (!source.readNow(at, bytes)) return filled
  await store.put({ at, length, data: true }, bytes)
  return filled + length
}

async function fill(copy: CachedCopy, piece: Piece, buffer: Uint8Array): Promise<number> {
  const { source, target, sparseBytes: blockBytes } = copy
  if (target.fill === undefined || blockBytes > BUFFER_BYTES) return 0
  const place = source.place(piece.at, piece.length)
  if (place === undefined) return 0
  const { file, offset: from } = place
  const short = buffer.subarray(0, BUFFER_BYTES)
  return await target.fill(piece.at, {
    file,
    from,
    length: piece.length,
    blockBytes,
    buffer: short,
  })
}
