import type { FormatNode } from '../../block/index.ts'
import type { Progress } from '../io.ts'
import { copyCached } from './cached.ts'
import type { CachedCopy } from './cached.ts'
import { Plan } from './plan.ts'
import type { Piece } from './plan.ts'
import type { Source } from './source.ts'
import { Store } from './store.ts'
import type { StoreOptions } from './store.ts'

export interface CopyOptions extends StoreOptions {
  readonly requests: number
  readonly inOrder: boolean
  readonly progress: Progress
}

const CHUNK = 2 << 20
/** What the host had not in memory is followed by more of that kind: so many pieces, for each request at a time. */
const UNCACHED_PIECES = 4

/** Copies all that a new image does not read as anyway. */
export async function copy(
  source: Source,
  target: FormatNode,
  options: CopyOptions,
): Promise<void> {
  const unit = options.compress ? target.info().clusterSize! : 1
  const plan = new Plan(source, { ...options, unit })
  const store = new Store(target, options, CHUNK)
  const done = ({ at, length }: Piece): void =>
    options.progress.report(at + length, source.sizeBytes)
  if (!options.inOrder || options.compress) {
    return await copyUncached(source, store, plan, { ...options, most: Infinity, done })
  }
  const sparseBytes = Math.min(options.sparseBytes, CHUNK)
  const cached: CachedCopy = { source, target, store, plan, sparseBytes, done }
  const most = UNCACHED_PIECES * options.requests
  const buffer = new Uint8Array(CHUNK)
  while (!(await copyCached(cached, buffer))) {
    await copyUncached(source, store, plan, { ...options, most, done })
  }
}

interface UncachedOptions extends CopyOptions {
  /** How many pieces. */
  readonly most: number
  readonly done: (piece: Piece) => void
}

/** Several requests at a time wait for the host, each with a buffer of its own. */
async function copyUncached(
  source: Source,
  store: Store,
  plan: Plan,
  { requests, inOrder, compress, most, done }: UncachedOptions,
): Promise<void> {
  const ordered = inOrder && !compress
  // Each piece waits for this before it is written, where the order matters.
  let turn: Promise<void> = Promise.resolve()
  let left = most
  let failed = false
  const worker = async (): Promise<void> => {
    const buffer = new Uint8Array(CHUNK)
    while (left-- > 0) {
      // Taken together, so that turns are in the order of the pieces.
      const next = plan.next(CHUNK)
      const before = turn
      let written = (): void => {}
      turn = new Promise((resolve) => (written = resolve))
      try {
        const piece = await next
        if (piece === undefined || failed) return
        const bytes = buffer.subarray(0, piece.length)
        if (piece.data) await source.read(piece.at, bytes)
        if (ordered) await before
        if (failed) return
        await store.put(piece, bytes)
        done(piece)
      } catch (error) {
        failed = true
        throw error
      } finally {
        written()
      }
    }
  }
  const results = await Promise.allSettled(Array.from({ length: requests }, worker))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
