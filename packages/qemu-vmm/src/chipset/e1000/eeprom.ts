import { flag, int, parseState, u32 } from '../../machine/state.ts'

const WORDS = 64
const CHECKSUM_WORD = 0x3f
/** What all words add up to. */
const SUM = 0xbaba
const DEVICE_ID = 0x100e

/** EECD (Intel 8254x manual, 13.4.3). */
const EECD_SK = 0x01
const EECD_CS = 0x02
const EECD_DI = 0x04
const EECD_DO = 0x08
const EECD_GNT = 0x80
const EECD_PRES = 0x100
/** What reads as it was written: the pins, flash write enable, and the request for access. */
const EECD_KEPT = 0x77

/** EERD (13.4.4). */
const EERD_START = 0x01
const EERD_DONE = 0x10
const EERD_ADDRESS_SHIFT = 8
const EERD_DATA_SHIFT = 16

/** A start bit, two bits of opcode, six of address. */
const COMMAND_BITS = 9
const READ_COMMAND = 0b110

/** Words that are neither 0 nor found out: the image of a card as QEMU has it, by number (5.6). */
const IMAGE: Readonly<Record<number, number>> = {
  0x04: 0xffff,
  0x08: 0x3000,
  0x09: 0x1000,
  0x0a: 0x6403,
  0x0b: DEVICE_ID,
  0x0c: 0x8086,
  0x0d: DEVICE_ID,
  0x0e: 0x8086,
  0x0f: 0x3040,
  0x10: 0x0008,
  0x11: 0x2000,
  0x12: 0x7e14,
  0x13: 0x0048,
  0x14: 0x1000,
  0x15: 0x00d8,
  0x17: 0x2700,
  0x18: 0x6cc9,
  0x19: 0x3150,
  0x1a: 0x0722,
  0x1b: 0x040b,
  0x1c: 0x0984,
  0x1e: 0xc000,
  0x1f: 0x0706,
  0x20: 0x1008,
  0x22: 0x0f04,
  0x23: 0x7fff,
  0x24: 0x4d01,
  0x30: 0x0100,
  0x31: 0x4000,
  0x32: 0x121c,
}
/** Words that were never written. */
const ERASED = [0x25, 0x30, 0x33, 0x3f] as const

interface EepromState {
  pins: number
  shiftIn: number
  bitsIn: number
  bitOut: number
  reading: boolean
}

/** The card's memory of 64 words, and the two ways to it. It cannot be written. */
export class Eeprom {
  readonly #words: Uint16Array = new Uint16Array(WORDS)
  #pins = 0
  #shiftIn = 0
  #bitsIn = 0
  /** Number of the bit that is on its way out. */
  #bitOut = 0
  #reading = false

  /** `mac` is the card's address, 6 bytes. */
  constructor(mac: Uint8Array) {
    this.#words.fill(0xffff, ERASED[0], ERASED[1]).fill(0xffff, ERASED[2], ERASED[3])
    for (const [word, value] of Object.entries(IMAGE)) this.#words[Number(word)] = value
    for (let i = 0; i < 3; i++) this.#words[i] = mac[2 * i]! | (mac[2 * i + 1]! << 8)
    const sum = this.#words.subarray(0, CHECKSUM_WORD).reduce((total, word) => total + word, 0)
    this.#words[CHECKSUM_WORD] = SUM - sum
  }

  /** What a read of EERD gives that was written so: the answer to a request is there at once. */
  answer(eerd: number): number {
    if ((eerd & EERD_START) === 0) return eerd
    const rest = (eerd & ~EERD_START) >>> 0
    const word = this.#words[rest >>> EERD_ADDRESS_SHIFT] ?? 0
    return ((word << EERD_DATA_SHIFT) | EERD_DONE | rest) >>> 0
  }

  /** EECD: the pins of the chip. */
  read(): number {
    const word = this.#words[(this.#bitOut >> 4) & (WORDS - 1)]!
    const bit = this.#reading ? (word >> (15 - (this.#bitOut & 15))) & 1 : 1
    return EECD_PRES | EECD_GNT | this.#pins | (bit === 1 ? EECD_DO : 0)
  }

  write(value: number): void {
    const changed = value ^ this.#pins
    this.#pins = value & EECD_KEPT
    if ((value & EECD_CS) === 0) return
    if ((changed & EECD_CS) !== 0) this.#select()
    if ((changed & EECD_SK) === 0) return
    if ((value & EECD_SK) === 0) {
      this.#bitOut = (this.#bitOut + 1) & 0xffff
      return
    }
    this.#shiftIn = ((this.#shiftIn << 1) | ((value & EECD_DI) === 0 ? 0 : 1)) >>> 0
    this.#bitsIn = (this.#bitsIn + 1) & 0xffff
    if (this.#bitsIn !== COMMAND_BITS || this.#reading) return
    // A zero comes before the first bit of a word.
    this.#bitOut = ((this.#shiftIn & (WORDS - 1)) * 16 - 1) & 0xffff
    this.#reading = ((this.#shiftIn >> 6) & 7) === READ_COMMAND
  }

  save(): EepromState {
    return {
      pins: this.#pins,
      shiftIn: this.#shiftIn,
      bitsIn: this.#bitsIn,
      bitOut: this.#bitOut,
      reading: this.#reading,
    }
  }

  load(state: unknown): void {
    const s = parseState<EepromState>('e1000', state, {
      pins: int(0, EECD_KEPT),
      shiftIn: u32,
      bitsIn: int(0, 0xffff),
      bitOut: int(0, 0xffff),
      reading: flag,
    })
    this.#pins = s.pins & EECD_KEPT
    this.#shiftIn = s.shiftIn
    this.#bitsIn = s.bitsIn
    this.#bitOut = s.bitOut
    this.#reading = s.reading
  }

  #select(): void {
    this.#shiftIn = 0
    this.#bitsIn = 0
    this.#bitOut = 0
    this.#reading = false
  }
}
