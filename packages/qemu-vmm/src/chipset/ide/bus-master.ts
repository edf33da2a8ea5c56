import type { GuestMemory } from 'kvm-core'

import { dmaPieces } from '../../machine/dma.ts'
import { parseState, u32, u8 } from '../../machine/state.ts'

/** Bits of the command and status registers (Programming Interface for Bus Master IDE, 2). */
const COMMAND_START = 0x01
const COMMAND_TO_MEMORY = 0x08
const STATUS_ACTIVE = 0x01
const STATUS_ERROR = 0x02
const STATUS_INTERRUPT = 0x04
/** What firmware says of the drives. */
const STATUS_CAPABLE = 0x60

const PRD_BYTES = 8
const PRD_END = 0x8000
/** A table does not cross into another page. */
const TABLE_BYTES = 4096

export interface BusMasterState {
  command: number
  status: number
  table: number
}

/** Guest memory that a transfer goes to or comes from. */
export interface Scattered {
  readonly pieces: Uint8Array[]
  /** For each piece, where it is in guest memory. */
  readonly addresses: number[]
  /** Bytes of all pieces, at most as many as were asked for. */
  readonly length: number
  /** The table ends exactly with the transfer. */
  readonly exact: boolean
}

/** Bus master registers of one channel, and the way from its table to guest memory. */
export class BusMaster {
  readonly memory: GuestMemory
  #command = 0
  #status = 0
  #table = 0
  /** Called when the guest starts the engine. */
  onStart: () => void = () => {}
  /** Whether the function may access memory at all. */
  isEnabled: () => boolean = () => true

  constructor(memory: GuestMemory) {
    this.memory = memory
  }

  get active(): boolean {
    return (this.#status & STATUS_ACTIVE) !== 0
  }

  /** The device has raised its interrupt. */
  interrupted(): void {
    this.#status |= STATUS_INTERRUPT
  }

  /** A transfer is over; `exact` unless the table has more than it took. */
  finished(exact: boolean): void {
    if (exact) this.#status &= ~STATUS_ACTIVE
  }

  /** A transfer met memory that is none. */
  aborted(): void {
    this.#status = (this.#status & ~STATUS_ACTIVE) | STATUS_ERROR
  }

  /**
   * The memory for `length` bytes from the table. Undefined when a part of it, or of the table, is
   * not RAM.
   */
  collect(length: number, toMemory: boolean): Scattered | undefined {
    if (!this.isEnabled()) return undefined
    const { memory } = this
    const pieces: Uint8Array[] = []
    const addresses: number[] = []
    let total = 0
    let exact = false
    const entry = new Uint8Array(PRD_BYTES)
    const view = new DataView(entry.buffer)
    for (let at = 0; at < TABLE_BYTES && total < length; at += PRD_BYTES) {
      if (!memory.contains(this.#table + at, PRD_BYTES)) return undefined
      memory.read(this.#table + at, entry)
      const bytes = view.getUint16(4, true) & 0xfffe || 0x1_0000
      const take = Math.min(bytes, length - total)
      const base = view.getUint32(0, true) & ~1
      if (!dmaPieces(memory, base >>> 0, take, toMemory, pieces, addresses)) return undefined
      total += take
      const isLast = (view.getUint16(6, true) & PRD_END) !== 0
      exact = isLast && take === bytes
      if (isLast) break
    }
    return { pieces, addresses, length: total, exact }
  }

  read(offset: number): number {
    switch (offset) {
      case 0:
        return this.#command
      case 2:
        return this.#status
      case 4:
      case 5:
      case 6:
      case 7:
        return (this.#table >>> ((offset - 4) * 8)) & 0xff
      default:
        return 0xff
    }
  }

  write(offset: number, value: number): void {
    switch (offset) {
      case 0:
        this.#writeCommand(value)
        break
      case 2:
        this.#status =
          (value & STATUS_CAPABLE) |
          (this.#status & STATUS_ACTIVE) |
          (this.#status & ~value & (STATUS_ERROR | STATUS_INTERRUPT))
        break
      case 4:
      case 5:
      case 6:
      case 7: {
        const shift = (offset - 4) * 8
        this.#table = ((this.#table & ~(0xff << shift)) | (value << shift)) & ~3
        this.#table >>>= 0
        break
      }
      default:
        break
    }
  }

  reset(): void {
    this.#command = 0
    this.#status = 0
    this.#table = 0
  }

  save(): BusMasterState {
    return { command: this.#command, status: this.#status, table: this.#table }
  }

  load(state: unknown): void {
    const { command, status, table } = parseState<BusMasterState>('bus-master', state, {
      command: u8,
      status: u8,
      table: u32,
    })
    this.#command = command & (COMMAND_START | COMMAND_TO_MEMORY)
    this.#status = status & (STATUS_CAPABLE | STATUS_INTERRUPT | STATUS_ERROR | STATUS_ACTIVE)
    this.#table = (table & ~3) >>> 0
  }

  #writeCommand(value: number): void {
    const started = (value & COMMAND_START) !== 0
    const before = (this.#command & COMMAND_START) !== 0
    this.#command = value & (COMMAND_START | COMMAND_TO_MEMORY)
    if (started === before) return
    if (!started) {
      this.#status &= ~STATUS_ACTIVE
      return
    }
    this.#status |= STATUS_ACTIVE
    this.onStart()
  }
}
