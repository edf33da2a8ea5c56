import type { Device, Latch } from '../device.ts'
import { parseState, u8 } from '../machine/state.ts'

/** Port 0x92: fast reset and the fast A20 bit, which is only remembered. */
export class Port92 implements Device<{ value: number }> {
  readonly #reset: () => void
  readonly #latch: Latch
  #value = 0x02

  constructor(reset: () => void, latch: Latch = () => {}) {
    this.#reset = reset
    this.#latch = latch
    latch(this.#value)
  }

  reset(): void {
    this.#set(0x02)
  }

  save(): { value: number } {
    return { value: this.#value }
  }

  load(state: { value: number }): void {
    this.#set(parseState<{ value: number }>('port92', state, { value: u8 }).value)
  }

  read(): number {
    return this.#value
  }

  write(_offset: number, _size: number, value: number): void {
    const rising = (value & 1) !== 0 && (this.#value & 1) === 0
    this.#set(value & 0xff)
    if (rising) this.#reset()
  }

  #set(value: number): void {
    this.#value = value
    this.#latch(value)
  }
}

/** Reset control register of the PIIX3 at port 0xcf9: a write with bit 2 resets the machine. */
export class ResetControl implements Device<{ value: number }> {
  readonly #reset: (hard: boolean) => void
  #value = 0

  /** `reset` is told whether all of PCI is reset as well, or the processors alone. */
  constructor(reset: (hard: boolean) => void) {
    this.#reset = reset
  }

  reset(): void {
    this.#value = 0
  }

  save(): { value: number } {
    return { value: this.#value }
  }

  load(state: { value: number }): void {
    this.#value = parseState<{ value: number }>('reset-control', state, { value: u8 }).value
  }

  read(): number {
    return this.#value
  }

  write(_offset: number, _size: number, value: number): void {
    // Bit 1 chooses a hard reset and stays; bit 2 acts and reads as 0.
    this.#value = value & 0x02
    if (value & 0x04) this.#reset((value & 0x02) !== 0)
  }
}
