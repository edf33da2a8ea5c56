import type { FormatNode } from '../../block/index.ts'
import { hostio } from '../../native/hostio.ts'
import type { Progress } from '../io.ts'
import type { Source } from './source.ts'

export interface CopyOptions {
  readonly compress: boolean
  readonly sparseBytes: number
  readonly requests: number
  readonly inOrder: boolean
  /** How long the target's backing file is, which has what the source itself has not. */
  readonly backingBytes: number | undefined
  readonly targetIsZero: boolean
  readonly progress: Progress
}

const CHUNK = 2 << 20
const FINEST = 512

/** A part of the copy. */
interface Piece {
  readonly at: number
  readonly length: number
  readonly data: boolean
}

/** Copies all that a new image does not read as anyway. */
export async function copy(
  source: Source,
  target: FormatNode,
  options: CopyOptions,
): Promise<void> {
  const pieces = plan(source, options, options.compress ? target.info().clusterSize! : 1)
  const buffers: Uint8Array[] = []
  const runs = new Uint32Array(CHUNK / FINEST + 2)
  const inOrder = options.inOrder && !options.compress
  // Each piece waits for this before it is written, where the order matters.
  let turn: Promise<void> = Promise.resolve()
  // Then a piece is best read just before it is written, into memory that the processor still has at hand.
  let cached = inOrder
  let failed = false
  const one = async ({ at, length, data }: Piece, before: Promise<void>): Promise<void> => {
    if (cached) await before
    const buffer = buffers.pop() ?? new Uint8Array(CHUNK)
    const bytes = buffer.subarray(0, length)
    if (data) {
      cached = source.readNow(at, bytes) && inOrder
      if (!cached) await source.read(at, bytes)
    }
    if (inOrder) await before
    if (failed) return
    await write(target, { at, length, data }, bytes, { ...options, runs })
    buffers.push(buffer)
    options.progress.report(at + length, source.sizeBytes)
  }
  const worker = async (): Promise<void> => {
    for (;;) {
      // Taken together, so that turns are in the order of the pieces.
      const next = pieces.next()
      const before = turn
      let written = (): void => {}
      turn = new Promise((resolve) => (written = resolve))
      try {
        const { done, value: piece } = await next
        if (done === true || failed) return
        await one(piece, before)
      } catch (error) {
        failed = true
        throw error
      } finally {
        written()
      }
    }
  }
  const results = await Promise.allSettled(Array.from({ length: options.requests }, worker))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** The pieces of a copy, in their order; without those that need nothing done. */
async function* plan(
  source: Source,
  { backingBytes, targetIsZero, sparseBytes }: CopyOptions,
  unit: number,
): AsyncGenerator<Piece, undefined> {
  const { sizeBytes } = source
  for (let at = 0; at < sizeBytes;) {
    const extent = await source.extent(at)
    let end = at + extent.length
    let data = !extent.zero
    let skipped = extent.zero && targetIsZero && sparseBytes > 0
    if (backingBytes !== undefined) skipped = at >= backingBytes ? extent.zero : !extent.own
    if (backingBytes !== undefined && at < backingBytes) end = Math.min(end, backingBytes)
    if (unit > 1) {
      // Clusters are written whole: what is only in part zeros, or the backing file's, is data.
      const whole = end >= sizeBytes ? sizeBytes : end - (end % unit)
      if (data && !skipped) end = Math.ceil(end / unit) * unit
      else if (whole > at) end = whole
      else {
        data = true
        skipped = false
        end = at + unit
      }
    }
    end = Math.min(end, sizeBytes)
    if (skipped) at = end
    else if (!data && sparseBytes > 0) {
      yield { at, length: end - at, data }
      at = end
    }
    while (at < end) {
      const length = Math.min(end - at, CHUNK - (at % CHUNK))
      yield { at, length, data: true }
      at += length
    }
  }
  return undefined
}

async function write(
  target: FormatNode,
  { at, length, data }: Piece,
  bytes: Uint8Array,
  options: CopyOptions & { readonly runs: Uint32Array },
): Promise<void> {
  const { compress, sparseBytes, targetIsZero, backingBytes, runs } = options
  const plain = targetIsZero && backingBytes === undefined
  if (!data) return await target.writeZeroes(at, length, true)
  if (compress) return await writeCompressed(target, at, bytes, plain)
  if (sparseBytes === 0) return await target.writev(at, [bytes])
  const count = hostio().zeroRuns(bytes, Math.min(sparseBytes, CHUNK), runs)
  let from = 0
  for (let i = 0; i < count; i++) {
    const part = bytes.subarray(from, from + runs[i]!)
    if (part.byteLength > 0 && i % 2 === 0) await target.writev(at + from, [part])
    else if (part.byteLength > 0 && !plain)
      await target.writeZeroes(at + from, part.byteLength, true)
    from += part.byteLength
  }
  return undefined
}

/** Each cluster is packed by a thread of its own. */
async function writeCompressed(
  target: FormatNode,
  at: number,
  bytes: Uint8Array,
  skipZeros: boolean,
): Promise<void> {
  const cs = target.info().clusterSize!
  const runs = new Uint32Array(3)
  const running: Promise<void>[] = []
  for (let from = 0; from < bytes.byteLength; from += cs) {
    let cluster = bytes.subarray(from, from + cs)
    // One run of no data and one of zeros.
    const zero = hostio().zeroRuns(cluster, cs, runs) === 2
    if (zero && skipZeros) continue
    if (cluster.byteLength < cs) {
      const { byteLength } = cluster
      const whole = new Uint8Array(cs)
      whole.set(cluster.subarray(0, byteLength))
      cluster = whole
    }
    if (zero)
      running.push(target.writeZeroes(at + from, Math.min(cs, bytes.byteLength - from), true))
    else running.push(target.writeCompressed!(at + from, cluster))
  }
  const results = await Promise.allSettled(running)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
