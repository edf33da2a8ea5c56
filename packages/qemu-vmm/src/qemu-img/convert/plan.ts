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
}

/** What is to be copied, in its order; without what needs nothing done. */
export class Plan {
  readonly #source: Source
  readonly #options: PlanOptions
  readonly #pieces: AsyncGenerator<Piece, undefined>
  /** What comes next, before more of the pieces. */
  #back: Piece | undefined
  #taken: Promise<unknown> = Promise.resolve()

  constructor(source: Source, options: PlanOptions) {
    this.#source = source
    this.#options = options
    this.#pieces = this.#all()
  }

  /**
   * The next piece, or its beginning: of data there are at most `mostBytes`, a multiple of the unit, and they end at a multiple of
   * it unless the piece ends. Several may ask at a time; they get pieces in the order in which they asked.
   */
  next(mostBytes: number): Promise<Piece | undefined> {
    const taken = this.#taken.then(() => this.#take(mostBytes))
    this.#taken = taken.catch(() => {})
    return taken
  }

  /** Makes a piece that was taken last, or the rest of it, the next one. */
  putBack(piece: Piece): void {
    // What is there is the rest of the same stretch.
    this.#back = { ...piece, length: piece.length + (this.#back?.length ?? 0) }
  }

  async #take(mostBytes: number): Promise<Piece | undefined> {
    const piece = this.#back ?? (await this.#pieces.next()).value
    this.#back = undefined
    if (piece?.data !== true) return piece
    const { at, data } = piece
    const length = Math.min(piece.length, mostBytes - (at % mostBytes))
    if (length < piece.length) this.#back = { at: at + length, length: piece.length - length, data }
    return { at, length, data }
  }

  async *#all(): AsyncGenerator<Piece, undefined> {
    const { backingBytes, targetIsZero, sparseBytes, unit } = this.#options
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
      if (!skipped) yield { at, length: end - at, data: data || sparseBytes === 0 }
      at = end
    }
    return undefined
  }
}
