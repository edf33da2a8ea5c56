import type { IoHandler } from '../../device.ts'
import { bytes, parseState } from '../../machine/state.ts'
import type { PciFunction } from './function.ts'

/** PCI 3.0, 6.8.2: capability, then message control, table and pending bits with their BARs. */
const CAP_ID_MSIX = 0x11
const CAP_BYTES = 12
const CONTROL = 2
const CONTROL_MASK_ALL = 0x4000
const CONTROL_ENABLE = 0x8000

const ENTRY_BYTES = 16
const ENTRY_DATA = 8
const ENTRY_CONTROL = 12
const ENTRY_MASKED = 1
const MAX_VECTORS = 128

/** Where things are: the capability, and the pending bits in a BAR of so many bytes that begins with the table. */
export interface MsixLayout {
  place?: number
  pendingAt?: number
  barBytes?: number
}

/** As in QEMU's exclusive BARs. */
const PENDING_AT = 0x800
const BAR_BYTES = 0x1000

export interface MsixState {
  table: Uint8Array
  pending: Uint8Array
}

/** Sends a message; false when it cannot be sent now and must stay pending. */
export type SendMessage = (address: number, data: number) => boolean

/**
 * The MSI-X capability of a function, with table and pending bits in a BAR of their own.
 *
 * A message that is masked, or that the machine holds back while it stands, is a pending bit; it
 * leaves when `flush` is called or the guest unmasks it.
 */
export class Msix {
  readonly vectors: number
  readonly #fn: PciFunction
  readonly #at: number
  readonly #pendingAt: number
  readonly #send: SendMessage
  readonly #table: DataView
  readonly #pending: Uint8Array
  #wasOpen = false
  /** Messages may be others, or masked, from now on. Called before the change. */
  onChange: () => void = () => {}

  /**
   * Adds the capability to `fn`; its BAR `bar` becomes the table's. `vectors`: 1 to 128.
   */
  constructor(
    fn: PciFunction,
    bar: number,
    vectors: number,
    send: SendMessage,
    { place, pendingAt = PENDING_AT, barBytes = BAR_BYTES }: MsixLayout = {},
  ) {
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > MAX_VECTORS) {
      throw new RangeError(`${vectors} MSI-X vectors: there can be 1 to ${MAX_VECTORS}`)
    }
    this.vectors = vectors
    this.#fn = fn
    this.#send = send
    this.#pendingAt = pendingAt
    this.#table = new DataView(new ArrayBuffer(vectors * ENTRY_BYTES))
    this.#pending = new Uint8Array(Math.ceil(vectors / 64) * 8)
    const capability = new DataView(new ArrayBuffer(CAP_BYTES))
    capability.setUint16(CONTROL, vectors - 1, true)
    capability.setUint32(4, bar, true)
    capability.setUint32(8, pendingAt | bar, true)
    this.#at = fn.config.addCapability(CAP_ID_MSIX, new Uint8Array(capability.buffer), place)
    fn.config.allowWrites(this.#at + CONTROL, 2, CONTROL_ENABLE | CONTROL_MASK_ALL)
    fn.config.seal()
    fn.addBar(bar, {
      space: 'mmio',
      size: barBytes,
      access: { min: 4, max: 4 },
      handler: this.#bar,
    })
    this.reset()
  }

