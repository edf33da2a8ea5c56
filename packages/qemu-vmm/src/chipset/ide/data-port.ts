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

  /** Takes bytes of the chunk; zeros stand for those that it does not have. */
  read(size: number): number {
    const data = this.transfer?.data
    let value = 0
    for (let i = 0; i < size && this.#cursor < this.#chunkEnd; i++) {
      value |= (data?.[this.#cursor++] ?? 0) << (i * 8)
    }
    return value >>> 0
  }

  /** Puts bytes into the chunk; those that do not fit are lost. */
  write(size: number, value: number): void {
    const data = this.transfer?.data
    if (data === undefined) return
    for (let i = 0; i < size && this.#cursor < this.#chunkEnd; i++) {
      data[this.#cursor++] = (value >>> (i * 8)) & 0xff
    }
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
