import type { Device, IrqLine } from '../device.ts'
import { flag, parseState, u8 } from '../machine/state.ts'

/** Places of the three parallel ports; the last one ends where the VGA's ports begin. */
export const PARALLEL_PORTS: readonly { base: number; len: number }[] = [
  { base: 0x378, len: 8 },
  { base: 0x278, len: 8 },
  { base: 0x3bc, len: 4 },
]
export const PARALLEL_IRQ = 7

const REG_DATA = 0
const REG_STATUS = 1
const REG_CONTROL = 2

const STATUS_BUSY = 0x80
const STATUS_ACK = 0x40
const STATUS_ONLINE = 0x10
const STATUS_ERROR = 0x08
const STATUS_TIMEOUT = 0x01
/** A printer that waits. Busy and acknowledge are low-active. */
const STATUS_IDLE = STATUS_BUSY | STATUS_ACK | STATUS_ONLINE | STATUS_ERROR

const CONTROL_DIRECTION = 0x20
const CONTROL_INTERRUPT = 0x10
const CONTROL_SELECT = 0x08
const CONTROL_INIT = 0x04
const CONTROL_STROBE = 0x01
/** Bits that are always read. */
const CONTROL_FIXED = 0xc0

export interface ParallelState {
  data: number
  status: number
  control: number
  interrupt: boolean
}

/**
 * A standard parallel port with a printer that takes every byte at once, as QEMU has it without a
 * port of the host: data, status and control registers, no EPP or ECP.
 */
export class ParallelPort implements Device<ParallelState> {
  readonly #irq: IrqLine
  readonly #print: (byte: number) => void
  #data = 0xff
  #status = STATUS_IDLE | STATUS_TIMEOUT
  #control = CONTROL_SELECT | CONTROL_INIT | CONTROL_FIXED
  #interrupt = false

  /** @param print takes a byte when the guest strobes */
  constructor(irq: IrqLine, print: (byte: number) => void) {
    this.#irq = irq
    this.#print = print
  }

  reset(): void {
    this.#data = 0xff
    this.#status = STATUS_IDLE | STATUS_TIMEOUT
    this.#control = CONTROL_SELECT | CONTROL_INIT | CONTROL_FIXED
    this.#setInterrupt(false)
  }

  save(): ParallelState {
    return {
      data: this.#data,
      status: this.#status,
      control: this.#control,
      interrupt: this.#interrupt,
    }
  }

  load(state: ParallelState): void {
    const s = parseState<ParallelState>('parallel', state, {
      data: u8,
      status: u8,
      control: u8,
      interrupt: flag,
    })
    this.#data = s.data
    this.#status = s.status
    this.#control = s.control | CONTROL_FIXED
    this.#setInterrupt(s.interrupt)
  }

  read(offset: number): number {
    switch (offset) {
      case REG_DATA:
        // Nobody drives the lines when they are turned round.
        return (this.#control & CONTROL_DIRECTION) === 0 ? this.#data : 0xff
      case REG_STATUS:
        return this.#readStatus()
      case REG_CONTROL:
        return this.#control
      default:
        return 0xff
    }
  }

  write(offset: number, _size: number, value: number): void {
    if (offset === REG_DATA) this.#data = value & 0xff
    else if (offset === REG_CONTROL) this.#writeControl((value & 0xff) | CONTROL_FIXED)
  }

  /** Each look brings the handshake one step further: acknowledged, then ready. */
  #readStatus(): number {
    const value = this.#status
    this.#setInterrupt(false)
    if ((value & STATUS_BUSY) === 0 && (this.#control & CONTROL_STROBE) === 0) {
      if ((value & STATUS_ACK) !== 0) this.#status &= ~STATUS_ACK
      else this.#status |= STATUS_ACK | STATUS_BUSY
    }
    return value
  }

  #writeControl(value: number): void {
    if ((value & CONTROL_INIT) === 0) this.#status = STATUS_IDLE
    else if ((value & CONTROL_SELECT) !== 0) {
      if ((value & CONTROL_STROBE) !== 0) {
        this.#status &= ~STATUS_BUSY
        if ((this.#control & CONTROL_STROBE) === 0) this.#print(this.#data)
      } else if ((this.#control & CONTROL_INTERRUPT) !== 0) this.#setInterrupt(true)
    }
    this.#control = value
  }

  #setInterrupt(on: boolean): void {
    this.#interrupt = on
    this.#irq.set(on)
  }
}
