import type { Clock, ClockTimer, IoHandler, Stateful } from '../../device.ts'
import { bytes, int, parseState, time, u8 } from '../../machine/state.ts'

/** Registers of the total cost of ownership block (ICH9 data sheet, 13.9). */
const RLD = 0x00
const STATUS_1 = 0x04
const STATUS_2 = 0x06
const CONTROL_1 = 0x08
const CONTROL_2 = 0x0a
const TIMER = 0x12
export const TCO_BYTES = 0x20

const TIMEOUT = 0x0008
const SECOND_TIMEOUT = 0x0002
const STATUS_1_CLEARABLE = 0xffff
const STATUS_2_CLEARABLE = 0x0007
const HALTED = 0x0800
const LOCKED = 0x1000
const TIMER_MASK = 0x03ff
/** One step of the timer. */
const TICK_NS = 600_000_000

export interface TcoState {
  registers: Uint8Array
  reload: number
  /** Guest time of the next expiry; negative while the timer is halted. */
  expiresNs: number
  expired: number
}

/**
 * The watchdog of the ICH9. That it expires shows in its status; it does not reset the machine, as
 * the strap of QEMU's machine (`noreboot`) says.
 */
export class Tco implements Stateful<TcoState>, IoHandler {
  readonly #clock: Clock
  readonly #registers: DataView = new DataView(new ArrayBuffer(TCO_BYTES))
  #timer: ClockTimer | undefined
  #expiresNs = -1
  #reload = 0
  #expired = 0

  constructor(clock: Clock) {
    this.#clock = clock
    this.#powerOn()
  }

  reset(): void {
    this.#stop()
    this.#powerOn()
  }

  save(): TcoState {
    return {
      registers: new Uint8Array(this.#registers.buffer.slice(0)),
      reload: this.#reload,
      expiresNs: this.#expiresNs,
      expired: this.#expired,
    }
  }

  load(state: TcoState): void {
    const { registers, reload, expiresNs, expired } = parseState<TcoState>('tco', state, {
      registers: bytes(TCO_BYTES),
      reload: int(0, TIMER_MASK),
      expiresNs: time,
      expired: u8,
    })
    new Uint8Array(this.#registers.buffer).set(registers)
    this.#reload = reload
    this.#expired = expired
    this.#stop()
    if (expiresNs >= 0) this.#startAt(expiresNs)
  }

  read(offset: number, size: number): number {
    if (offset === RLD && size >= 2) return this.#ticksLeft()
    let value = 0
    for (let i = 0; i < size; i++) {
      const byte = offset + i < TCO_BYTES ? this.#registers.getUint8(offset + i) : 0
      value |= byte << (i * 8)
    }
    return value >>> 0
  }

  write(offset: number, size: number, value: number): void {
    // Registers are bytes and words; a wider access is several.
    for (let i = 0; i < size; i += 2) {
      if (size - i >= 2 && (offset & 1) === 0)
        this.#writeWord(offset + i, (value >>> (i * 8)) & 0xffff)
      else {
        this.#writeByte(offset + i, (value >>> (i * 8)) & 0xff)
        if (size - i >= 2) this.#writeByte(offset + i + 1, (value >>> (i * 8 + 8)) & 0xff)
      }
    }
  }

  #writeByte(offset: number, byte: number): void {
    if (offset >= TCO_BYTES) return
    const word = offset & ~1
    const isStatus = word === STATUS_1 || word === STATUS_2
    const old = isStatus ? 0 : this.#registers.getUint16(word, true)
    const shift = (offset & 1) * 8
    this.#writeWord(word, (old & ~(0xff << shift)) | (byte << shift))
  }

  #writeWord(offset: number, word: number): void {
    if (offset >= TCO_BYTES) return
    const old = this.#registers.getUint16(offset, true)
    const set = (value: number): void => this.#registers.setUint16(offset, value, true)
    switch (offset) {
      case RLD:
        this.#expired = 0
        this.#reload = this.#registers.getUint16(TIMER, true) & TIMER_MASK
        if (!this.#isHalted) this.#start()
        break
      case STATUS_1:
        set(old & ~(word & STATUS_1_CLEARABLE))
        break
      case STATUS_2:
        set(old & ~(word & STATUS_2_CLEARABLE))
        break
      case CONTROL_1:
        set((word & ~LOCKED) | ((old | word) & LOCKED))
        if (this.#isHalted) this.#stop()
        else this.#start()
        break
      case TIMER:
        set(word & TIMER_MASK)
        break
      default:
        set(word)
    }
  }

  get #isHalted(): boolean {
    return (this.#registers.getUint16(CONTROL_1, true) & HALTED) !== 0
  }

  #ticksLeft(): number {
    if (this.#expiresNs < 0) return this.#reload & TIMER_MASK
    const left = Math.ceil((this.#expiresNs - this.#clock.nowNs()) / TICK_NS)
    return Math.max(0, left) & TIMER_MASK
  }

  #start(): void {
    this.#stop()
    // The hardware ignores less than four steps.
    if (this.#reload < 4) return
    this.#startAt(this.#clock.nowNs() + this.#reload * TICK_NS)
  }

  #startAt(expiresNs: number): void {
    this.#expiresNs = expiresNs
    this.#timer = this.#clock.setTimer(expiresNs, () => this.#expire())
  }

  #stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#expiresNs = -1
  }

  #expire(): void {
    this.#timer = undefined
    this.#set(STATUS_1, TIMEOUT)
    if (this.#expired > 0) this.#set(STATUS_2, SECOND_TIMEOUT)
    this.#expired = 1
    this.#start()
  }

  #set(register: number, bits: number): void {
    this.#registers.setUint16(register, this.#registers.getUint16(register, true) | bits, true)
  }

  #powerOn(): void {
    new Uint8Array(this.#registers.buffer).fill(0)
    this.#registers.setUint16(CONTROL_2, 0x0008, true)
    this.#registers.setUint8(0x10, 0x03)
    this.#registers.setUint16(TIMER, 0x0004, true)
    this.#reload = 0
    this.#expired = 0
  }
}