  /** Whether the guest uses MSI-X, so that the pin must stay quiet. */
  get enabled(): boolean {
    return (this.#control & CONTROL_ENABLE) !== 0
  }

  /** Signals a vector; one that the function does not have is ignored. */
  trigger(vector: number): void {
    if (!this.enabled || !(vector >= 0 && vector < this.vectors)) return
    if (!this.#open || this.#isMasked(vector) || !this.#sendNow(vector))
      this.#setPending(vector, true)
  }

  /** The message of a vector, as long as nothing changes; undefined when it is masked or pending. */
  message(vector: number): { address: number; data: number } | undefined {
    if (!this.#open || this.#isMasked(vector) || this.#isPending(vector)) return undefined
    return this.#message(vector)
  }

  /** Sends what is pending and no longer masked. */
  flush(): void {
    if (!this.#open) return
    for (let vector = 0; vector < this.vectors; vector++) {
      if (this.#isPending(vector) && !this.#isMasked(vector) && this.#sendNow(vector)) {
        this.#setPending(vector, false)
      }
    }
  }

  /** Forgets that a vector is pending. */
  clearPending(vector: number): void {
    if (vector >= 0 && vector < this.vectors) this.#setPending(vector, false)
  }

  /** Follows a write to the configuration space. */
  configWritten(): void {
    this.onChange()
    const isOpen = this.#open
    if (isOpen && !this.#wasOpen) this.flush()
    this.#wasOpen = isOpen
  }

  reset(): void {
    for (let vector = 0; vector < this.vectors; vector++) {
      const at = vector * ENTRY_BYTES
      for (let word = 0; word < ENTRY_CONTROL; word += 4) this.#table.setUint32(at + word, 0, true)
      this.#table.setUint32(at + ENTRY_CONTROL, ENTRY_MASKED, true)
    }
    this.#pending.fill(0)
    this.#wasOpen = false
  }

  save(): MsixState {
    return { table: new Uint8Array(this.#table.buffer.slice(0)), pending: this.#pending.slice() }
  }

  /** Takes a state back; the configuration space must have been loaded before. */
  load(state: unknown): void {
    const { table, pending } = parseState<MsixState>(`${this.#fn.name} MSI-X`, state, {
      table: bytes(this.#table.byteLength),
      pending: bytes(this.#pending.length),
    })
    new Uint8Array(this.#table.buffer).set(table)
    this.#pending.set(pending)
    this.#wasOpen = this.#open
  }

  readonly #bar: IoHandler = {
    read: (offset) => {
      if (offset < this.#table.byteLength) return this.#table.getUint32(offset & ~3, true)
      const at = offset - this.#pendingAt
      if (at < 0 || at >= this.#pending.length) return 0
      return new DataView(this.#pending.buffer).getUint32(at & ~3, true)
    },
    write: (offset, _size, value) => {
      if (offset >= this.#table.byteLength) return
      this.onChange()
      const vector = Math.floor(offset / ENTRY_BYTES)
      const word = offset & (ENTRY_BYTES - 4)
      // The lowest bits of the address and all but the mask bit of the control are zero.
      const kept = word === 0 ? ~3 : word === ENTRY_CONTROL ? ENTRY_MASKED : -1
      this.#table.setUint32(vector * ENTRY_BYTES + word, value & kept, true)
      if (word === ENTRY_CONTROL) this.#unmasked(vector)
    },
  }

  #unmasked(vector: number): void {
    if (this.#open && this.#isPending(vector) && !this.#isMasked(vector) && this.#sendNow(vector)) {
      this.#setPending(vector, false)
    }
  }

  get #control(): number {
    return this.#fn.config.get16(this.#at + CONTROL)
  }

  /** Enabled, and not masked as a whole. */
  get #open(): boolean {
    return (this.#control & (CONTROL_ENABLE | CONTROL_MASK_ALL)) === CONTROL_ENABLE
  }

  #isMasked(vector: number): boolean {
    return (this.#table.getUint32(vector * ENTRY_BYTES + ENTRY_CONTROL, true) & ENTRY_MASKED) !== 0
  }

  #isPending(vector: number): boolean {
    return (this.#pending[vector >> 3]! & (1 << (vector & 7))) !== 0
  }

  #setPending(vector: number, on: boolean): void {
    const bit = 1 << (vector & 7)
    const before = this.#pending[vector >> 3]!
    this.#pending[vector >> 3] = on ? before | bit : before & ~bit
  }

  #sendNow(vector: number): boolean {
    const { address, data } = this.#message(vector)
    return this.#send(address, data)
  }

  #message(vector: number): { address: number; data: number } {
    const at = vector * ENTRY_BYTES
    const high = this.#table.getUint32(at + 4, true)
    return {
      address: high * 0x1_0000_0000 + this.#table.getUint32(at, true),
      data: this.#table.getUint32(at + ENTRY_DATA, true),
    }
  }
}
