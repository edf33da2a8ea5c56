import { bytes, parseState } from '../../machine/state.ts'

const WORDS = 64
const CHECKSUM_WORD = 0x3f
/** What all words add up to. */
const SUM = 0xbaba

/** EERD and EEWR (Intel 82574 data sheet, 10.2.2.4 and 10.2.2.13). */
const START = 0x01
const DONE = 0x02
const ADDRESS_SHIFT = 2
const ADDRESS_MASK = 0x3fff
const DATA_SHIFT = 16

/** Words that are not 0: the image of a card as QEMU has it, by number (6.1); 0 to 2 are the card's address. */
const IMAGE: Readonly<Record<number, number>> = {
  0x03: 0x0420,
  0x04: 0xf746,
  0x05: 0x2010,
  0x06: 0xffff,
  0x07: 0xffff,
  0x0a: 0x026b,
  0x0b: 0x10d3,
  0x0c: 0x8086,
  0x0d: 0x10d3,
  0x0f: 0x8058,
  0x11: 0x2001,
  0x12: 0x7e7c,
  0x13: 0xffff,
  0x14: 0x1000,
  0x15: 0x00c8,
  0x17: 0x2704,
  0x18: 0x6cc9,
  0x19: 0x3150,
  0x1a: 0x070e,
  0x1b: 0x460b,
  0x1c: 0x2d84,
  0x1d: 0x0100,
  0x1e: 0xf000,
  0x1f: 0x0706,
  0x20: 0x6000,
  0x21: 0x0080,
  0x22: 0x0f04,
  0x23: 0x7fff,
  0x24: 0x4f01,
  0x25: 0xc600,
  0x27: 0x20ff,
  0x28: 0x0028,
  0x29: 0x0003,
  0x2d: 0x0003,
  0x2f: 0xffff,
  0x30: 0x0100,
  0x31: 0xc000,
  0x32: 0x121c,
  0x33: 0xc007,
  0x3d: 0x0120,
  0x3e: 0xffff,
}
/** Words that were never written, from the first to the one before the second. */
const ERASED = [0x34, 0x3c] as const

/** The card's memory of 64 words, behind EERD and EEWR; each access is done at once. */
export class Nvm {
  readonly #words: Uint16Array<ArrayBuffer> = new Uint16Array(WORDS)

  /** `mac` is the card's address, 6 bytes. */
  constructor(mac: Uint8Array) {
    this.#words.fill(0xffff, ERASED[0], ERASED[1])
    for (const [word, value] of Object.entries(IMAGE)) this.#words[Number(word)] = value
    for (let i = 0; i < 3; i++) this.#words[i] = mac[2 * i]! | (mac[2 * i + 1]! << 8)
    const sum = this.#words.subarray(0, CHECKSUM_WORD).reduce((total, word) => total + word, 0)
    this.#words[CHECKSUM_WORD] = SUM - sum
  }

  /** What EERD holds after such a write of it. */
  read(eerd: number): number {
    const address = (eerd >>> ADDRESS_SHIFT) & ADDRESS_MASK
    if ((eerd & START) === 0 || address >= WORDS) return address << ADDRESS_SHIFT
    return answer(address, this.#words[address]!)
  }

  /** Writes a word; what EERD holds after such a write of EEWR. */
  write(eewr: number): number {
    const address = (eewr >>> ADDRESS_SHIFT) & ADDRESS_MASK
    const data = eewr >>> DATA_SHIFT
    if ((eewr & START) === 0 || address >= WORDS) {
      return ((data << DATA_SHIFT) | (address << ADDRESS_SHIFT)) >>> 0
    }
    this.#words[address] = data
    return answer(address, data)
  }

  save(): { words: Uint8Array } {
    return { words: new Uint8Array(this.#words.slice().buffer) }
  }

  load(state: unknown): void {
    const { words } = parseState<{ words: Uint8Array }>('e1000e', state, {
      words: bytes(2 * WORDS),
    })
    this.#words.set(new Uint16Array(words.slice().buffer))
  }
}

function answer(address: number, data: number): number {
  return ((data << DATA_SHIFT) | (address << ADDRESS_SHIFT) | DONE) >>> 0
}
