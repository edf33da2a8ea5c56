import type { Source } from './source.ts'

/** A part of a copy. */
export interface Piece {
  readonly at: number
  readonly length: number
  readonly data: boolean
}

export interface PlanOptions {
  readonly sparseBytes: number
  /** How long the target's backing file is, which has what the source itself has not. */
  readonly backingBytes: number | undefined
  readonly targetIsZero: boolean
  /** Pieces begin and end at multiples of this. */
  readonly unit: number
  /** Longer pieces of data are cut: bytes, a multiple of the unit. */
  readonly chunkBytes: number
}

/** What is to be copied, in its order; without what needs nothing done. */
export class Plan {
  readonly #source: Source
  readonly #options: PlanOptions
  readonly #pieces: AsyncGenerator<Piece, undefined>
  #back: Piece | undefined

  constructor(source: Source, options: PlanOptions) {
    this.#source = source
    this.#options = options
    this.#pieces = this.#all()
  }

  async next(): Promise<Piece | undefined> {
    const back = this.#back
    this.#back = undefined
    return back ?? (await this.#pieces.next()).value
  }

  /** Makes a piece that was taken last, or the rest of it, the next one. */
  putBack(piece: Piece): void {
    this.#back = piece
  }

  async *#all(): AsyncGenerator<Piece, undefined> {
    const { backingBytes, targetIsZero, sparseBytes, unit, chunkBytes } = this.#options
    const source = this.#source
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
        const length = Math.min(end - at, chunkBytes - (at % chunkBytes))
        yield { at, length, data: true }
        at += length
      }
    }
    return undefined
  }
}
