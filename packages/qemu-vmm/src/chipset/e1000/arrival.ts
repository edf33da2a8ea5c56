import { type FrameBatch, RECORD_FRAME_OFFSET } from 'virtio'

import { passesFilter } from './filter.ts'
import { LEAST_BYTES, checkBytes, isTooLong, untagged } from './frame.ts'
import { type RegisterFile, count } from './register-map.ts'
import { CTRL, CTRL_VME, RCTL, ROC, VET } from './registers.ts'

/** The frame that has arrived last, as the guest is to get it. One object serves all: frames are many. */
export class Arrival {
  bytes: Uint8Array = new Uint8Array(0)
  start = 0
  size = 0
  /** With what follows it on the cable. */
  total = 0
  /** The tag that was taken out of it; -1 for none. */
  tag = -1
  readonly #registers: RegisterFile
  readonly #short: Uint8Array<ArrayBuffer> = new Uint8Array(LEAST_BYTES)

  constructor(registers: RegisterFile) {
    this.#registers = registers
  }

  /** Takes the frame at `at` of a batch; false for one that the guest does not want. */
  take(batch: FrameBatch, at: number): boolean {
    const registers = this.#registers
    const rctl = registers[RCTL >> 2]!
    this.bytes = batch.bytes
    this.start = at + RECORD_FRAME_OFFSET
    this.size = batch.frameBytes(at)
    // Whoever is at a cable fills short frames up: these are no faults, as QEMU counts them.
    if (this.size < LEAST_BYTES) {
      this.#short.fill(0)
      this.#short.set(this.bytes.subarray(this.start, this.start + this.size))
      this.#is(this.#short, LEAST_BYTES)
    }
    if (isTooLong(rctl, this.size)) {
      count(registers, ROC)
      return false
    }
    if (!passesFilter(registers, this.bytes, this.start)) return false
    const isStripped =
      (registers[CTRL >> 2]! & CTRL_VME) !== 0 && this.#word(12) === (registers[VET >> 2]! & 0xffff)
    this.tag = isStripped ? this.#word(14) : -1
    if (isStripped) this.#is(untagged(this.bytes, this.start, this.size), this.size - 4)
    this.total = this.size + checkBytes(rctl)
    return true
  }

  #is(bytes: Uint8Array, size: number): void {
    this.bytes = bytes
    this.start = 0
    this.size = size
  }

  #word(at: number): number {
    return (this.bytes[this.start + at]! << 8) | this.bytes[this.start + at + 1]!
  }
}
