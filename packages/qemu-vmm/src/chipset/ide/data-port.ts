import { VmmError } from '../../errors.ts'
import { int, parseState } from '../../machine/state.ts'
import { loadTransfer } from './transfer.ts'
import type { Transfer } from './transfer.ts'

const index = int(0, 0x7fff_ffff)

export interface DataPortState {
  cursor: number
  chunkEnd: number
  filled: number
  transfer: unknown
}

/** The transfer of a channel, and how far the host is with the bytes that it has at the port. */
export class DataPort {
  transfer: Transfer | undefined
  #cursor = 0
  #chunkEnd = 0
  #filled = 0

  begin(transfer: Transfer): void {
    this.end()
    this.transfer = transfer
  }

  end(): void {
    this.transfer = undefined
    this.#cursor = 0
    this.#chunkEnd = 0
    this.#filled = 0
  }

  /** The first `filled` bytes of the transfer's data are in use, and the host begins with them. */
  fill(filled: number): void {
    this.#cursor = 0
    this.#filled = filled
  }

  /** Offers, or asks for, the next chunk; returns its length. */
  nextChunk(): number {
    const most = this.transfer?.drqBytes ?? 0
    this.#chunkEnd = Math.min(this.#filled, this.#cursor + most)
    return this.#chunkEnd - this.#cursor
  }

  get filled(): number {
    return this.#filled
  }

  /** The host is through with the chunk. */
  get isChunkDone(): boolean {
    return this.#cursor >= this.#chunkEnd
  }

  /** The host is through with all that is in use. */
  get isDone(): boolean {
    return this.#cursor >= this.#filled
  }

  /**
   * Takes elements of `size` bytes to `target[at..end)`, until the chunk ends; zeros stand for what
   * its last element lacks. Returns where the next element goes.
   */
  read(size: number, target: Uint8Array, at: number, end: number): number {
    const { data } = this.transfer ?? {}
    const taken = Math.max(0, Math.min(end - at, this.#chunkEnd - this.#cursor))
    for (let i = 0; i < taken; i++) target[at + i] = data?.[this.#cursor + i] ?? 0
    this.#cursor += taken
    const next = nextElement(size, at, taken, end)
    target.fill(0, at + taken, next)
    return next
  }

  /** Puts elements from `source[at..end)` into the chunk; what does not fit of the last is lost. */
  write(size: number, source: Uint8Array, at: number, end: number): number {
    const { data } = this.transfer ?? {}
    const given = Math.max(0, Math.min(end - at, this.#chunkEnd - this.#cursor))
    if (data !== undefined) {
      for (let i = 0; i < given; i++) data[this.#cursor + i] = source[at + i]!
    }
    this.#cursor += given
    return nextElement(size, at, given, end)
  }

  save(): DataPortState {
    return {
      cursor: this.#cursor,
      chunkEnd: this.#chunkEnd,
      filled: this.#filled,
      transfer: this.transfer && { ...this.transfer, data: this.transfer.data.slice() },
    }
  }

  load(state: unknown): void {
    const { cursor, chunkEnd, filled } = parseState<Omit<DataPortState, 'transfer'>>('ide', state, {
      cursor: index,
      chunkEnd: index,
      filled: index,
    })
    const saved = (state as DataPortState).transfer
    const transfer = saved === undefined ? undefined : loadTransfer(saved)
    if (cursor > chunkEnd || chunkEnd > filled || filled > (transfer?.data.length ?? 0)) {
      throw new VmmError('E_STATE', 'the saved state of ide has a data port outside its data')
    }
    this.transfer = transfer
    this.#cursor = cursor
    this.#chunkEnd = chunkEnd
    this.#filled = filled
  }
}

/** Where the element behind `bytes` begins. Each call moves on by one at least. */
function nextElement(size: number, at: number, bytes: number, end: number): number {
  return Math.min(end, at + Math.max(size, Math.ceil(bytes / size) * size))
}
