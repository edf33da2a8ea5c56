import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from '../constants.ts'
import type { QueueLayout } from '../queue/layout.ts'
import type { FakeMemory } from './memory.ts'

/** One buffer of a chain. */
export interface DriverBuffer {
  gpa: number
  length: number
  /** The device writes it. */
  writable?: boolean
}

/** An element of the used ring. */
export interface UsedElement {
  head: number
  written: number
}

/** The descriptor as raw words, for drivers that do not keep to the rules. */
export interface RawDescriptor {
  gpa: number | bigint
  length: number
  flags: number
  next: number
}

/** The driver side of one split virtqueue in a {@link FakeMemory}. */
export class DriverQueue {
  readonly layout: QueueLayout
  readonly #memory: FakeMemory
  readonly #desc: DataView
  readonly #avail: DataView
  readonly #used: DataView
  readonly #eventIdx: boolean
  readonly #free: number[] = []
  /** Descriptors of each outstanding chain, by head. */
  readonly #chains: Map<number, number[]> = new Map()
  availIdx: number
  /** `used.idx` up to which elements were taken. */
  lastUsed: number
  /** `avail.idx` when the device was last considered for a kick. */
  #kicked: number

  /**
   * The rings lie one after another from `gpa`, the used ring at a multiple of `usedAlignment`, which is
   * 4096 for legacy drivers; `startIdx` is where the indices begin.
   */
  constructor(
    memory: FakeMemory,
    options: {
      gpa: number
      size: number
      eventIdx?: boolean
      startIdx?: number
      usedAlignment?: number
    },
  ) {
    const { gpa, size, eventIdx = false, startIdx = 0, usedAlignment = 4 } = options
    const availGpa = gpa + 16 * size
    const usedGpa = Math.ceil((availGpa + 6 + 2 * size) / usedAlignment) * usedAlignment
    this.layout = { size, descGpa: gpa, availGpa, usedGpa }
    this.#memory = memory
    this.#desc = memory.view(gpa, 16 * size)
    this.#avail = memory.view(availGpa, 6 + 2 * size)
    this.#used = memory.view(usedGpa, 6 + 8 * size)
    this.#eventIdx = eventIdx
    memory.write(gpa, new Uint8Array(this.endGpa - gpa))
    this.setAvailIdx(startIdx)
    this.#used.setUint16(2, startIdx, true)
    for (let index = size - 1; index >= 0; index--) this.#free.push(index)
    this.availIdx = startIdx
    this.lastUsed = startIdx
    this.#kicked = startIdx
  }

  /** The first address after the rings. */
  get endGpa(): number {
    return this.layout.usedGpa + 6 + 8 * this.layout.size
  }

  get freeDescriptors(): number {
    return this.#free.length
  }

  /** Makes a chain available; returns its head. With `indirectGpa` the table is there. */
  submit(buffers: readonly DriverBuffer[], indirectGpa?: number): number {
    const own = indirectGpa === undefined ? buffers.length : 1
    if (own === 0 || own > this.#free.length) throw new RangeError('no free descriptors')
    const indices = this.#free.splice(-own)
    if (indirectGpa === undefined) {
      this.#link(this.#desc, buffers, indices)
    } else {
      const table = this.#memory.view(indirectGpa, 16 * buffers.length)
      this.#link(table, buffers, [...buffers.keys()])
      const length = 16 * buffers.length
      this.writeRaw(indices[0]!, {
        gpa: indirectGpa,
        length,
        flags: VIRTQ_DESC_F_INDIRECT,
        next: 0,
      })
    }
    this.#chains.set(indices[0]!, indices)
    this.offer(indices[0]!)
    return indices[0]!
  }

  /** Puts any number into the available ring and publishes it. */
  offer(head: number): void {
    this.#avail.setUint16(4 + 2 * (this.availIdx % this.layout.size), head, true)
    this.availIdx = (this.availIdx + 1) & 0xffff
    this.setAvailIdx(this.availIdx)
  }

  setAvailIdx(value: number): void {
    this.#avail.setUint16(2, value, true)
  }

  /** Writes a descriptor as it is. */
  writeRaw(index: number, raw: RawDescriptor, table: DataView = this.#desc): void {
    table.setBigUint64(16 * index, BigInt(raw.gpa), true)
    table.setUint32(16 * index + 8, raw.length, true)
    table.setUint16(16 * index + 12, raw.flags, true)
    table.setUint16(16 * index + 14, raw.next, true)
  }

  get usedIdx(): number {
    return this.#used.getUint16(2, true)
  }

  /** `used.flags` or, with EVENT_IDX, `avail_event`. */
  get suppression(): number {
    return this.#used.getUint16(this.#eventIdx ? 4 + 8 * this.layout.size : 0, true)
  }

  /** Takes what the device has used since the last call. */
  takeUsed(): UsedElement[] {
    const elements: UsedElement[] = []
    for (; this.lastUsed !== this.usedIdx; this.lastUsed = (this.lastUsed + 1) & 0xffff) {
      const at = 4 + 8 * (this.lastUsed % this.layout.size)
      const head = this.#used.getUint32(at, true)
      elements.push({ head, written: this.#used.getUint32(at + 4, true) })
      this.#free.push(...(this.#chains.get(head) ?? []))
      this.#chains.delete(head)
    }
    return elements
  }

  /** Whether the device wants a kick for what was made available since the last call. */
  needsKick(): boolean {
    const [before, now] = [this.#kicked, this.availIdx]
    this.#kicked = now
    if (!this.#eventIdx) return (this.suppression & VIRTQ_USED_F_NO_NOTIFY) === 0
    return ((now - this.suppression - 1) & 0xffff) < ((now - before) & 0xffff)
  }

  /** Asks for an interrupt when `used.idx` passes this (EVENT_IDX). */
  setUsedEvent(value: number): void {
    this.#avail.setUint16(4 + 2 * this.layout.size, value, true)
  }

  /** Asks for no interrupts at all, or for all (without EVENT_IDX). */
  setInterrupts(wanted: boolean): void {
    this.#avail.setUint16(0, wanted ? 0 : VIRTQ_AVAIL_F_NO_INTERRUPT, true)
  }

  #link(table: DataView, buffers: readonly DriverBuffer[], indices: readonly number[]): void {
    for (const [i, { gpa, length, writable }] of buffers.entries()) {
      const next = indices[i + 1]
      const flags =
        (writable ? VIRTQ_DESC_F_WRITE : 0) | (next === undefined ? 0 : VIRTQ_DESC_F_NEXT)
      this.writeRaw(indices[i]!, { gpa, length, flags, next: next ?? 0 }, table)
    }
  }
}
