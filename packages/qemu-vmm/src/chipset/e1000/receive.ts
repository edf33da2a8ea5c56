import type { FrameBatch } from 'virtio'

import type { DmaMemory } from '../../net/dma.ts'
import { Arrival } from './arrival.ts'
import { bufferBytes, countFrame } from './frame.ts'
import { type RegisterFile, count } from './register-map.ts'
import {
  CAUSE_RXDMT0,
  CAUSE_RXO,
  CAUSE_RXT0,
  MPC,
  RCTL,
  RCTL_EN,
  RDBAH,
  RDBAL,
  RDH,
  RDLEN,
  RDT,
  RNBC,
  STATUS,
  STATUS_LU,
} from './registers.ts'

const DESCRIPTOR_BYTES = 16
/** Status of a descriptor (3.2.3). */
const STATUS_DD = 0x01
const STATUS_EOP = 0x02
const STATUS_IXSM = 0x04
const STATUS_VP = 0x08

/** Puts frames into the guest's descriptors (Intel 8254x manual, 3.2). */
export class Receiver {
  readonly #registers: RegisterFile
  readonly #memory: DmaMemory
  readonly #arrival: Arrival
  readonly #descriptor: Uint8Array = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #word: DataView = new DataView(this.#descriptor.buffer)

  constructor(registers: RegisterFile, memory: DmaMemory) {
    this.#registers = registers
    this.#memory = memory
    this.#arrival = new Arrival(registers)
  }

  /** Whether frames are taken at all, or lost as on a cable to a card that is off. */
  get isOn(): boolean {
    const isUp = (this.#registers[STATUS >> 2]! & STATUS_LU) !== 0
    return isUp && (this.#registers[RCTL >> 2]! & RCTL_EN) !== 0
  }

  /** Descriptors that the guest has given. */
  get free(): number {
    const size = this.#ringSize
    const head = this.#registers[RDH >> 2]!
    const tail = this.#registers[RDT >> 2]!
    if (head >= size || tail >= size) return 0
    return tail >= head ? tail - head : tail + size - head
  }

  /**
   * Takes the frame at `at` of a batch. Returns interrupt causes, 0 for a frame that the guest does not want; -1 when it
   * has to wait for descriptors.
   */
  deliver(batch: FrameBatch, at: number): number {
    const rctl = this.#registers[RCTL >> 2]!
    const frame = this.#arrival
    if (!frame.take(batch, at)) return 0
    const needed = Math.ceil(frame.total / bufferBytes(rctl))
    // As many as it needs the guest can never give.
    if (needed >= this.#ringSize) return this.#overrun()
    if (needed > this.free) return -1
    return this.#store()
  }

  #store(): number {
    const registers = this.#registers
    const { bytes, start, size, total, tag } = this.#arrival
    const buffer = bufferBytes(registers[RCTL >> 2]!)
    const data = bytes.subarray(start, start + size)
    let done = 0
    while (done < total) {
      // Descriptors without a buffer are passed over, so there may be too few after all.
      if (this.free === 0) return this.#overrun()
      const head = registers[RDH >> 2]!
      const at = this.#ringBase + head * DESCRIPTOR_BYTES
      if (!this.#memory.read(at, this.#descriptor)) return this.#overrun()
      const low = this.#word.getUint32(0, true)
      const address = this.#word.getUint32(4, true) * 0x1_0000_0000 + low
      const here = address === 0 ? 0 : Math.min(buffer, total - done)
      // What is not memory takes the frame as a bus does that nobody listens on.
      if (done < data.length) this.#memory.write(address, data.subarray(done, done + here))
      done += here
      const isLast = done >= total
      const status = (isLast ? STATUS_EOP | STATUS_IXSM : 0) | (tag < 0 ? 0 : STATUS_VP)
      if (here > 0) this.#word.setUint16(8, here, true)
      this.#word.setUint16(12, status, true)
      this.#word.setUint16(14, Math.max(0, tag), true)
      this.#memory.write(at + 8, this.#descriptor.subarray(8))
      // The guest looks at this, maybe at this moment: it comes last.
      this.#descriptor[12] = status | STATUS_DD
      this.#memory.write(at + 12, this.#descriptor.subarray(12, 13))
      registers[RDH >> 2] = head + 1 >= this.#ringSize ? 0 : head + 1
    }
    countFrame(registers, bytes, start, size, total)
    const least = this.#ringSize >> (((registers[RCTL >> 2]! >>> 8) & 3) + 1)
    return this.free <= least ? CAUSE_RXT0 | CAUSE_RXDMT0 : CAUSE_RXT0
  }

  #overrun(): number {
    count(this.#registers, RNBC)
    count(this.#registers, MPC)
    return CAUSE_RXO
  }

  get #ringSize(): number {
    return this.#registers[RDLEN >> 2]! / DESCRIPTOR_BYTES
  }

  get #ringBase(): number {
    const low = (this.#registers[RDBAL >> 2]! & ~15) >>> 0
    return this.#registers[RDBAH >> 2]! * 0x1_0000_0000 + low
  }
}
