import { flag, int, parseState } from '../../machine/state.ts'

/** Pins in 9346CR (RTL8139C+ data sheet, 5.6), for whom the mode is that of programming. */
const CS = 0x08
const SK = 0x04
const DI = 0x02
const DO = 0x01
const MODE = 0xc0
const PROGRAM = 0x80
const WORDS = 64
const COMMAND_BITS = 9
const READ = 0b110

interface EepromState {
  pins: number
  shiftIn: number
  bitsIn: number
  shiftOut: number
  reading: boolean
}

/** The 93C46 with the card's address, behind 9346CR. It cannot be written. */
export class Eeprom93c46 {
  readonly #words: Uint16Array = new Uint16Array(WORDS)
  #pins = 0
  #shiftIn = 0
  #bitsIn = 0
  #shiftOut = 0
  #reading = false

  constructor(mac: Uint8Array) {
    this.#words.set([0x8129, 0x10ec, 0x8139])
    for (let i = 0; i < 3; i++) this.#words[7 + i] = mac[2 * i]! | (mac[2 * i + 1]! << 8)
  }

  reset(): void {
    this.#pins = 0
    this.#select()
  }

  /** Whether the guest may change the card's configuration. */
  get isUnlocked(): boolean {
    return (this.#pins & MODE) === MODE
  }

  read(): number {
    if ((this.#pins & MODE) !== PROGRAM) return this.#pins
    return (this.#pins & ~DO) | (this.#reading ? (this.#shiftOut >>> 16) & 1 : 1)
  }

  write(value: number): void {
    const before = this.#pins
    this.#pins = value & ~DO
    if ((value & MODE) !== PROGRAM || (value & CS) === 0) return
    if ((before & CS) === 0) this.#select()
    // Bits go in and out with the rising edge.
    if ((value & SK) === 0 || (before & SK) !== 0) return
    if (this.#reading) {
      this.#shiftOut = (this.#shiftOut << 1) & 0x1_ffff
      return
    }
    // A start bit begins it.
    const bit = (value & DI) === 0 ? 0 : 1
    if (this.#bitsIn === 0 && bit === 0) return
    this.#shiftIn = ((this.#shiftIn << 1) | bit) & 0x1ff
    this.#bitsIn++
    if (this.#bitsIn < COMMAND_BITS) return
    this.#bitsIn = 0
    if (this.#shiftIn >> 6 !== READ) return
    this.#reading = true
    // A zero comes before the word.
    this.#shiftOut = this.#words[this.#shiftIn & (WORDS - 1)]!
  }

  save(): EepromState {
    return {
      pins: this.#pins,
      shiftIn: this.#shiftIn,
      bitsIn: this.#bitsIn,
      shiftOut: this.#shiftOut,
      reading: this.#reading,
    }
  }

  load(state: unknown): void {
    const s = parseState<EepromState>('rtl8139', state, {
      pins: int(0, 0xff),
      shiftIn: int(0, 0x1ff),
      bitsIn: int(0, COMMAND_BITS - 1),
      shiftOut: int(0, 0x1_ffff),
      reading: flag,
    })
    this.#pins = s.pins & ~DO
    this.#shiftIn = s.shiftIn
    this.#bitsIn = s.bitsIn
    this.#shiftOut = s.shiftOut
    this.#reading = s.reading
  }

  #select(): void {
    this.#shiftIn = 0
    this.#bitsIn = 0
    this.#shiftOut = 0
    this.#reading = false
  }
}
