import type { FormatNode } from '../../block/index.ts'
import { hostio } from '../../native/hostio.ts'
import type { Piece } from './plan.ts'

export interface StoreOptions {
  readonly compress: boolean
  readonly sparseBytes: number
  /** How long the target's backing file is, which has what the source itself has not. */
  readonly backingBytes: number | undefined
  readonly targetIsZero: boolean
}

/** The shortest runs of zeros that are looked for. */
const FINEST = 512

/** Writes pieces of at most `chunkBytes` to a new image. */
export class Store {
  readonly #target: FormatNode
  readonly #options: StoreOptions
  readonly #chunkBytes: number
  readonly #runs: Uint32Array

  constructor(target: FormatNode, options: StoreOptions, chunkBytes: number) {
    this.#target = target
    this.#options = options
    this.#chunkBytes = chunkBytes
    this.#runs = new Uint32Array(chunkBytes / FINEST + 2)
  }

  /** @param bytes the data of a piece that has some */
  async put({ at, length, data }: Piece, bytes: Uint8Array): Promise<void> {
    const { compress, sparseBytes, targetIsZero, backingBytes } = this.#options
    const target = this.#target
    const plain = targetIsZero && backingBytes === undefined
    if (!data) return await target.writeZeroes(at, length, true)
    if (compress) return await this.#compressed(at, bytes, plain)
    if (sparseBytes === 0) return await target.writev(at, [bytes])
    const runs = this.#runs
    const count = hostio().zeroRuns(bytes, Math.min(sparseBytes, this.#chunkBytes), runs)
    if (count === 1) return await target.writev(at, [bytes])
    // Others look for runs while this waits.
    const lengths = runs.slice(0, count)
    let from = 0
    for (const [i, run] of lengths.entries()) {
      const part = bytes.subarray(from, from + run)
      if (run > 0 && i % 2 === 0) await target.writev(at + from, [part])
      else if (run > 0 && !plain) await target.writeZeroes(at + from, run, true)
      from += run
    }
    return undefined
  }

  /** Each cluster is packed by a thread of its own. */
  async #compressed(at: number, bytes: Uint8Array, skipZeros: boolean): Promise<void> {
    const target = this.#target
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
      if (zero) {
        running.push(target.writeZeroes(at + from, Math.min(cs, bytes.byteLength - from), true))
      } else running.push(target.writeCompressed!(at + from, cluster))
    }
    const results = await Promise.allSettled(running)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}
