import { u32, parseState } from '../../machine/state.ts'
import type { VgaRegisters } from './registers.ts'

/** The four planes side by side: a byte of each for one address of the processor. */
export const PLANE_MASKS: Uint32Array = Uint32Array.from({ length: 16 }, (_, bits) => {
  let mask = 0
  for (let plane = 0; plane < 4; plane++) if ((bits >> plane) & 1) mask |= 0xff << (plane * 8)
  return mask >>> 0
})
/** What 16 bits of an address reach in each of four planes. */
const PLANAR_BYTES = 0x4_0000
const WINDOW_BYTES = 0x2_0000

/** Where the window that the guest sees lies, and which bytes of video memory it shows. */
export interface LinearWindow {
  gpa: number
  size: number
  offset: number
}

/**
 * The window at 0xa0000 onto video memory: planes with latches, odd and even bytes as text modes
 * have them, or four planes in a chain, which is plain memory (IBM VGA, "Graphics Controller").
 */
export class VgaPlanes {
  readonly #memory: Uint8Array
  readonly #words: Uint32Array
  readonly #registers: VgaRegisters
  readonly #written: (offset: number, length: number) => void
  #latch = 0
  /** Byte of video memory that the window begins with. */
  bank = 0

  constructor(
    memory: Uint8Array,
    registers: VgaRegisters,
    written: (offset: number, length: number) => void,
  ) {
    this.#memory = memory
    this.#words = new Uint32Array(memory.buffer, memory.byteOffset, PLANAR_BYTES / 4)
    this.#registers = registers
    this.#written = written
  }

  reset(): void {
    this.#latch = 0
    this.bank = 0
  }

  /** Reads one byte at `offset` from 0xa0000. */
  read(offset: number): number {
    const address = this.#address(offset)
    if (address < 0) return 0xff
    const { sequencer, graphics } = this.#registers
    if (sequencer[4]! & 0x08) return this.#memory[address] ?? 0xff
    if (graphics[5]! & 0x10) return this.#memory[this.#oddEven(address)] ?? 0xff
    if (address >= PLANAR_BYTES / 4) return 0xff
    this.#latch = this.#words[address]!
    if ((graphics[5]! & 0x08) === 0) return (this.#latch >>> (graphics[4]! * 8)) & 0xff
    // One bit for each pixel whose colour is the one compared with, in the planes that count.
    let differs = (this.#latch ^ PLANE_MASKS[graphics[2]!]!) & PLANE_MASKS[graphics[7]!]!
    differs |= differs >>> 16
    differs |= differs >>> 8
    return ~differs & 0xff
  }

  /** Writes one byte at `offset` from 0xa0000. */
  write(offset: number, value: number): void {
    const address = this.#address(offset)
    if (address < 0) return
    const { sequencer, graphics } = this.#registers
    const planes = sequencer[2]!
    if (sequencer[4]! & 0x08) {
      if ((planes >> (address & 3)) & 1) this.#store(address, value)
    } else if (graphics[5]! & 0x10) {
      const at = this.#oddEven(address)
      if ((planes >> (at & 3)) & 1) this.#store(at, value)
    } else if (address < PLANAR_BYTES / 4) {
      this.#writePlanes(address, value)
    }
  }

  /** The window as plain memory, when it is nothing else; the size is that of a bank. */
  linearWindow(): LinearWindow | undefined {
    const { sequencer, graphics } = this.#registers
    const isPlain = (sequencer[4]! & 0x08) !== 0 && (sequencer[2]! & 0x0f) === 0x0f
    const map = (graphics[6]! >> 2) & 3
    if (!isPlain || map > 1 || this.bank + 0x1_0000 > this.#memory.length) return undefined
    return { gpa: 0xa_0000, size: 0x1_0000, offset: map === 1 ? this.bank : 0 }
  }

  save(): { latch: number } {
    return { latch: this.#latch }
  }

  load(state: unknown): void {
    this.#latch = parseState<{ latch: number }>('vga', state, { latch: u32 }).latch
  }

  /** The address behind an offset in the window, or -1 where nothing answers. */
  #address(offset: number): number {
    switch ((this.#registers.graphics[6]! >> 2) & 3) {
      case 0:
        return offset < WINDOW_BYTES ? offset : -1
      case 1:
        return offset < 0x1_0000 ? offset + this.bank : -1
      case 2:
        return offset >= 0x1_0000 && offset < 0x1_8000 ? offset - 0x1_0000 : -1
      default:
        return offset >= 0x1_8000 ? offset - 0x1_8000 : -1
    }
  }

  /** Even addresses are in plane 0 or 2, odd ones in 1 or 3. */
  #oddEven(address: number): number {
    const plane = (this.#registers.graphics[4]! & 2) | (address & 1)
    return ((address & ~1) << 1) | plane
  }

  #writePlanes(address: number, value: number): void {
    const { sequencer, graphics } = this.#registers
    const enableSet = PLANE_MASKS[graphics[1]!]!
    const set = PLANE_MASKS[graphics[0]!]!
    let bitMask = graphics[8]!
    let word: number
    switch (graphics[5]! & 3) {
      case 0: {
        const rotated = repeat(rotate(value, graphics[3]! & 7))
        word = (rotated & ~enableSet) | (set & enableSet)
        break
      }
      case 1:
        this.#storeWord(address, this.#latch, PLANE_MASKS[sequencer[2]!]!)
        return
      case 2:
        word = PLANE_MASKS[value & 0x0f]!
        break
      default:
        bitMask &= rotate(value, graphics[3]! & 7)
        word = set
    }
    switch ((graphics[3]! >> 3) & 3) {
      case 1:
        word &= this.#latch
        break
      case 2:
        word |= this.#latch
        break
      case 3:
        word ^= this.#latch
        break
      default:
        break
    }
    const bits = repeat(bitMask)
    this.#storeWord(address, (word & bits) | (this.#latch & ~bits), PLANE_MASKS[sequencer[2]!]!)
  }

  #storeWord(address: number, word: number, planes: number): void {
    this.#words[address] = (this.#words[address]! & ~planes) | (word & planes)
    this.#written(address * 4, 4)
  }

  #store(address: number, value: number): void {
    if (address >= this.#memory.length) return
    this.#memory[address] = value
    this.#written(address, 1)
  }
}

function rotate(value: number, count: number): number {
  return ((value >> count) | (value << (8 - count))) & 0xff
}

function repeat(byte: number): number {
  return Math.imul(byte, 0x0101_0101)
}
